"""One process's application behind its HTTP listener: what a lone server is and what every child is."""

import asyncio
import gc
import socket

from millstream.app import App, build
from millstream.config import Config
from millstream.serving.http import HttpListener
from millstream.serving.readiness import is_ready
from millstream.serving.signals import ShutdownSignals

# Of the time that a shutdown may take: the rest is for draining batches and closing connections to the database.
_REQUESTS_SHARE = 0.8

# Longer than any request takes that does not wait for something.
_ORDINARY_SECONDS = 2.0


class Node:
    """Serves `config` on bound `sockets` from the database at `dsn`."""

    def __init__(self, config: Config, dsn: str, sockets: list[socket.socket]) -> None:
        self._app: App = build(config, dsn)
        self._listener = HttpListener(
            self._app.http, sockets, shutdown_seconds=config.server.shutdown_seconds * _REQUESTS_SHARE
        )

    async def start(self) -> None:
        """Start the application, then accept connections."""
        await self._app.start()
        _spare_the_collector()
        try:
            await self._listener.start()
        except BaseException:
            await self._app.stop()
            raise

    async def is_ready(self) -> bool:
        """Return whether this process can do its work."""
        return await is_ready(self._app.http)

    async def stop(self, signals: ShutdownSignals) -> None:
        """Accept nothing more, finish requests, drain; without waiting once the signals force it."""
        if not await signals.unless_forced(self._finish_requests()):
            self._listener.abort()
        await signals.unless_forced(self._app.stop())

    async def _finish_requests(self) -> None:
        stopping = asyncio.ensure_future(self._listener.stop())
        try:
            await asyncio.wait({stopping}, timeout=_ORDINARY_SECONDS)
            if not stopping.done():
                # What is left are claims that wait for jobs; the engine lets them go.
                await self._app.engine.close()
            await stopping
        finally:
            stopping.cancel()


def _spare_the_collector() -> None:
    # Requests make many small objects and hardly a cycle: at the default thresholds the collector took a
    # twentieth of the server's time on `jobs-create`, mostly looking at what had been there since the start.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
