"""Enforces the time limits of running handlers with one timer for all of them."""

import asyncio
from collections.abc import Iterable
from math import inf

from millstream.client.worker.running_job import Interruption, RunningJob


class Deadlines:
    """Interrupts the jobs of `running` whose deadline has passed.

    A timer per job would cost more than most jobs: here starting one is a comparison, and the timer is
    moved only when a nearer deadline than any before comes up.
    """

    def __init__(self, running: Iterable[RunningJob]) -> None:
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._next = inf

    def watch(self, job: RunningJob) -> None:
        """Start the clock of `job`."""
        job.deadline = self._loop.time() + job.claimed.timeout_seconds
        if job.deadline < self._next:
            self._set(job.deadline)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, deadline: float) -> None:
        self.close()
        self._next = deadline
        self._timer = None if deadline == inf else self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        nearest = inf
        for job in self._running:
            if job.interruption is not None:
                continue
            if job.deadline <= now:
                job.interrupt(Interruption.TIMEOUT)
            else:
                nearest = min(nearest, job.deadline)
        self._set(nearest)
