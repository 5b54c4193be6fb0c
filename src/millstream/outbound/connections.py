"""Connections to receivers, kept for the next request to the same one."""

import ssl
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpcore2

KEPT_CONNECTIONS = 64
KEPT_SECONDS = 15.0


_Place = tuple[bytes, bytes, int]


class Connections:
    """Lends a connection to each request, a kept one if there is one.

    The library's own pool walks all of its connections for each request and asks the kernel about each idle one; at
    hundreds of deliveries a second that was two fifths of their cost. How many are open at once is for the callers to
    bound.
    """

    def __init__(self, network: httpcore2.AsyncNetworkBackend, trust: ssl.SSLContext) -> None:
        self._network = network
        self._trust = trust
        self._idle: defaultdict[_Place, list[httpcore2.AsyncHTTPConnection]] = defaultdict(list)
        # In the order in which they became idle, with that time.
        self._idle_since: OrderedDict[httpcore2.AsyncHTTPConnection, tuple[_Place, float]] = OrderedDict()

    @asynccontextmanager
    async def lend(self, origin: httpcore2.Origin) -> AsyncGenerator[httpcore2.AsyncHTTPConnection]:
        """Lend a connection to `origin`; what is whole afterwards is kept."""
        # The library's own is not hashable.
        place = (origin.scheme, origin.host, origin.port)
        connection = await self._take(place) or httpcore2.AsyncHTTPConnection(
            origin, ssl_context=self._trust, keepalive_expiry=KEPT_SECONDS, network_backend=self._network
        )
        try:
            yield connection
        finally:
            if connection.is_idle() and not connection.is_closed():
                await self._keep(place, connection)
            else:
                await connection.aclose()

    async def close(self) -> None:
        """Close those that are kept."""
        while self._idle_since:
            await self._close_oldest()

    async def _take(self, place: _Place) -> httpcore2.AsyncHTTPConnection | None:
        # The one that was used last: the others may grow old.
        while idle := self._idle.get(place):
            connection = idle.pop()
            self._forget(connection)
            # Also true of one that the receiver has closed.
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _keep(self, place: _Place, connection: httpcore2.AsyncHTTPConnection) -> None:
        now = time.monotonic()
        self._idle[place].append(connection)
        self._idle_since[connection] = place, now
        while self._idle_since:
            _, oldest_since = next(iter(self._idle_since.values()))
            if len(self._idle_since) <= KEPT_CONNECTIONS and oldest_since >= now - KEPT_SECONDS:
                break
            await self._close_oldest()

    async def _close_oldest(self) -> None:
        connection, (place, _) = next(iter(self._idle_since.items()))
        self._idle[place].remove(connection)
        self._forget(connection)
        await connection.aclose()

    def _forget(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        place, _ = self._idle_since.pop(connection)
        if not self._idle[place]:
            del self._idle[place]
