"""A line between an engine and PostgreSQL that is cut at chosen moments."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Line:
    """Forwards bytes both ways. A cut drops every connection; PostgreSQL finishes what reached it.

    `lose_answer_to` names a text: when a statement that contains it has been forwarded, the line waits for
    the answer's first bytes, drops them and cuts. `lose_question` cuts before such a statement is forwarded.
    """

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._writers: set[asyncio.StreamWriter] = set()
        self.lose_answer_to: bytes | None = None
        self.lose_question: bytes | None = None
        self.cuts = 0

    def cut(self) -> None:
        """Drop every connection now."""
        self.cuts += 1
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either end closes it."""
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        self._writers |= {writer, server_writer}
        losing = asyncio.Event()

        async def ask() -> None:
            while data := await reader.read(1 << 20):
                if self.lose_question is not None and self.lose_question in data:
                    self.lose_question = None
                    self.cut()
                    return
                if self.lose_answer_to is not None and self.lose_answer_to in data:
                    self.lose_answer_to = None
                    losing.set()
                server_writer.write(data)

        async def answer() -> None:
            while data := await server_reader.read(1 << 20):
                if losing.is_set():
                    self.cut()
                    return
                writer.write(data)

        both = [asyncio.create_task(ask()), asyncio.create_task(answer())]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, server_writer):
            self._writers.discard(end)
            end.transport.abort()


@asynccontextmanager
async def open_line(dsn: str) -> AsyncGenerator[tuple[Line, str]]:
    """Open a line to the server of `dsn`; yields it with the DSN that goes through it."""
    parts = urlsplit(dsn)
    [directory] = parse_qs(parts.query)["host"]
    with tempfile.TemporaryDirectory(prefix="line-") as own:
        name = ".s.PGSQL.5432"
        line = Line(str(Path(directory) / name))
        server = await asyncio.start_unix_server(line.serve, str(Path(own) / name))
        try:
            yield line, dsn.replace(directory, own)
        finally:
            line.cut()
            server.close()
            await server.wait_closed()
