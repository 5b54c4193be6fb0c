"""What parent and children say to each other: JSON lines over a socket pair whose end is noticed by both."""

import asyncio
import contextlib
import socket
from pathlib import Path

import msgspec

from millstream.config import Config, Secret

# A line may hold all settings; asyncio's default of 64 KiB is too small for long lists of origins.
_LINE_BYTES_MAX = 4 * 1024 * 1024


class Orders(msgspec.Struct, frozen=True, tag="orders"):
    """The first message to a child: everything it needs to run, listening sockets by descriptor."""

    config: Config
    dsn: str
    socket_fds: list[int]


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """The parent asks how a child is."""

    id: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The child accepts connections."""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A child's answer to the probe `id`: whether it can do its work."""

    id: int
    is_ready: bool


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The child could not start."""

    reason: str


Message = Orders | Probe | Ready | Report | Failed


class Channel:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> "Channel":
        """Take over `end`."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_LINE_BYTES_MAX))

    def send(self, message: Message) -> None:
        """Send without waiting; a peer that is gone is noticed by `receive`."""
        if not self._writer.is_closing():
            self._writer.write(_ENCODER.encode(message) + b"\n")

    async def receive(self) -> Message | None:
        """Wait for the next message; None when the peer is gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return _DECODER.decode(line) if line.endswith(b"\n") else None

    async def close(self) -> None:
        """Send what is waiting and hang up."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _to_text(value: object) -> str:
    # The pair is private to parent and child, so secrets travel in the clear and leave no trace on disk.
    if isinstance(value, Secret):
        return value.reveal()
    return str(value)


def _from_text(kind: type, text: object) -> object:
    if isinstance(text, str) and kind is Secret:
        return Secret(text)
    if isinstance(text, str) and kind is Path:
        return Path(text)
    raise TypeError(f"{kind.__name__} cannot travel between processes")


_ENCODER = msgspec.json.Encoder(enc_hook=_to_text)
_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message, dec_hook=_from_text)
