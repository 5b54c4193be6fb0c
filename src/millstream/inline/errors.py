"""What the functions for inline calls refuse. PostgreSQL has then aborted the caller's transaction, or its savepoint."""

from millstream import drivers


class InlineError(Exception):
    """An inline call was refused"""


class InvalidArgument(InlineError, ValueError):
    """A value is not one that a job or message can have"""


class Unknown(InlineError):
    """There is no such organization or topic"""


class TooLarge(InlineError):
    """A payload, value, key or header is larger than permitted"""


_BY_SQLSTATE: dict[str, type[InlineError]] = {
    "MS400": InvalidArgument,
    "MS404": Unknown,
    "MS413": TooLarge,
    # JSON that PostgreSQL has no text for, such as the escape of a NUL.
    "22P05": InvalidArgument,
    "22P02": InvalidArgument,
    "54001": InvalidArgument,
}


def refusal_of(error: Exception) -> InlineError | None:
    """Return what a driver's error means here, None if it is not about the call's arguments."""
    kind = _BY_SQLSTATE.get(drivers.sqlstate_of(error) or "")
    return None if kind is None else kind(drivers.message_of(error))
