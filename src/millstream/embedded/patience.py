"""Waiting in a worker thread for something outside this process, which the caller may call off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from millstream.embedded.errors import GaveUp

# The first polls come so soon that a start of a tenth of a second is not lengthened by them; the longer it
# lasts, the fewer they become, since some conditions start a program.
_POLL_SECONDS_MIN = 0.004
_POLL_SECONDS_MAX = 0.1
_POLL_SHARE = 0.05


class Patience:
    """Polls conditions until they hold, their time runs out or `end` is called from another thread."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        """Make the wait under way, and any later one, raise GaveUp."""
        self._ended.set()

    def until(self, condition: Callable[[], bool], *, seconds: float | None) -> bool:
        """True as soon as `condition` holds, False when `seconds` have passed (None: never).

        Raises GaveUp when the caller called it off.
        """
        began_at = time.monotonic()
        while not condition():
            waited_seconds = time.monotonic() - began_at
            if seconds is not None and waited_seconds >= seconds:
                return False
            if self._ended.wait(min(_POLL_SECONDS_MAX, max(_POLL_SECONDS_MIN, waited_seconds * _POLL_SHARE))):
                raise GaveUp("the wait for PostgreSQL was cancelled; open the data directory again")
        return True
