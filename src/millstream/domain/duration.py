"""Durations as Go writes them: `1h30m`, `1.5s`, `300ms`. Contract: goqueue-messaging 1.4."""

import re
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    # The micro sign and the Greek letter look alike; both are written.
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_SECOND: Final = _UNITS["s"]
_MINUTE: Final = _UNITS["m"]
_HOUR: Final = _UNITS["h"]
_NANOSECONDS_MAX: Final = 2**63 - 1
# The longest that is written has under 30; the rest is room for fractions and repeated units.
_CHARS_MAX: Final = 128
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")


def parse_duration(text: str) -> int | None:
    """Return the nanoseconds that `text` spells, or None when it spells none.

    An optional sign, then one or more decimal numbers each with its unit, or a bare `0`. Fractions of a nanosecond
    are cut; what 64 bits do not hold is none.
    """
    if len(text) > _CHARS_MAX:
        return None
    unsigned = text[1:] if text[:1] in {"-", "+"} else text
    if unsigned == "0":
        return 0
    if not unsigned:
        return None
    nanoseconds = 0
    place = 0
    while place < len(unsigned):
        part = _PART.match(unsigned, place)
        if part is None or not (part[1] or part[2]):
            return None
        unit = _UNITS[part[3]]
        fraction = part[2] or ""
        nanoseconds += int(part[1] or "0") * unit
        if fraction:
            nanoseconds += int(fraction) * unit // 10 ** len(fraction)
        place = part.end()
    if nanoseconds > _NANOSECONDS_MAX:
        return None
    return -nanoseconds if text[0] == "-" else nanoseconds


def format_duration(nanoseconds: int) -> str:
    """Return the shortest spelling in units down from the hour; below a second in one unit. `0s` for none."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds < _SECOND:
        return _below_a_second(nanoseconds)
    hours, rest = divmod(nanoseconds, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    seconds = f"{_decimal(rest, _SECOND)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def parse_seconds(text: str) -> float | None:
    """Return the seconds that `text` spells, or None when it spells no duration."""
    nanoseconds = parse_duration(text)
    return None if nanoseconds is None else nanoseconds / _SECOND


def format_seconds(seconds: float) -> str:
    """Return the spelling of `seconds`, to the microsecond: what is below it is noise of floating point."""
    return format_duration(round(seconds * 1_000_000) * 1_000)


def _below_a_second(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    for unit in ("ms", "\u00b5s"):
        if nanoseconds >= _UNITS[unit]:
            return f"{_decimal(nanoseconds, _UNITS[unit])}{unit}"
    return f"{nanoseconds}ns"


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}}".rstrip("0")
