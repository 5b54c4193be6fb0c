"""How far each queue is claimed, remembered while the way to its best job is long.

While any transaction of the database is old, the index entries of claimed jobs cannot be removed, and every claim walks
past all of them. Then claims begin at a position instead, 100 to 200 ms behind what was handed out, so that creations
still under way are seen. What such a claim cannot see (a creation slower than that, a claim that another session
rolled back) is found by whole claims, which go on for about a tenth of the time.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from millstream.domain.job import ClaimedJob
from millstream.store.claims import Position

QueueKey = tuple[int, str]
"""A tenant's id and the name of its queue."""

# A claim of a queue in good order takes less, also on a busy machine.
SLOW_SECONDS = 0.005
SLOW_SECONDS_PER_JOB = 0.0001
# Between whole claims lies nine times the duration of the last one.
WHOLE_CLAIM_PAUSE = 9.0
LAG_SECONDS = 0.1
QUEUES_MAX = 10_000


class _Mark:
    """How far one queue is claimed: the position in use, the one that follows it, and when."""

    __slots__ = ("latest", "next", "position", "rotate_at", "whole_at")

    def __init__(self, first: ClaimedJob, last: ClaimedJob, now: float, whole_at: float) -> None:
        lag = timedelta(seconds=LAG_SECONDS)
        self.position = Position(last.priority, first.created_at - lag)
        self.next = self.position
        self.latest = Position(last.priority, last.created_at)
        self.rotate_at = now + LAG_SECONDS
        self.whole_at = whole_at

    def advance(self, claimed: Sequence[ClaimedJob], now: float) -> None:
        """Take in what was claimed from the position, and move on to where the queue was a moment ago."""
        level = self.latest.level
        since = max((job.created_at for job in claimed if job.priority == level), default=self.latest.since)
        if since > self.latest.since:
            self.latest = Position(level, since)
        if now >= self.rotate_at:
            self.position, self.next = self.next, self.latest
            self.rotate_at = now + LAG_SECONDS


class ClaimPositions:
    """The positions of the queues whose whole claims were slow; it forgets a queue whose claim was quick again."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._marks: dict[QueueKey, _Mark] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def find(self, queue: QueueKey) -> Position | None:
        """Return where the next claim of `queue` begins; None for a whole claim."""
        if not self._marks:
            return None
        mark = self._marks.get(queue)
        return None if mark is None or self._monotonic() >= mark.whole_at else mark.position

    def learn(
        self, queue: QueueKey, start: Position | None, claimed: Sequence[ClaimedJob], *, seconds: float
    ) -> None:
        """Take in what a claim that began at `start` handed out, best first, and how long its statement took."""
        mark = self._marks.get(queue)
        if start is not None:
            if mark is not None:
                mark.advance(claimed, self._monotonic())
        elif seconds <= SLOW_SECONDS + SLOW_SECONDS_PER_JOB * len(claimed):
            self._marks.pop(queue, None)
        else:
            self._note_slow(queue, mark, claimed, seconds)

    def _note_slow(
        self, queue: QueueKey, mark: _Mark | None, claimed: Sequence[ClaimedJob], seconds: float
    ) -> None:
        now = self._monotonic()
        whole_at = now + WHOLE_CLAIM_PAUSE * seconds
        if mark is not None and (not claimed or claimed[-1].priority == mark.latest.level):
            mark.advance(claimed, now)
            mark.whole_at = whole_at
        elif claimed:
            if len(self._marks) >= QUEUES_MAX:
                self._marks.clear()
            level = claimed[-1].priority
            first = next(job for job in claimed if job.priority == level)
            self._marks[queue] = _Mark(first, claimed[-1], now, whole_at)
