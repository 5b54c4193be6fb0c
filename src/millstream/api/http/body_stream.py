"""Reading a request body from the socket, never more of it than permitted."""

from starlette.types import Receive

from millstream.api.http.disconnect import ClientGone
from millstream.domain.errors import BadRequest, PayloadTooLarge


class BodyTooLarge(PayloadTooLarge):
    """The request body is larger than permitted"""


def check_declared_length(content_length: bytes, bytes_max: int) -> None:
    """Raise BodyTooLarge when a `Content-Length` says more than `bytes_max`, before anything is read."""
    if not content_length.isdigit():
        raise BadRequest("Content-Length is not a number")
    if len(content_length) > 18 or int(content_length) > bytes_max:
        raise _too_large(bytes_max)


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """Return the whole body. Raises BodyTooLarge as soon as it is longer than `bytes_max`."""
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= bytes_max:
        return body
    chunks = bytearray(body)
    while message.get("more_body", False) and len(chunks) <= bytes_max:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunks += message.get("body", b"")
    if len(chunks) > bytes_max:
        raise _too_large(bytes_max)
    return bytes(chunks)


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {bytes_max} bytes")
