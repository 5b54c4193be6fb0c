"""What an answer must be, and what it says."""

from typing import TypeVar

import msgspec

_T = TypeVar("_T")


class UnexpectedAnswer(Exception):
    """A status or body that the request should not have got."""


def expect(expected: int, status: int, body: bytes) -> None:
    """Raise UnexpectedAnswer unless an answer has the expected status."""
    if status != expected:
        raise UnexpectedAnswer(
            f"status {status} instead of {expected}: {body[:300].decode('utf-8', 'replace')}"
        )


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """Read an answer's body. Raises UnexpectedAnswer."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"the answer cannot be read: {error}") from error
