"""Timestamps on the wire: RFC 3339 in with any offset, UTC with six fractional digits out."""

import re
from datetime import UTC, datetime, timedelta, timezone

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII
)


def format_timestamp(value: datetime) -> str:
    """Return `value` (aware) as UTC with exactly six fractional digits and `Z`. Contract: spooled-jobs 1.5."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat("T", "microseconds")[:26] + "Z"


def format_optional(value: datetime | None) -> str | None:
    """Return `value` as `format_timestamp` does, or None."""
    return None if value is None else format_timestamp(value)


def parse_timestamp(text: str) -> datetime | None:
    """Return the UTC time that `text` spells in RFC 3339, or None when it spells none.

    Zero to nine fractional digits (those past the sixth are cut); no zone means UTC; a time that is not
    within the years 1 to 9999 of UTC is none. Contract: spooled-jobs 1.5.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        zone = UTC
        if sign:
            offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            zone = timezone(-offset if sign == "-" else offset)
        local = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, tzinfo=zone
        )
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
