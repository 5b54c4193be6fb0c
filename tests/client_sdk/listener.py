"""A TCP port on loopback whose connections end with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Holds `conversation` with whoever connects, until the `async with` block ends."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    def drop(self) -> None:
        """Abort every connection."""
        for connection in self._connections:
            connection.cancel()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()
        if self._connections:
            await asyncio.wait(self._connections)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._converse(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._conversation(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
