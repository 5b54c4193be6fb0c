"""Rules for single fields, collected so that one answer names every field that broke one."""

import re
from datetime import datetime

from msgspec import Raw, UnsetType

from millstream.api.http.timestamps import parse_timestamp
from millstream.domain import limits
from millstream.domain.errors import BadRequest, FieldProblem, InvalidField

QUEUE_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.\-]{{0,{limits.QUEUE_NAME_CHARS_MAX - 1}}}")
WORKER_ID = re.compile(rf"[A-Za-z0-9._\-]{{1,{limits.REGISTERED_WORKER_ID_CHARS_MAX}}}")
HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._\-]*[A-Za-z0-9_])?")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\-]{1,64}@[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63})+")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class Rules:
    """Checks fields one by one; `enforce` raises InvalidField if any broke a rule."""

    __slots__ = ("_prefix", "problems")

    def __init__(self, prefix: str = "") -> None:
        self.problems: list[FieldProblem] = []
        self._prefix = prefix

    def refuse(self, field: str, message: str, code: str) -> None:
        """Note that `field` broke a rule."""
        self.problems.append(FieldProblem(self._prefix + field, message, code))

    def enforce(self) -> None:
        """Raise InvalidField with everything noted so far, if anything was."""
        if self.problems:
            raise InvalidField(self.problems)

    def integer(self, field: str, value: int | None, low: int, high: int) -> None:
        """Check that `value`, if given, is within `low` to `high`."""
        if value is not None and not low <= value <= high:
            self.refuse(field, f"must be between {low} and {high}", "OUT_OF_RANGE")

    def number(self, field: str, value: float | None, low: float, high: float) -> None:
        """Check that `value`, if given, is within `low` to `high`."""
        if value is not None and not low <= value <= high:
            self.refuse(field, f"must be between {low:g} and {high:g}", "OUT_OF_RANGE")

    def text(self, field: str, value: str | None, low: int, high: int) -> None:
        """Check that `value`, if given, has `low` to `high` characters."""
        if value is not None and not low <= len(value) <= high:
            self.refuse(field, f"must have {low} to {high} characters", "INVALID_LENGTH")

    def queue_name(self, field: str, value: str) -> None:
        """Check the alphabet and length of a queue's name. Contract: spooled-jobs 3.1."""
        if QUEUE_NAME.fullmatch(value) is None:
            self.refuse(
                field,
                "must have 1 to 100 letters, digits, '-', '_' or '.' and not start with '.' or '-'",
                "INVALID_NAME",
            )

    def pattern(self, field: str, value: str | None, pattern: re.Pattern[str], meaning: str) -> None:
        """Check that `value`, if given, matches `pattern` as a whole; `meaning` says what it must be."""
        if value is not None and pattern.fullmatch(value) is None:
            self.refuse(field, meaning, "INVALID_FORMAT")

    def email(self, field: str, value: str | None) -> None:
        """Check the syntax of an e-mail address."""
        if value is not None and (len(value) > 254 or _EMAIL.fullmatch(value) is None):
            self.refuse(field, "must be an e-mail address", "INVALID_FORMAT")

    def timestamp(self, field: str, value: str | None) -> datetime | None:
        """Return the time that `value` spells, if given."""
        if value is None:
            return None
        parsed = parse_timestamp(value)
        if parsed is None:
            self.refuse(field, "must be an RFC 3339 timestamp", "INVALID_FORMAT")
        return parsed

    def json_text(self, field: str, value: Raw | UnsetType, bytes_max: int) -> str | None:
        """Return the JSON text of an opaque value, None when it is absent or null."""
        text = json_text(value)
        if text is not None and size_bytes(value) > bytes_max:
            self.refuse(field, f"must have at most {bytes_max} bytes of JSON", "TOO_LARGE")
        return text


def json_text(value: Raw | UnsetType) -> str | None:
    """Return `value` as text, None when it is absent or null."""
    if isinstance(value, UnsetType):
        return None
    text = str(value, "utf-8")
    return None if text == "null" else text


def size_bytes(value: Raw | UnsetType) -> int:
    """Return how many bytes of JSON `value` has."""
    return 0 if isinstance(value, UnsetType) else len(memoryview(value))


def queue_in_path(name: str) -> str:
    """Return the queue name of a path. Raises BadRequest for what is none. Contract: spooled-jobs 4."""
    if QUEUE_NAME.fullmatch(name) is None:
        raise BadRequest("The queue name is not valid")
    return name


def without_controls(text: str) -> str:
    """Return `text` without control characters other than white space."""
    return text if text.isprintable() else _CONTROLS.sub("", text)
