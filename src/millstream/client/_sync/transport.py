"""One HTTP connection pool: encoding, retries, and the mapping of foreign errors."""

import ssl
from collections.abc import Mapping
from functools import partial
from typing import TypeVar

import httpx2
import msgspec
import stamina

from millstream.client.errors import ApiError, ConnectionFailed, InvalidResponse, error_from_answer
from millstream.client.retries import Retries, retry_delay

Answer = TypeVar("Answer")

# Shorter than the 5 s after which common servers close an idle connection, so that a request is not
# written to one that is just being closed.
KEEPALIVE_SECONDS = 4.0

# Failures before the request's first byte: a second try cannot act twice.
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class Transport:
    """Sends requests to one server with one credential. Raises ValueError when `url` is none."""

    def __init__(self, url: str, api_key: str | None, *, timeout_seconds: float, retries: Retries) -> None:
        headers = {"accept": "application/json", "user-agent": "millstream-python"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}"
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        try:
            self._http = httpx2.Client(
                base_url=url,
                headers=headers,
                timeout=timeout_seconds,
                verify=_certificates(url),
                limits=httpx2.Limits(max_connections=100, keepalive_expiry=KEEPALIVE_SECONDS),
            )
        except httpx2.InvalidURL as error:
            raise ValueError(f"{url!r} is no URL: {error}") from error

    def call(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        replay_safe: bool = False,
        wait_seconds: float = 0.0,
    ) -> Answer:
        """Send a request and decode the body of its answer; see `send` for the rest."""
        response = self.send(
            method, path, body=body, params=params, replay_safe=replay_safe, wait_seconds=wait_seconds
        )
        return decode(response, answer)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        replay_safe: bool = False,
        wait_seconds: float = 0.0,
    ) -> httpx2.Response:
        """Send a request, again if `retries` and `replay_safe` allow, and return its successful answer.

        `wait_seconds` is how long the server may hold the request on purpose. Raises ApiError or
        ConnectionFailed, the one of the last try.
        """
        request = self._http.build_request(
            method,
            path,
            params=params,
            content=None if body is None else msgspec.json.encode(body),
            headers=None if body is None else {"content-type": "application/json"},
            timeout=httpx2.Timeout(self._timeout_seconds, read=self._timeout_seconds + wait_seconds),
        )
        if self._retries.attempts <= 1:
            return self._send_once(request)
        for attempt in stamina.retry_context(
            on=partial(retry_delay, replay_safe=replay_safe or method == "GET"),
            attempts=self._retries.attempts,
            timeout=self._retries.timeout_seconds,
            wait_initial=self._retries.wait_initial_seconds,
            wait_max=self._retries.wait_max_seconds,
            wait_jitter=self._retries.wait_initial_seconds,
        ):
            with attempt:
                try:
                    return self._send_once(request)
                except ApiError as error:
                    error.attempt = attempt.num
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _send_once(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = self._http.send(request)
        except httpx2.RequestError as error:
            reason = str(error) or type(error).__name__
            message = f"{request.method} {request.url} got no answer: {reason}"
            raise ConnectionFailed(message, sent=not isinstance(error, _NEVER_SENT)) from error
        if not response.is_success:
            raise error_from_answer(response.status_code, response.headers, response.content)
        return response

    def close(self) -> None:
        """Close every connection."""
        self._http.close()


def _certificates(url: str) -> ssl.SSLContext | bool:
    # Reading the machine's certificates takes up to half a second, and plain HTTP has no use for them. The
    # context in their place trusts nobody, so that nothing can be reached unverified by mistake.
    return True if url.lower().startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def decode(response: httpx2.Response, answer: type[Answer]) -> Answer:
    """Decode a successful answer; raises InvalidResponse when it is not an `answer`."""
    try:
        return msgspec.json.decode(response.content, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        request = response.request
        raise InvalidResponse(f"{request.method} {request.url} answered what is unknown: {error}") from error
