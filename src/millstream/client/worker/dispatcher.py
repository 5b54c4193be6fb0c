"""Runs handlers: a buffer of claimed jobs, a limit of running ones."""

import asyncio
import contextvars
import logging
from collections import deque
from math import ceil

import msgspec

from millstream.client._async.client import AsyncClient
from millstream.client.types import ClaimedJob, Complete, Fail, Release, Settlement
from millstream.client.worker.deadlines import Deadlines
from millstream.client.worker.leases import Leases
from millstream.client.worker.running_job import Handler, Interruption, RetryLater, RunningJob
from millstream.client.worker.settlement import Settler, error_text

logger = logging.getLogger("millstream.worker")

# Contract: spooled-jobs 3.11.
CLAIM_JOBS_MAX = 100

# Contract: spooled-jobs 3.12. Checked here, since a server may hang up in the middle of a body that is too long.
RESULT_BYTES_MAX = 1024 * 1024

# Finished jobs that may wait for their settlement before no more are claimed.
BACKLOG_MAX = 2000

# The buffer holds what the worker finishes in this time: enough to bridge a claim's round trip, too
# little to keep jobs from workers that are free.
BUFFER_SECONDS = 0.2

# The pace of work is measured over at least this long.
PACE_SECONDS = 0.05

RETRY_SECONDS_MAX = 86_400


