"""Keeps the leases of held jobs from running out."""

import asyncio
import logging
from collections.abc import Callable

from millstream.client.errors import ApiError, Conflict, ConnectionFailed, LeaseLost, NotFound
from millstream.client.worker.running_job import RunningJob

logger = logging.getLogger("millstream.worker")

# Renewals under way at once; a worker with thousands of long jobs must not flood the server.
RENEWALS_MAX = 16

# Between tries to renew while the server does not answer.
RETRY_SECONDS = 0.5


class Leases:
    """The leases of every job that a worker holds, running or waiting in its buffer.

    One task renews them, each when half of its time is over. Leases have one length, so the dict, to
    which every new or renewed one is appended, stays in order of when they are due.
    """

    def __init__(self, lease_seconds: int, lost: Callable[[RunningJob], None]) -> None:
        self.lease_seconds = lease_seconds
        self._lost = lost
        self._held: dict[str, RunningJob] = {}
        self._renewals: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def hold(self, job: RunningJob) -> None:
        """Renew the lease of `job` from now on."""
        self._held[job.claimed.lease_id] = job

    def drop(self, job: RunningJob) -> None:
        """Renew it no more."""
        self._held.pop(job.claimed.lease_id, None)

    async def run(self) -> None:
        """Renew what is due, until cancelled."""
        try:
            while True:
                now = self._loop.time()
                first = next(iter(self._held.values()), None)
                if first is None or first.renew_at > now:
                    # What is claimed from now on is due no earlier than half a lease from now.
                    pause = self.lease_seconds / 2
                    await asyncio.sleep(pause if first is None else min(pause, first.renew_at - now))
                elif len(self._renewals) >= RENEWALS_MAX:
                    await asyncio.wait(self._renewals, return_when=asyncio.FIRST_COMPLETED)
                else:
                    self._start(first)
        finally:
            for renewal in self._renewals:
                renewal.cancel()

    def _start(self, job: RunningJob) -> None:
        job.renew_at = self._loop.time() + self.lease_seconds / 2
        self.drop(job)
        self.hold(job)
        renewal = self._loop.create_task(self._renew(job))
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)

    async def _renew(self, job: RunningJob) -> None:
        try:
            async with asyncio.timeout_at(job.lease_ends_at):
                while True:
                    if await self._try(job):
                        return
                    await asyncio.sleep(RETRY_SECONDS)
        except (LeaseLost, Conflict, NotFound, TimeoutError) as error:
            if self._held.get(job.claimed.lease_id) is job:
                logger.warning("lease of job %s is lost: %s", job.id, error or "the server did not answer")
                self.drop(job)
                self._lost(job)

    async def _try(self, job: RunningJob) -> bool:
        """Renew once; False when that is worth another try."""
        if job.claimed.lease_id not in self._held:
            return True
        if job.lease_ends_at > self._loop.time() + self.lease_seconds:
            # Its handler asked for a longer lease; ours would cut it short.
            return True
        try:
            await job.renew(self.lease_seconds)
        except (LeaseLost, Conflict, NotFound):
            raise
        except (ApiError, ConnectionFailed) as error:
            logger.warning("cannot renew the lease of job %s: %s", job.id, error)
            return False
        return True
