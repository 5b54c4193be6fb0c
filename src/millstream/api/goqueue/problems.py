"""Refusals as this dialect words them. Contract: goqueue-messaging 1.3, goqueue-platform 1.1."""

from typing import Final

import msgspec
from msgspec import Struct

from millstream.api.http.endpoint import Response
from millstream.domain.errors import InvalidField, MillstreamError, RateLimited, Unavailable
from millstream.domain.problems import message_of, problem_of

_RETRY_AFTER: Final = b"retry-after"
_BAD_REQUEST: Final = 400
_UNAUTHENTICATED: Final = 401


class ProblemBody(Struct, frozen=True):
    """The body of every refusal: a text, which is all that some clients show, and the status once more."""

    error: str
    status: int


def problem_response(error: MillstreamError, unrouted: bool = False) -> Response:
    """Return the answer that refuses a request because of `error`."""
    status = status_of(error)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, RateLimited):
        headers = ((_RETRY_AFTER, b"%d" % error.retry_after_seconds),)
    elif isinstance(error, Unavailable):
        headers = ((_RETRY_AFTER, b"1"),)
    elif status == _UNAUTHENTICATED:
        headers = ((b"www-authenticate", b"Bearer"),)
    return Response(status, msgspec.json.encode(ProblemBody(message_of(error), status)), headers)


def status_of(error: MillstreamError) -> int:
    """Return the status of a refusal. Contract: goqueue-messaging 1.2: 400 for whatever is wrong with a request."""
    return _BAD_REQUEST if isinstance(error, InvalidField) else problem_of(type(error)).http_status
