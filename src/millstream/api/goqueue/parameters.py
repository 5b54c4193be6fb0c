"""What stands in paths and queries of this dialect."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from millstream.api.http.endpoint import Request
from millstream.api.http.query import Query
from millstream.api.http.router import UNDECODABLE
from millstream.api.http.timestamps import parse_timestamp
from millstream.domain.duration import parse_seconds
from millstream.domain.errors import BadRequest, NotFound

OFFSET_MAX: Final = 2**63 - 1
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_ZONED: Final = re.compile(r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def topic_of(request: Request) -> str:
    """Return the topic that a path names. Raises NotFound for what no topic can be called."""
    return _named(request, "topic not found")


def group_of(request: Request) -> str:
    """Return the group that a path names. Raises NotFound for what no group can be called."""
    return _named(request, "group not found")


def new_group_of(request: Request) -> str:
    """Return the group that a path names and that is made if there is none; who makes it judges the name."""
    return request.parameters[0]


def _named(request: Request, refusal: str) -> str:
    name = request.parameters[0]
    if UNDECODABLE in name:
        raise NotFound(refusal)
    return name


def whole_number(text: str | None) -> int | None:
    """Return the integer that `text` spells, None when it spells none that 64 bits hold."""
    if text is None or _INTEGER.fullmatch(text) is None:
        return None
    value = int(text)
    return value if -OFFSET_MAX - 1 <= value <= OFFSET_MAX else None


def natural(text: str, refusal: str) -> int:
    """Return the integer of 0 and more that `text` spells. Raises BadRequest with `refusal`."""
    value = whole_number(text)
    if value is None or value < 0:
        raise BadRequest(refusal)
    return value


def optional_natural(query: Query, name: str, default: int, refusal: str) -> int:
    """Return the parameter `name`, `default` without it. Raises BadRequest with `refusal`."""
    text = query.text(name)
    return default if text is None else natural(text, refusal)


def page_size(query: Query, name: str, default: int, most: int, refusal: str) -> int:
    """Return how many to list: 1 and more, cut to `most`. Raises BadRequest with `refusal`."""
    text = query.text(name)
    if text is None:
        return default
    size = whole_number(text)
    if size is None or size <= 0:
        raise BadRequest(refusal)
    return min(size, most)


def point_in_time(text: str | None, refusal: str) -> datetime | None:
    """Return the time that `text` spells in RFC 3339 or in milliseconds since 1970. Raises BadRequest."""
    if text is None:
        return None
    milliseconds = whole_number(text)
    if milliseconds is not None:
        try:
            return _EPOCH + timedelta(milliseconds=milliseconds)
        except OverflowError:
            raise BadRequest(refusal) from None
    moment = zoned_timestamp(text)
    if moment is None:
        raise BadRequest(refusal)
    return moment


def zoned_timestamp(text: str) -> datetime | None:
    """Return the time that `text` spells in RFC 3339; None also without an offset, which would be a guess."""
    return parse_timestamp(text) if _ZONED.search(text) else None


def seconds_of(text: str, refusal: str) -> float:
    """Return the seconds of a duration. Raises BadRequest with `refusal` for what is none."""
    seconds = parse_seconds(text)
    if seconds is None:
        raise BadRequest(refusal)
    return seconds
