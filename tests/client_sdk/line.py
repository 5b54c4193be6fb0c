"""A TCP line to the live server that loses answers on demand."""

import asyncio
from urllib.parse import urlsplit

from tests.client_sdk.listener import Listener


class Line(Listener):
    """Forwards everything; while `answers_to_lose` is positive, cuts the connection in place of an answer.

    While `is_cut`, it accepts connections only to drop them.
    """

    def __init__(self, target_url: str) -> None:
        super().__init__(self._forward)
        target = urlsplit(target_url)
        self._host, self._port = target.hostname or "127.0.0.1", target.port or 80
        self.answers_to_lose = 0
        self.lost = 0
        self.is_cut = False

    def cut(self) -> None:
        """Drop every connection, and new ones until `is_cut` is false again."""
        self.is_cut = True
        self.drop()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            return
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        directions = [
            asyncio.create_task(_copy(reader, server_writer)),
            asyncio.create_task(self._answer(server_reader, writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            server_writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                self.lost += 1
                return
            writer.write(data)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
