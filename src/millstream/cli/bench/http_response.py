"""Incremental parser for HTTP/1.1 responses, small enough not to be the limit of what it measures."""

from typing import NamedTuple

_HEAD_BYTES_MAX = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_CONTENT_LENGTH = b"\r\ncontent-length:"
_TRANSFER_ENCODING = b"\r\ntransfer-encoding:"
_CONNECTION = b"\r\nconnection:"


class ResponseError(Exception):
    """The bytes received are no HTTP/1.1 response to the request that was sent."""


class Response(NamedTuple):
    """One whole response. `keep_alive` is false when the server will close the connection after it."""

    status: int
    body: bytes
    keep_alive: bool


class ResponseParser:
    """Turns received bytes into responses, one at a time: requests are not pipelined."""

    __slots__ = ("_body_starts_at", "_buffer", "_chunked", "_keep_alive", "_length", "_status")

    def __init__(self) -> None:
        self._buffer = b""
        self._reset()

    def feed(self, data: bytes) -> Response | None:
        """Take the next bytes; return the response once it is whole, else None.

        Raises ResponseError for anything that is not one HTTP/1.1 response with a Content-Length or chunks,
        and for bytes beyond its end.
        """
        buffer = self._buffer + data if self._buffer else data
        if self._body_starts_at < 0 and not self._parse_head(buffer):
            self._buffer = buffer
            return None
        if self._chunked:
            whole = _decode_chunks(buffer, self._body_starts_at)
            if whole is None:
                self._buffer = buffer
                return None
            body, end = whole
        else:
            end = self._body_starts_at + self._length
            if len(buffer) < end:
                self._buffer = buffer
                return None
            body = buffer[self._body_starts_at : end]
        if len(buffer) != end:
            raise ResponseError(f"{len(buffer) - end} bytes beyond the end of the response")
        response = Response(self._status, body, self._keep_alive)
        self._reset()
        return response

    def _reset(self) -> None:
        self._buffer = b""
        self._body_starts_at = -1
        self._length = 0
        self._chunked = False
        self._keep_alive = True
        self._status = 0

    def _parse_head(self, buffer: bytes) -> bool:
        end = buffer.find(_END_OF_HEAD)
        if end < 0:
            if len(buffer) > _HEAD_BYTES_MAX:
                raise ResponseError("the head of the response has no end")
            return False
        head = buffer[:end].lower()
        if not head.startswith(b"http/1.1 ") or not head[9:12].isdigit():
            raise ResponseError(f"not an HTTP/1.1 status line: {bytes(buffer[:60])!r}")
        self._status = int(head[9:12])
        self._body_starts_at = end + 4
        self._keep_alive = _header(head, _CONNECTION) != b"close"
        length = _header(head, _CONTENT_LENGTH)
        if length is not None:
            if not length.isdigit():
                raise ResponseError(f"Content-Length is no number: {length!r}")
            self._length = int(length)
        elif _header(head, _TRANSFER_ENCODING) == b"chunked":
            self._chunked = True
        elif self._status != 204:
            raise ResponseError("neither Content-Length nor chunks: the end of the body is unknown")
        return True


def _header(head: bytes, name: bytes) -> bytes | None:
    start = head.find(name)
    if start < 0:
        return None
    start += len(name)
    end = head.find(b"\r\n", start)
    return (head[start:] if end < 0 else head[start:end]).strip()


def _decode_chunks(buffer: bytes, position: int) -> tuple[bytes, int] | None:
    """Body and end of it, or None while the last chunk or its trailer is missing."""
    parts: list[bytes] = []
    while True:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return None
        size_text = buffer[position:line_end].split(b";", 1)[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError as error:
            raise ResponseError(f"chunk size is no hexadecimal number: {size_text!r}") from error
        start = line_end + 2
        if size == 0:
            return _end_of_trailer(buffer, start, b"".join(parts))
        if len(buffer) < start + size + 2:
            return None
        if buffer[start + size : start + size + 2] != b"\r\n":
            raise ResponseError("a chunk does not end where its size says")
        parts.append(buffer[start : start + size])
        position = start + size + 2


def _end_of_trailer(buffer: bytes, position: int, body: bytes) -> tuple[bytes, int] | None:
    while True:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return None
        if line_end == position:
            return body, line_end + 2
        position = line_end + 2
