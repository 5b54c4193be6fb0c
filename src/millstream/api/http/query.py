"""Query strings: read once per request, typed by the reader of each parameter."""

import re
from datetime import datetime
from urllib.parse import parse_qsl

from millstream.api.http.timestamps import parse_timestamp
from millstream.domain import limits
from millstream.domain.errors import BadRequest

_INTEGER = re.compile(r"[+-]?[0-9]+")
# Beyond every bound; more of them would only cost time to read.
_DIGITS_MAX = 30
_WORDS = {"true": True, "1": True, "false": False, "0": False}
_PARAMETERS_MAX = 200


class Query:
    """The parameters of a query string; of a repeated one the last counts, unknown ones are ignored."""

    def __init__(self, query_string: bytes) -> None:
        self._values: dict[str, str] = {}
        if not query_string:
            return
        if len(query_string) > limits.QUERY_STRING_BYTES_MAX:
            raise BadRequest("The query string is too long")
        try:
            pairs = parse_qsl(
                query_string.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_PARAMETERS_MAX,
            )
        except ValueError:
            raise BadRequest("The query string is not valid") from None
        self._values = dict(pairs)

    def text(self, name: str, chars_max: int | None = None) -> str | None:
        """Return the value of `name`, or None when it is absent. Raises BadRequest when it is too long."""
        value = self._values.get(name)
        if value is None:
            return None
        if "\0" in value:
            raise BadRequest(f"{name} must not contain NUL characters")
        if chars_max is not None and len(value) > chars_max:
            raise BadRequest(f"{name} must have at most {chars_max} characters")
        return value

    def clamped(self, name: str, default: int, low: int, high: int) -> int:
        """Return the integer `name`, moved into `low` to `high`. Raises BadRequest when it is none."""
        value = self._values.get(name)
        if value is None:
            return default
        if _INTEGER.fullmatch(value) is None:
            raise BadRequest(f"{name} must be an integer")
        size = int(value.lstrip("+-0")[:_DIGITS_MAX] or "0")
        return min(max(-size if value.startswith("-") else size, low), high)

    def flag(self, name: str) -> bool:
        """Return whether `name` is set to true. Raises BadRequest for other words than true and false."""
        value = self._values.get(name)
        if value is None:
            return False
        if value not in _WORDS:
            raise BadRequest(f"{name} must be true or false")
        return _WORDS[value]

    def timestamp(self, name: str) -> datetime | None:
        """Return the time `name`, or None when it is absent. Raises BadRequest when it is none."""
        value = self._values.get(name)
        if value is None:
            return None
        parsed = parse_timestamp(value)
        if parsed is None:
            raise BadRequest(f"{name} must be an RFC 3339 timestamp")
        return parsed
