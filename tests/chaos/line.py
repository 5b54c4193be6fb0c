"""One keep-alive HTTP connection that tells exactly what was sent and what was answered."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A response that arrived whole."""

    status: int
    headers: dict[str, str]
    body: Any


class Unreachable(Exception):
    """Nothing was sent"""


class Unanswered(Exception):
    """A request was sent and no answer to it arrived"""


class Line:
    """A connection to the server at `port` of this machine, opened when it is first needed."""

    def __init__(self, port: int, api_key: str) -> None:
        self.port = port
        self._api_key = api_key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer. Raises Unreachable or Unanswered."""
        reader, writer = await self._open()
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._api_key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
        )
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        writer.write(f"{head}{more}\r\n".encode() + content)
        try:
            await writer.drain()
            return await self._read(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Unanswered from error

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A connection that the server has closed meanwhile is seen before anything is sent on it.
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                raise Unreachable from error
        return self._streams

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
        }
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, json.loads(content) if content else None)