class Dispatcher:
    """Owns every job from its claim to its outcome."""

    def __init__(
        self,
        client: AsyncClient,
        handler: Handler,
        settler: Settler,
        worker_id: str,
        stop: asyncio.Event,
        *,
        concurrency: int,
        prefetch: int,
        lease_seconds: int,
    ) -> None:
        self._client = client
        self._handler = handler
        self._settler = settler
        self._worker_id = worker_id
        self._stop = stop
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._buffer: deque[RunningJob] = deque()
        self._running: set[RunningJob] = set()
        self._deadlines = Deadlines(self._running)
        self._finished = 0
        self._pace_per_second = 0.0
        self._pace_since = (self._loop.time(), 0)
        self.leases = Leases(lease_seconds, self._lose)
        # Jobs asked for by claims that have not been answered yet.
        self.asked = 0
        self.room = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        settler.when_delivered(self._make_room)

    @property
    def stopping(self) -> bool:
        """Whether no more jobs are to be claimed."""
        return self._stop.is_set()

    @property
    def held(self) -> int:
        """How many jobs are running or buffered."""
        return len(self._running) + len(self._buffer)

    @property
    def running(self) -> int:
        """How many handlers are at work."""
        return len(self._running)

    def wanted(self) -> int:
        """How many jobs to claim now; 0 when there is enough, or too little room for a claim to pay."""
        if self.stopping or self._settler.backlog > BACKLOG_MAX:
            return 0
        buffered = min(self._prefetch, ceil(self._pace_per_second * BUFFER_SECONDS) - 1)
        capacity = self._concurrency + max(0, buffered)
        room = capacity - self.held - self.asked
        if self.held + self.asked < self._concurrency or room * 2 >= capacity:
            return max(0, min(CLAIM_JOBS_MAX, room))
        return 0

    def reserve(self, limit: int) -> None:
        """Count `limit` jobs as on their way."""
        self.asked += limit

    def release(self, limit: int) -> None:
        """Count them no more: the claim was answered, and may have brought fewer."""
        self.asked -= limit
        self._make_room()

    def accept(self, jobs: list[ClaimedJob], claimed_at: float) -> None:
        """Take over the jobs of a claim that was sent at `claimed_at` (the event loop's clock)."""
        if not jobs:
            return
        self._measure_pace()
        self.idle.clear()
        lease_ends_at = claimed_at + self.leases.lease_seconds
        renew_at = self._loop.time() + self.leases.lease_seconds / 2
        for claimed in jobs:
            job = RunningJob(claimed, self._client, self._worker_id, lease_ends_at, renew_at)
            self.leases.hold(job)
            self._buffer.append(job)
        self._fill()

    def return_buffered(self) -> None:
        """Give back the jobs that no handler has begun, with all the retries they had."""
        while self._buffer:
            job = self._buffer.popleft()
            self._close(job, Release(job.claimed.id, job.claimed.lease_id))

    async def interrupt_running(self) -> None:
        """Cancel every handler and wait for the ends of those that heed it."""
        tasks = [job.task for job in self._running if job.task is not None]
        for job in list(self._running):
            job.interrupt(Interruption.SHUTDOWN)
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def close(self) -> None:
        """Stop the timer behind the deadlines."""
        self._deadlines.close()

    def _measure_pace(self) -> None:
        now = self._loop.time()
        since, finished = self._pace_since
        if now - since >= PACE_SECONDS:
            pace = (self._finished - finished) / (now - since)
            self._pace_per_second = (self._pace_per_second + pace) / 2
            self._pace_since = (now, self._finished)

    def _fill(self) -> None:
        while self._buffer and len(self._running) < self._concurrency:
            job = self._buffer.popleft()
            self._running.add(job)
            # A context of its own: what one handler leaves in a variable is no business of the next.
            job.task = self._loop.create_task(self._run(job), context=self._context.copy())

    async def _run(self, job: RunningJob) -> None:
        outcome: Settlement | None = None
        try:
            if job.interruption is None:
                job.begun = True
                self._deadlines.watch(job)
                outcome = _completion(job, await self._handler(job))
            else:
                outcome = _interrupted(job)
        except asyncio.CancelledError:
            outcome = _interrupted(job)
        except RetryLater as later:
            delay = max(0, min(ceil(later.seconds), RETRY_SECONDS_MAX))
            outcome = _failure(job, str(later), delay)
        except Exception as error:
            # The outermost frame of foreign code: whatever it is, the server is told.
            logger.warning("job %s failed", job.id, exc_info=error)
            outcome = _failure(job, f"{type(error).__name__}: {error}")
        finally:
            self._running.discard(job)
            self._finished += 1
            if job.interruption is Interruption.LEASE_LOST:
                outcome = None
            self._close(job, outcome)
            self._fill()

    def _close(self, job: RunningJob, outcome: Settlement | None) -> None:
        self.leases.drop(job)
        # The job and its task name each other; without this every job would wait for the cycle collector.
        job.task = None
        if outcome is not None:
            self._settler.add(outcome)
        self._make_room()
        if not self.held:
            self.idle.set()

    def _make_room(self) -> None:
        """Wake the claims that wait for room, when there are any and there is."""
        if not self.room.is_set() and self.wanted():
            self.room.set()

    def _lose(self, job: RunningJob) -> None:
        if job in self._running:
            job.interrupt(Interruption.LEASE_LOST)
        else:
            self._buffer.remove(job)
            self._close(job, None)


def _completion(job: RunningJob, result: object) -> Settlement:
    claimed = job.claimed
    if result is None:
        return Complete(claimed.id, claimed.lease_id)
    try:
        encoded = msgspec.json.encode(result)
    except (TypeError, ValueError, RecursionError) as error:
        return _failure(job, f"the handler's result is no JSON: {error}")
    if len(encoded) > RESULT_BYTES_MAX:
        return _failure(job, f"the handler's result has {len(encoded)} bytes, {RESULT_BYTES_MAX} at most")
    return Complete(claimed.id, claimed.lease_id, msgspec.Raw(encoded))


def _failure(job: RunningJob, text: str, retry_in_seconds: int | None = None) -> Fail:
    return Fail(job.claimed.id, job.claimed.lease_id, error_text(text), retry_in_seconds)


def _interrupted(job: RunningJob) -> Settlement | None:
    match job.interruption:
        case Interruption.TIMEOUT:
            return _failure(job, f"timed out after {job.timeout_seconds} s")
        case Interruption.SHUTDOWN:
            return _failure(job, "the worker stopped before the job was finished", 0)
        case Interruption.LEASE_LOST:
            return None
        case None:
            return _failure(job, "the handler was cancelled")
