"""How far back a periodic scan of due rows looks.

What is due stands at the beginning of its index, behind the entries of all that was due before; while an old
transaction keeps those from being removed, a scan from the beginning walks past every one of them. So most scans
begin a minute ago. Whatever that misses (a writer or a holder of a row that took longer) is found by the whole
scans between them.
"""

import time
from collections.abc import Callable

from millstream.domain.clock import Clock

WHOLE_SECONDS = 2_000_000_000
"""Further back than any row."""
RECENT_SECONDS = 60
WHOLE_SCAN_EVERY = 10
# After a longer pause more may have become due than a minute ago.
PAUSE_SECONDS_MAX = 30.0


class Lookback:
    """Decides for each scan of one kind how far back it looks."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._scans = 0
        self._scanned_at = 0.0
        self._more = True

    def seconds(self) -> int:
        """Return how many seconds back the next scan looks; a steered clock jumps, so there it is always all."""
        now = self._monotonic()
        whole = (
            self._more
            or self._scans % WHOLE_SCAN_EVERY == 0
            or now - self._scanned_at > PAUSE_SECONDS_MAX
            or self._clock.now() is not None
        )
        self._scans += 1
        self._scanned_at = now
        return WHOLE_SECONDS if whole else RECENT_SECONDS

    def found(self, rows: int, *, limit: int) -> None:
        """Take in how many rows a scan found: as many as it may means that older ones may be left."""
        self._more = rows >= limit
