"""One line of `millstream doctor`."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is, and what to do about it."""

    check: str
    level: Level
    message: str
    remedy: str | None = None


def ok(check: str, message: str) -> Finding:
    """Report that something is as it should be."""
    return Finding(check, Level.OK, message)


def warn(check: str, message: str, remedy: str) -> Finding:
    """Report something that works, but not well."""
    return Finding(check, Level.WARN, message, remedy)


def fail(check: str, message: str, remedy: str | None = None) -> Finding:
    """Report something that keeps the server from working."""
    return Finding(check, Level.FAIL, message, remedy)


def fail_with(check: str, error: Exception) -> Finding:
    """Report an error whose text has the reason in its first line and the remedy below."""
    message, _, remedy = str(error).partition("\n")
    return fail(check, message, remedy or None)
