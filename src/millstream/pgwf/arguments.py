"""What arguments have to be, told before the database is asked."""

import math
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, TypeGuard, cast

from millstream.pgwf.errors import InvalidArgument

# PostgreSQL's integer.
INTEGER_MAX: Final = 2**31 - 1


def require_text(value: object, name: str) -> str:
    """Return a text that is not empty and that PostgreSQL can hold. Raises InvalidArgument."""
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{name} is a text that is not empty")
    if "\0" in value:
        raise InvalidArgument(f"{name} contains NUL, which PostgreSQL's text cannot hold")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name}: {error}") from error
    return value


def require_texts(values: object, name: str) -> list[str]:
    """Return what is not empty of some texts. Raises InvalidArgument, also for what can be read only once."""
    if isinstance(values, str) or not isinstance(values, Collection):
        raise InvalidArgument(f"{name} is a sequence of texts")
    return [require_text(value, name) for value in cast("Collection[object]", values) if value != ""]


def require_capabilities(values: object) -> list[str]:
    """Return what is not empty of some capabilities; there has to be one. Raises InvalidArgument."""
    found = require_texts(values, "capabilities")
    if not found:
        raise InvalidArgument("capabilities has to name at least one")
    return found


def require_positive(value: object, name: str) -> int:
    """Return a whole number from 1 to the largest that PostgreSQL takes. Raises InvalidArgument."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= INTEGER_MAX:
        raise InvalidArgument(f"{name} is a whole number from 1 to {INTEGER_MAX}")
    return value


def require_truth(value: object, name: str) -> bool:
    """Return True or False; nothing else stands for them. Raises InvalidArgument."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} is True or False")
    return value


def require_aware(moment: object, name: str) -> str | None:
    """Return a time as ISO 8601, None for none; it needs its zone. Raises InvalidArgument."""
    return None if moment is None else require_moment(moment, name)


def require_moment(moment: object, name: str) -> str:
    """Return a time as ISO 8601; it needs its zone. Raises InvalidArgument."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidArgument(f"{name} is a datetime with a zone")
    return moment.isoformat()


def require_timeout(seconds: object) -> float:
    """Return how long to wait, infinity for None. Raises InvalidArgument."""
    if seconds is None:
        return math.inf
    if not _is_number(seconds) or not seconds >= 0:
        raise InvalidArgument("timeout is a number of seconds, 0 or more")
    return seconds


def seconds_of(additional: object) -> float:
    """Return a duration (seconds, or a timedelta) in seconds; it has to be positive. Raises InvalidArgument."""
    seconds = additional.total_seconds() if isinstance(additional, timedelta) else additional
    if not _is_number(seconds) or not 0 < seconds <= INTEGER_MAX:
        raise InvalidArgument(f"an extension has more than 0 and at most {INTEGER_MAX} seconds")
    return seconds


def extension_seconds(remaining: float, additional: float) -> int:
    """Return from when on now a lease has to last so that its end moves by `additional` seconds.

    The database counts from now, so what remains is added; a part of a second counts as a whole one.
    """
    return min(math.ceil(max(remaining, 0)) + max(1, math.ceil(additional)), INTEGER_MAX)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
