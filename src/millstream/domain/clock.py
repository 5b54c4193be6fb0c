"""Whose time it is: the database's, unless a test steers it."""

from datetime import datetime, timedelta


class Clock:
    """The database decides: statements receive no time and use their own."""

    def now(self) -> datetime | None:
        """Return the time that statements take as theirs, or None for the database's own."""
        return None


class SteeredClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`."""
        self._now += timedelta(seconds=seconds)
