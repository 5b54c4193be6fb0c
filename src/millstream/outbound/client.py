"""Posts to the addresses that users give: bounded in time, in what is read, and in where it goes."""

import asyncio
import re
import ssl
import time
from collections.abc import Sequence

import httpcore2
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.webhook import REFUSED_URL, REQUEST_FAILED
from millstream.domain.webhook_url import place_of
from millstream.outbound.connections import Connections
from millstream.outbound.network import GuardedNetwork, RefusedAddress, Resolve, Resolver

CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 30.0
# How long the rest of an answer is waited for whose status is known: it is only kept to be shown.
BODY_SECONDS = 5.0

_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class Answer(Struct, frozen=True, kw_only=True):
    """What came of a request. `error` is one of a few fixed texts, None after a success.

    `body` is the head of what was answered, without control characters other than white space.
    """

    status_code: int | None
    body: str | None
    error: str | None
    seconds: float

    @property
    def unanswered(self) -> bool:
        """Whether nobody was reached, or nobody answered in time."""
        return self.status_code is None and self.error == REQUEST_FAILED


class WebhookClient:
    """An HTTP client for addresses that users give. Redirects are not followed, proxies not asked.

    `local_http` permits plain http to this machine. `network` and `trust` stand in for the internet in tests.
    """

    def __init__(
        self, *, local_http: bool, network: GuardedNetwork | None = None, trust: ssl.SSLContext | None = None
    ) -> None:
        self._local_http = local_http
        self._resolver = Resolver()
        self._network = network or GuardedNetwork(self._resolve)
        self._trust = trust
        self._connections: Connections | None = None

    @property
    def _resolve(self) -> Resolve:
        return self._resolver.resolve

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        seconds: float = REQUEST_SECONDS,
    ) -> Answer:
        """Post `body` (JSON) to `url` within `seconds`. Never raises for what a receiver does."""
        started_at = time.monotonic()

        def answer(status_code: int | None, text: str | None, error: str | None) -> Answer:
            return Answer(
                status_code=status_code, body=text, error=error, seconds=time.monotonic() - started_at
            )

        if isinstance(place_of(url, local_http=self._local_http), str):
            return answer(None, None, REFUSED_URL)
        try:
            async with asyncio.timeout(seconds):
                status_code, text = await self._post(url, body, headers, min(CONNECT_SECONDS, seconds))
        except RefusedAddress:
            return answer(None, None, REFUSED_URL)
        except (
            TimeoutError,
            OSError,
            # What the library lets through of a broken answer or of an address that it cannot use.
            ValueError,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            httpcore2.UnsupportedProtocol,
        ):
            return answer(None, None, REQUEST_FAILED)
        return answer(status_code, text, None if 200 <= status_code < 300 else f"HTTP {status_code}")

    async def close(self) -> None:
        """Close what is open."""
        if self._connections is not None:
            await self._connections.close()
        self._resolver.close()

    async def _post(
        self, url: str, body: bytes, headers: Sequence[tuple[bytes, bytes]], connect_seconds: float
    ) -> tuple[int, str]:
        if self._connections is None:
            # Once: reading the certificates takes tens of milliseconds.
            self._connections = Connections(self._network, self._trust or httpcore2.default_ssl_context())
        place = httpcore2.URL(url)
        async with (
            self._connections.lend(place.origin) as connection,
            connection.stream(
                "POST",
                place,
                headers=[
                    (b"Content-Type", b"application/json"),
                    (b"User-Agent", b"Spooled-Webhook/1.0"),
                    (b"Accept-Encoding", b"identity"),
                    *headers,
                ],
                content=body,
                # The whole request has its time; the parts need none of their own.
                extensions={"timeout": {"connect": connect_seconds}},
            ) as response,
        ):
            return response.status, cleaned(await _head_of(response))


async def _head_of(response: httpcore2.Response) -> bytes:
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in response.aiter_stream():
                read += chunk
                if len(read) >= limits.WEBHOOK_RESPONSE_BYTES_MAX:
                    break
    except (TimeoutError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
        # The status has been said; what is missing of the text changes nothing.
        pass
    return bytes(read[: limits.WEBHOOK_RESPONSE_BYTES_MAX])


def cleaned(body: bytes) -> str:
    """Return the first characters of `body` without control characters other than white space."""
    return _CONTROLS.sub("", body.decode("utf-8", "replace"))[: limits.WEBHOOK_RESPONSE_CHARS_MAX]
