"""Time zones, and what the clocks on their walls show: readings that are skipped, and readings that come twice."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from millstream.domain import limits

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+){0,2}", re.ASCII)
_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
# What may lie beside the zones on a machine and is none of them.
_NO_ZONES = frozenset({"localtime", "posixrules", "posix", "right"})
_SECOND = timedelta(seconds=1)


class TimeZoneError(ValueError):
    """A text that names no time zone."""


@lru_cache(maxsize=1_000)
def find_time_zone(name: str) -> tzinfo:
    """Return the zone that an IANA name, or an offset `+hh:mm` or `-hh:mm`, stands for. Raises TimeZoneError.

    Rules come from the machine, else from the package tzdata. Contract: spooled-jobs 6.3.
    """
    if name == "UTC":
        return UTC
    if len(name) > limits.TIME_ZONE_CHARS_MAX:
        raise TimeZoneError("is not a known time zone")
    if offset := _OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups()
        ahead = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-ahead if sign == "-" else ahead)
    if _NAME.fullmatch(name) is None or name.split("/", 1)[0] in _NO_ZONES:
        raise TimeZoneError("is not a known time zone")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise TimeZoneError("is not a known time zone") from None


def instant_of(reading: datetime, zone: tzinfo) -> datetime:
    """Return when (UTC) a clock in `zone` first shows `reading`, a time without a zone in whole seconds.

    For a reading that is skipped this is the moment in which the clock skips it.
    """
    first = reading.replace(tzinfo=zone, fold=0)
    instant = first.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == reading:
        return instant
    # Before a skip both ways to read the hole in the clock's face lie around the change.
    return _change_between(reading.replace(tzinfo=zone, fold=1).astimezone(UTC), instant, zone)


def last_reading_until(instant: datetime, zone: tzinfo) -> datetime:
    """Return the latest reading that a clock in `zone` has shown for the first time by `instant`.

    That is what it shows now, unless it was set back and repeats itself: then it is the latest before that.
    """
    shown = instant.replace(microsecond=0).astimezone(zone)
    if not shown.fold:
        return shown.replace(tzinfo=None)
    now = shown.astimezone(UTC)
    change = _change_between(shown.replace(fold=0).astimezone(UTC), now, zone)
    return (change - _SECOND).astimezone(zone).replace(tzinfo=None, fold=0)


def _change_between(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the first of the whole seconds after `before`, up to `after`, at which the clock was changed already."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
