"""Columns of a batch as array literals.

The driver can send lists as they are, but asks several questions of each element while it does: 0.3 to 0.7
microseconds for every value, a third of the engine's time on `jobs-engine`. A literal is joined in one go and
read by PostgreSQL just as fast. Statements take these as `:name::text::uuid[]`.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

EMPTY = "{}"


def ints(values: Sequence[int | None]) -> str:
    """Return the literal of an integer array; empty when no value is given, which `unnest` fills up with nulls."""
    if _is_blank(values):
        return EMPTY
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def uuids(values: Sequence[UUID | None]) -> str:
    """Return the literal of a uuid array."""
    if _is_blank(values):
        return EMPTY
    return "{" + ",".join(["NULL" if value is None else value.hex for value in values]) + "}"


def joined(digits: Sequence[str]) -> str:
    """Return the literal of an array of values that are hexadecimal digits already."""
    return "{" + ",".join(digits) + "}"


def flags(values: Sequence[bool]) -> str:
    """Return the literal of a boolean array."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def times(values: Sequence[datetime | None]) -> str:
    """Return the literal of a timestamptz array."""
    if _is_blank(values):
        return EMPTY
    return "{" + ",".join(["NULL" if value is None else f'"{value.isoformat()}"' for value in values]) + "}"


def texts(values: Sequence[str | None]) -> str:
    """Return the literal of a text array; every value is quoted."""
    if _is_blank(values):
        return EMPTY
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'


def _is_blank(values: Sequence[object]) -> bool:
    return values.count(None) == len(values)
