"""What the metrics port answers: `/metrics`, `/health`, `/ready`. Contract: spooled-tenancy 13.3."""

import time
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from millstream.config import Secret

_WINDOW_SECONDS = 65.0
_WINDOW_REQUESTS_MAX = 60
_TEXT = b"text/plain; charset=utf-8"
_EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


class MetricsEndpoint:
    """An ASGI application that renders metrics for those who know `token` (None: for everyone)."""

    def __init__(
        self,
        render: Callable[[], bytes],
        is_ready: Callable[[], Awaitable[bool]],
        *,
        token: Secret | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._render = render
        self._is_ready = is_ready
        self._token = token or None
        self._window = _Window(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method, path = str(scope["method"]), str(scope["path"])
        status, content_type, body = await self._answer(method, path, _authorization(scope))
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        if status == 429:
            headers.append((b"retry-after", str(self._window.seconds_left()).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    async def _answer(self, method: str, path: str, authorization: str) -> tuple[int, bytes, bytes]:
        if path not in {"/metrics", "/health", "/ready"}:
            return 404, _TEXT, b"not found\n"
        if method not in {"GET", "HEAD"}:
            return 405, _TEXT, b"method not allowed\n"
        if path == "/health":
            return 200, _TEXT, b"ok\n"
        if path == "/ready":
            return (200, _TEXT, b"ready\n") if await self._is_ready() else (503, _TEXT, b"not ready\n")
        return await self._metrics(authorization)

    async def _metrics(self, authorization: str) -> tuple[int, bytes, bytes]:
        scheme, _, given = authorization.partition(" ")
        if self._token is not None and not (
            scheme.lower() == "bearer" and self._token.matches(given.strip())
        ):
            return 401, _TEXT, b"a bearer token is required\n"
        # Counted after the token, so that a stranger cannot use up the scraper's share.
        if not self._window.admits():
            return 429, _TEXT, b"too many requests\n"
        return 200, _EXPOSITION, self._render()


class _Window:
    """A fixed window of requests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_at = clock()
        self._requests = 0

    def admits(self) -> bool:
        if self._clock() - self._began_at >= _WINDOW_SECONDS:
            self._began_at = self._clock()
            self._requests = 0
        self._requests += 1
        return self._requests <= _WINDOW_REQUESTS_MAX

    def seconds_left(self) -> int:
        return max(1, round(self._began_at + _WINDOW_SECONDS - self._clock()))


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return value.decode("latin-1")
    return ""
