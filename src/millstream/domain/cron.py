"""Cron expressions: five fields, or six with the seconds first. Contract: spooled-jobs 6.2."""

import copy
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError
from msgspec import Struct

_KEPT_EXPRESSIONS_MAX = 2_000
_TERM = re.compile(r"(\*|([0-9]{1,4}|[A-Z]{3})(?:-([0-9]{1,4}|[A-Z]{3}))?)(?:/([0-9]{1,4}))?", re.ASCII)
_BLANKS = re.compile(r"[ \t]+")
# Any time will do: what is read is copied and given another one.
_SOME_TIME = datetime(2026, 1, 1)  # noqa: DTZ001 - a reading of a clock has no zone


class CronError(ValueError):
    """A text that is no cron expression, or one that no time matches."""


class _Field(Struct, frozen=True):
    # `high` is the highest step too, `highest` the highest number that may be written.
    name: str
    low: int
    high: int
    highest: int
    words: Mapping[str, int] = {}


_SECOND = _Field("second", 0, 59, 59)
_FIELDS: Final = (
    _Field("minute", 0, 59, 59),
    _Field("hour", 0, 23, 23),
    _Field("day of the month", 1, 31, 31),
    _Field(
        "month",
        1,
        12,
        12,
        {
            word: number
            for number, word in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)
        },
    ),
    # Sunday is 0, and 7 too.
    _Field(
        "day of the week",
        0,
        6,
        7,
        {word: number for number, word in enumerate("SUN MON TUE WED THU FRI SAT".split())},
    ),
)


class Cron:
    """A cron expression. It knows no time zones: what it matches are readings of a clock on a wall."""

    __slots__ = ("_search",)

    def __init__(self, search: CronSim) -> None:
        self._search = search

    def readings_after(self, reading: datetime) -> Iterator[datetime]:
        """Yield the matching readings (without a zone, whole seconds) later than `reading`, in their order.

        Ends when 50 years hold none any more.
        """
        search = copy.copy(self._search)
        search.dt = reading.replace(microsecond=0)
        return search


@lru_cache(maxsize=_KEPT_EXPRESSIONS_MAX)
def parse_cron(text: str) -> Cron:
    """Return the expression that `text` spells. Raises CronError, whose words tell what is wrong.

    Each field is a list, separated by commas, of `*`, `a`, `a-b`, each with a step `/n` if wanted; months and
    days of the week may be named. `*/n` is every n-th value from the lowest one on, `a/n` every n-th from a on. When both
    day fields are restricted (do not begin with `*`), either may match.
    """
    parts = _BLANKS.split(text.strip(" \t").upper())
    fields = {5: _FIELDS, 6: (_SECOND, *_FIELDS)}.get(len(parts))
    if fields is None:
        raise CronError("must have five fields, or six with the seconds first")
    written = " ".join(_written_out(field, part) for field, part in zip(fields, parts, strict=True))
    try:
        return Cron(CronSim(written, _SOME_TIME))
    except CronSimError:
        # All else was checked before.
        raise CronError("never matches: no such day is in those months") from None


def _written_out(field: _Field, text: str) -> str:
    """Return a field as a list of its values, behind the star that it begins with."""
    terms = text.split(",")
    values = sorted({value for term in terms for value in _values_of(field, term)})
    listed = ",".join(map(str, values))
    return f"{terms[0]},{listed}" if terms[0].startswith("*") else listed


def _values_of(field: _Field, term: str) -> Iterator[int]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise CronError(f"the {field.name} cannot be read")
    whole, first, last, step_text = match.groups()
    step = 1 if step_text is None else int(step_text)
    if not 1 <= step <= field.high:
        raise CronError(f"the step of the {field.name} must be between 1 and {field.high}")
    if whole == "*":
        start, end = field.low, field.high
    else:
        start = _value_of(field, first)
        end = _value_of(field, last) if last is not None else start if step_text is None else field.high
    if last is not None and end < start:
        raise CronError(f"the range of the {field.name} ends before it begins")
    # The other Sunday stays one where nothing follows it.
    for value in range(start, max(start, end) + 1, step):
        yield 0 if value > field.high else value


def _value_of(field: _Field, text: str) -> int:
    value = field.words.get(text, -1) if text.isalpha() else int(text)
    if not field.low <= value <= field.highest:
        raise CronError(f"the {field.name} is out of range")
    return value
