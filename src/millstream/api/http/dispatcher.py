"""The ASGI callable: from a request to an answer. Contract: spooled-jobs 1, spooled-tenancy 12."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import structlog
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from millstream.api.http.auth import Authenticator
from millstream.api.http.body_stream import BodyTooLarge, check_declared_length, read_body
from millstream.api.http.clients import ClientReader
from millstream.api.http.deadlines import Deadlines
from millstream.api.http.disconnect import ClientGone, is_gone
from millstream.api.http.endpoint import JSON, Auth, Endpoint, Request, Response
from millstream.api.http.headers import (
    CommonHeaders,
    Cors,
    HeaderList,
    accepts_gzip,
    check_api_version,
    gzipped,
    is_json,
    request_id_of,
)
from millstream.api.http.limiter import Limiter
from millstream.api.http.router import Route, Router
from millstream.api.http.settings import HttpSettings
from millstream.domain.errors import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    MillstreamError,
    NotFound,
    RequestTimeout,
    UnsupportedMediaType,
)
from millstream.domain.rate import Standing
from millstream.engine.admin_access import AdminAccess

Observe = Callable[[str, str, int, float], None]
"""Told of every answer: method, path template (empty: no such path), status, seconds."""

Whole = Callable[[bytes, bytes], bool]
"""Sends status line and header lines, then a body, in one piece; False when the client has gone."""

WHOLE_ANSWER = "millstream.answer"
_STATUS_LINES = {
    int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_GZIP_BYTES_MIN = 1024
_CLOSE = (b"connection", b"close")
_NEVER_SERVED = frozenset({"TRACE", "CONNECT"})
_NO_ADMIN = AdminAccess(None)
_log = structlog.get_logger(__name__)


class Dialect(Struct, frozen=True, kw_only=True):
    """The endpoints under one root and what is particular to them.

    `prefix` (several: any of them) claims unknown paths below it. `problem` words a refusal, its flag says that no endpoint was
    found. `is_versioned` minds `X-API-Version`. `admin_access` guards endpoints of the administration; without it
    nobody reaches them. `limiter` counts requests (None: there are no limits).
    """

    prefix: bytes | tuple[bytes, ...]
    router: Router
    problem: Callable[[MillstreamError, bool], Response]
    authenticator: Authenticator
    body_bytes_max: int
    is_versioned: bool = True
    admin_access: AdminAccess = _NO_ADMIN
    limiter: Limiter | None = None
    is_https_forced: bool = False


class Dispatcher:
    """The ASGI callable over `dialects`, asked in order; the last one answers for unknown paths."""

    def __init__(self, dialects: Sequence[Dialect], settings: HttpSettings, observe: Observe) -> None:
        self._dialects = tuple(dialects)
        self._observe = observe
        self._common = CommonHeaders(settings)
        self._cors = Cors(settings)
        self._clients = ClientReader(settings.trusted_proxies)
        self._deadlines = Deadlines(settings.handler_seconds_max)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope: HTTP requests, the lifespan of the server; sockets are refused."""
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await _live(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers)
        method: str = scope["method"]
        dialect, found = self._find(scope.get("raw_path") or scope["path"].encode())
        endpoint = None if found is None else found[0].endpoints.get(method)
        standing: Standing | None = None
        if found is None or endpoint is None:
            response = self._unserved(dialect, None if found is None else found[0], method, headers)
        else:
            peer = scope.get("client")
            request = Request(headers, found[1], scope["query_string"], receive, request_id, peer)
            if not endpoint.hot:
                request.address = self._clients.address_of(peer, headers)
            response = await self._guarded(dialect, endpoint, request)
            if response is None:
                return
            standing = request.standing
        if standing is None and dialect.limiter is not None:
            standing = await dialect.limiter.note(scope.get("client"), headers, counted=method != "OPTIONS")
        hot = endpoint is not None and endpoint.hot
        # A listener that takes an answer as one piece of bytes is spared what a hot answer never has.
        whole: Whole | None = scope["extensions"].get(WHOLE_ANSWER) if hot and "extensions" in scope else None
        if whole is None or response.headers or b"origin" in headers:
            if response.undelivered is not None and await is_gone(receive):
                response.undelivered()
                return
            await self._send(response, headers, request_id, method, hot, send, standing)
        elif (
            not whole(self._head(response, request_id, standing), response.body)
            and response.undelivered is not None
        ):
            response.undelivered()
        template = "" if endpoint is None else endpoint.path
        self._observe(method, template, response.status, time.perf_counter() - started)

    def _find(self, raw_path: bytes) -> tuple[Dialect, tuple[Route, tuple[str, ...]] | None]:
        """Return the route of a path with its dialect, or the dialect that answers for its absence."""
        for dialect in self._dialects:
            found = dialect.router.find_route(raw_path)
            if found is not None:
                return dialect, found
        return self._owner(raw_path), None

    def _unserved(
        self, dialect: Dialect, route: Route | None, method: str, headers: Mapping[bytes, bytes]
    ) -> Response:
        """Return the answer to a request that no endpoint serves."""
        if method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers:
            wanted = headers.get(b"access-control-request-headers", b"")
            return Response(204, headers=tuple(self._cors.preflight_headers(headers[b"origin"], wanted)))
        if route is None:
            refused = NotFound() if method not in _NEVER_SERVED else MethodNotAllowed()
            return dialect.problem(refused, True)
        allow = (b"allow", route.allow)
        if method == "OPTIONS":
            return Response(204, headers=(allow,))
        refusal = dialect.problem(MethodNotAllowed(), True)
        return Response(refusal.status, refusal.body, (allow,), refusal.content_type)

    def _owner(self, raw_path: bytes) -> Dialect:
        # An encoded prefix is still below it.
        path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
        for dialect in self._dialects:
            if path.startswith(dialect.prefix):
                return dialect
        return self._dialects[-1]

    async def _guarded(self, dialect: Dialect, endpoint: Endpoint, request: Request) -> Response | None:
        """Return the answer of `endpoint`, whatever happens in it; None when nobody waits for one."""
        # Asking for the running loop is a system call each time (Python 3.11), for the task of a known loop it is not.
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._deadlines.start(task, loop)
        timed_out = False
        try:
            response = await _answer(dialect, endpoint, request)
        except MillstreamError as error:
            response = dialect.problem(error, False)
            if isinstance(error, BodyTooLarge):
                response = _closing(response)
        except ClientGone:
            return None
        except asyncio.CancelledError:
            if not self._deadlines.finish(task):
                raise
            timed_out = True
            response = _closing(dialect.problem(RequestTimeout(), False))
        except Exception:  # noqa: BLE001 - the outermost frame of a request
            _log.exception("request_failed", path=endpoint.path, request_id=request.request_id.decode())
            response = dialect.problem(InternalError(), False)
        finally:
            if not timed_out:
                self._deadlines.finish(task)
        return response

    def _head(self, response: Response, request_id: bytes, standing: Standing | None) -> bytes:
        return b"%b%bx-request-id: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (
            _STATUS_LINES[response.status],
            self._common.block(standing),
            request_id,
            response.content_type,
            len(response.body),
        )

    async def _send(
        self,
        response: Response,
        request_headers: Mapping[bytes, bytes],
        request_id: bytes,
        method: str,
        hot: bool,
        send: Send,
        standing: Standing | None,
    ) -> None:
        body = response.body
        headers: HeaderList = [
            *self._common.current(standing),
            *response.headers,
            (b"x-request-id", request_id),
        ]
        if len(body) > _GZIP_BYTES_MIN and not hot:
            headers.append((b"vary", b"Accept-Encoding"))
            if accepts_gzip(request_headers.get(b"accept-encoding", b"")):
                body = gzipped(body)
                headers.append((b"content-encoding", b"gzip"))
        if body:
            headers.append((b"content-type", response.content_type))
        if response.status != 204:
            headers.append((b"content-length", b"%d" % len(body)))
        if b"origin" in request_headers and method != "OPTIONS":
            headers += self._cors.answer_headers(request_headers[b"origin"])
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def _answer(dialect: Dialect, endpoint: Endpoint, request: Request) -> Response:
    headers = request.headers
    version = headers.get(b"x-api-version")
    if version is not None and dialect.is_versioned:
        check_api_version(version)
    if dialect.is_https_forced and headers.get(b"x-forwarded-proto", b"").strip().lower() != b"https":
        raise BadRequest("HTTPS is required")
    declared = headers.get(b"content-length")
    bytes_max = endpoint.body_bytes_max or dialect.body_bytes_max
    if declared is not None:
        check_declared_length(declared, bytes_max)
    if dialect.limiter is not None:
        await dialect.limiter.let_in(request, dialect.authenticator if endpoint.auth is Auth.BEARER else None)
    elif endpoint.auth is Auth.BEARER:
        principal = dialect.authenticator.known(headers)
        request.principal = principal or await dialect.authenticator.authenticate(headers)
    if endpoint.auth is Auth.ADMIN:
        await dialect.admin_access.check(headers.get(b"x-admin-key"), request.address)
    if endpoint.body is not None:
        body = await read_body(request.receive, bytes_max)
        if body:
            content_type = headers.get(b"content-type")
            if content_type is not None and content_type != JSON and not is_json(content_type):
                raise UnsupportedMediaType
            if headers.get(b"content-encoding", b"identity") != b"identity":
                raise UnsupportedMediaType("Encoded bodies are not read")
        request.body = body
    return await endpoint.handler(request)


def _closing(response: Response) -> Response:
    # What is left of the request would be read as the next one's beginning, or waited for in vain.
    return Response(response.status, response.body, (*response.headers, _CLOSE), response.content_type)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
