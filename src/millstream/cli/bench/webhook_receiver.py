"""A receiver of webhooks that is content with everything, small enough not to be the limit of what it measures."""

import asyncio
from collections.abc import Callable
from typing import cast

_END_OF_HEAD = b"\r\n\r\n"
_CONTENT_LENGTH = b"\r\ncontent-length:"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nthanks"


class ReceiverConnection(asyncio.Protocol):
    """One connection of a sender; `received` is called for each whole request."""

    def __init__(self, received: Callable[[], None]) -> None:
        self._received = received
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := _end_of_request(self._buffer)) is not None:
            self._buffer = self._buffer[end:]
            self._received()
            if self._transport is not None:
                self._transport.write(_ANSWER)


def _end_of_request(buffer: bytes) -> int | None:
    """Where the first request in `buffer` ends; None while it is not whole."""
    head_ends_at = buffer.find(_END_OF_HEAD)
    if head_ends_at < 0:
        return None
    _, found, rest = buffer[:head_ends_at].lower().partition(_CONTENT_LENGTH)
    length = int(rest.partition(b"\r\n")[0]) if found else 0
    end = head_ends_at + len(_END_OF_HEAD) + length
    return end if end <= len(buffer) else None
