"""One ASGI application behind listening sockets, inside a loop that is already running."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from millstream.serving.http_protocol import HttpProtocol

# Longer than the minute of most proxies and load balancers: the side that waits shorter should be the one that
# closes, or a request meets a connection that is just being closed.
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
# A tick is a tenth of a second.
_TICKS_BETWEEN_LOOKS = 20


class HttpListener:
    """Serves `application` on bound `sockets`, which it owns from `start` on."""

    def __init__(
        self, application: ASGIApp, sockets: list[socket.socket], *, shutdown_seconds: float
    ) -> None:
        self._sockets = sockets
        self._server = _Server(
            uvicorn.Config(
                application,
                http=HttpProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                # Its lines on every start and stop say what ours say.
                log_level="warning",
                access_log=False,
                server_header=False,
                # Who is behind a proxy is the application's question; a header must not change an address unseen.
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(shutdown_seconds)),
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; returns when the first connection can be accepted. Raises OSError."""
        self._serving = asyncio.create_task(self._server.serve(self._sockets), name="http-listener")
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait({self._serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Accept nothing more, answer what was begun (within `shutdown_seconds`), close every connection."""
        self._server.should_exit = True
        if self._serving is not None:
            # Whoever gives up waiting calls `abort`, which makes it end by itself.
            await asyncio.shield(self._serving)

    def close_overdue(self, now: float) -> None:
        """Close the connections that at `now`, of the loop's clock, have waited too long for a request.

        It happens by itself every few seconds.
        """
        self._server.close_overdue(now)

    def abort(self) -> None:
        """Make a `stop` that is under way give up on requests that are still running."""
        self._server.force_exit = True
        for running in list(self._server.server_state.tasks):
            running.cancel()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling: signals are the process's concern, not a listener's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # The first tick would fill these in, but the loop may hand the first request over before it.
        await self.on_tick(0)
        self.accepting.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_BETWEEN_LOOKS == 0:
            self.close_overdue(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def close_overdue(self, now: float) -> None:
        for connection in cast("set[HttpProtocol]", self.server_state.connections).copy():
            connection.close_if_overdue(now)
