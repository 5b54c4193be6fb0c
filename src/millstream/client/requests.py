"""The parts of requests that need no connection: bodies, query strings, paths, chunks."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar
from urllib.parse import quote

Item = TypeVar("Item")

# Contract: spooled-jobs 3.9 and 3.8; the settle extension.
BULK_ITEMS_MAX = 100
STATUS_IDS_MAX = 100
SETTLE_ITEMS_MAX = 1000


def body_of(**fields: object) -> dict[str, object]:
    """The fields that are given: None means "use the default" and is left out."""
    return {name: value for name, value in fields.items() if value is not None}


def query_of(**fields: str | int | bool | datetime | None) -> dict[str, str]:
    """The query parameters that are given, as text."""
    return {name: _query_text(value) for name, value in fields.items() if value is not None}


def _query_text(value: str | int | bool | datetime) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return instant(value).isoformat()
        case _:
            return str(value)


def instant(value: datetime) -> datetime:
    """`value` in UTC; raises ValueError when it has no time zone, since nobody can tell which was meant."""
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone; use datetime.now(UTC) or .astimezone()")
    return value.astimezone(UTC)


def optional_instant(value: datetime | None) -> datetime | None:
    """`instant` for a time that may be absent."""
    return None if value is None else instant(value)


def segment(text: str) -> str:
    """`text` as one segment of a path."""
    return quote(text, safe="")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut `items` into lists of `size`, the last one shorter; nothing for an empty input."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def has_more(headers: Mapping[str, str]) -> bool:
    """Whether a list goes on after this page. Contract: spooled-jobs 1.7."""
    return headers.get("x-has-more", "").lower() == "true"
