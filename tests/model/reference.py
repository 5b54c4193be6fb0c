"""What the contract says about jobs, as plain Python: the yardstick that the engine is held against."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

DEFAULT_MAX_RETRIES = 3


class Status(Enum):
    """A job's status on the wire. Contract: spooled-jobs 10.1."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    DEADLETTER = "deadletter"
    CANCELLED = "cancelled"


FINISHED = (Status.COMPLETED, Status.DEADLETTER, Status.CANCELLED)
WAITING = (Status.PENDING, Status.SCHEDULED)


class Refused(Enum):
    """Why something did not happen."""

    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    LEASE_EXPIRED = "lease expired"
    BAD_REQUEST = "bad request"


@dataclass(kw_only=True)
class ReferenceJob:
    """A job as a client may see it."""

    id: UUID
    place: int
    queue: str
    priority: int
    max_retries: int
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    idempotency_key: str | None
    parent_id: UUID | None
    status: Status
    blocked: bool = False
    retry_count: int = 0
    last_error: str | None = None
    result: str | None = None
    worker_id: str | None = None
    lease_id: UUID | None = None
    lease_expires_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    history: list[str] = field(default_factory=lambda: ["created"])
    past_leases: list[UUID] = field(default_factory=list)

    @property
    def visible_status(self) -> Status:
        """Contract: spooled-jobs 10.1: what waits for another job is pending."""
        return Status.PENDING if self.blocked else self.status

    def let_go(self) -> None:
        self.worker_id = self.lease_id = self.lease_expires_at = None


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A job to be created."""

    queue: str
    priority: int
    max_retries: int | None
    delay_seconds: int | None
    expires_in_seconds: int | None
    idempotency_key: str | None


@dataclass(frozen=True, kw_only=True)
class Fence:
    """What a worker presents. `checks_end` is the stricter rule for callers without a lease id (ruling R7)."""

    job_id: UUID
    worker_id: str
    lease_id: UUID | None
    checks_end: bool


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """A queue's own delays between attempts, in seconds."""

    initial: int
    factor: float
    longest: int


class Reference:
    """The jobs of one tenant."""

    def __init__(self) -> None:
        self.jobs: dict[UUID, ReferenceJob] = {}
        self.purged: list[UUID] = []
        self.paused: set[str] = set()
        self.queue_retries: dict[str, int] = {}
        self.backoffs: dict[str, Backoff] = {}
        self.processed: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self._places = 0

    def create(
        self, wish: Wish, job_id: UUID, now: datetime, parent_id: UUID | None = None
    ) -> tuple[UUID, bool]:
        """Contract: spooled-jobs 3.1, 10.2."""
        if wish.idempotency_key is not None:
            for job in self.jobs.values():
                if job.idempotency_key == wish.idempotency_key:
                    return job.id, False
        run_at = _after(now, wish.delay_seconds)
        max_retries = wish.max_retries
        if max_retries is None:
            max_retries = self.queue_retries.get(wish.queue, DEFAULT_MAX_RETRIES)
        self._places += 1
        self.jobs[job_id] = ReferenceJob(
            id=job_id,
            place=self._places,
            queue=wish.queue,
            priority=wish.priority,
            max_retries=max_retries,
            created_at=now,
            run_at=run_at,
            expires_at=_after(now, wish.expires_in_seconds),
            idempotency_key=wish.idempotency_key,
            parent_id=parent_id,
            status=Status.SCHEDULED if run_at is not None and run_at > now else Status.PENDING,
        )
        return job_id, True

    def claimable(self, queue: str, now: datetime) -> list[ReferenceJob]:
        """Contract: spooled-jobs 10.4."""
        if queue in self.paused:
            return []
        eligible = [
            job
            for job in self.jobs.values()
            if job.queue == queue
            and job.status in WAITING
            and not job.blocked
            and (job.run_at is None or job.run_at <= now)
            and (job.expires_at is None or job.expires_at > now)
        ]
        return sorted(eligible, key=lambda job: (-job.priority, job.created_at, job.place))

    def claim(self, job: ReferenceJob, worker_id: str, lease_id: UUID, seconds: int, now: datetime) -> None:
        """Contract: spooled-jobs 3.11."""
        job.status = Status.PROCESSING
        job.worker_id = worker_id
        job.lease_id = lease_id
        job.lease_expires_at = now + timedelta(seconds=seconds)
        job.started_at = now
        job.past_leases.append(lease_id)
        job.history.append("claimed")

    def refusal(self, fence: Fence, now: datetime) -> Refused | None:
        """Contract: spooled-jobs 3.15, in its order."""
        job = self.jobs.get(fence.job_id)
        if job is None:
            return Refused.NOT_FOUND
        if job.status in FINISHED:
            return Refused.CONFLICT
        ended = job.lease_expires_at is not None and job.lease_expires_at <= now
        if fence.lease_id is not None:
            if job.status is not Status.PROCESSING or fence.lease_id != job.lease_id or ended:
                return Refused.LEASE_EXPIRED
        elif job.status is not Status.PROCESSING:
            return Refused.CONFLICT
        if fence.worker_id != job.worker_id:
            return Refused.CONFLICT
        if fence.lease_id is None and fence.checks_end and ended:
            return Refused.LEASE_EXPIRED
        return None

    def complete(self, job_id: UUID, result: str | None, now: datetime) -> None:
        """Contract: spooled-jobs 3.12."""
        job = self.jobs[job_id]
        job.status = Status.COMPLETED
        job.result = result
        job.completed_at = now
        job.history.append("completed")
        _count(self.processed, job.worker_id)
        for child in self._blocked_children(job_id):
            child.blocked = False

    def fail(self, job_id: UUID, error: str, retry_in_seconds: int | None, now: datetime) -> int | None:
        """Return the delay before the next attempt, None when there is none. Contract: spooled-jobs 3.13, 10.5."""
        job = self.jobs[job_id]
        _count(self.failed, job.worker_id)
        job.last_error = error
        job.history.append("failed")
        job.let_go()
        if job.retry_count >= job.max_retries:
            self._bury(job)
            return None
        delay = self._delay_seconds(job) if retry_in_seconds is None else retry_in_seconds
        job.status = Status.PENDING
        job.retry_count += 1
        job.run_at = now + timedelta(seconds=delay)
        return delay

    def renew(self, job_id: UUID, seconds: int, now: datetime) -> datetime:
        """Contract: spooled-jobs 3.14."""
        job = self.jobs[job_id]
        job.lease_expires_at = now + timedelta(seconds=seconds)
        return job.lease_expires_at

    def cancel(self, job_id: UUID) -> Refused | None:
        """Contract: spooled-jobs 3.4."""
        job = self.jobs.get(job_id)
        if job is None:
            return Refused.NOT_FOUND
        if job.status not in WAITING:
            return Refused.CONFLICT
        self._cancel(job)
        return None

    def retry(self, job_id: UUID) -> Refused | None:
        """Contract: spooled-jobs 3.5, ruling R4."""
        job = self.jobs.get(job_id)
        if job is None or job.status is not Status.DEADLETTER:
            return Refused.CONFLICT
        self._revive(job, job.retry_count + 1)
        return None

    def retry_dead(self, job_ids: list[UUID] | None, queue: str | None, limit: int) -> list[UUID]:
        """Contract: spooled-jobs 3.17."""
        chosen = [
            job
            for job in self._dead(queue if job_ids is None else None)
            if job_ids is None or job.id in job_ids
        ]
        revived = {job.id for job in chosen[:limit]}
        for child in self.jobs.values():
            # Contract: spooled-jobs 10.7: they wait for it now.
            if child.parent_id in revived and child.status in WAITING:
                child.blocked = True
        for job in chosen[:limit]:
            self._revive(job, 0)
        return [job.id for job in chosen[:limit]]

    def purge(self, queue: str | None, created_before: datetime | None, limit: int) -> int:
        """Contract: spooled-jobs 3.18."""
        chosen = [
            job for job in self._dead(queue) if created_before is None or job.created_at < created_before
        ]
        for job in chosen[:limit]:
            self._delete(job.id)
        return len(chosen[:limit])

    def set_priority(self, job_id: UUID, priority: int) -> int | Refused:
        """Contract: spooled-jobs 3.6."""
        job = self.jobs.get(job_id)
        if job is None or job.status not in WAITING:
            return Refused.NOT_FOUND
        old, job.priority = job.priority, priority
        return old

    def reap(self, now: datetime) -> int:
        """Contract: spooled-jobs 10.6, first row."""
        lapsed = [
            job
            for job in self.jobs.values()
            if job.status is Status.PROCESSING
            and job.lease_expires_at is not None
            and job.lease_expires_at < now
        ]
        for job in lapsed:
            job.last_error = "lease"
            job.history.append("lease_expired")
            job.let_go()
            if job.retry_count < job.max_retries:
                job.status = Status.PENDING
                job.retry_count += 1
            else:
                self._bury(job)
        return len(lapsed)

    def expire(self, now: datetime) -> int:
        """Contract: spooled-jobs 10.6, last row."""
        expired = [
            job
            for job in self.jobs.values()
            if job.status in WAITING and job.expires_at is not None and job.expires_at <= now
        ]
        for job in expired:
            self._cancel(job)
            job.last_error = "expired"
        return len(expired)

    def promote(self, now: datetime) -> None:
        """Contract: spooled-jobs 10.1, third row."""
        for job in self.jobs.values():
            if job.status is Status.SCHEDULED and job.run_at is not None and job.run_at <= now:
                job.status = Status.PENDING

    def deadlines(self) -> list[datetime]:
        """Return the moments at which a rule begins or ceases to hold."""
        moments = {
            moment
            for job in self.jobs.values()
            if job.status not in FINISHED
            for moment in (job.run_at, job.expires_at, job.lease_expires_at)
            if moment is not None
        }
        return sorted(moments)

    def _dead(self, queue: str | None) -> list[ReferenceJob]:
        dead = [
            job
            for job in self.jobs.values()
            if job.status is Status.DEADLETTER and (queue is None or job.queue == queue)
        ]
        return sorted(dead, key=lambda job: (job.created_at, job.place))

    def _delay_seconds(self, job: ReferenceJob) -> int:
        backoff = self.backoffs.get(job.queue)
        if backoff is None:
            return min(2**job.retry_count, 60)
        return int(min(backoff.initial * backoff.factor**job.retry_count, backoff.longest))

    def _bury(self, job: ReferenceJob) -> None:
        job.status = Status.DEADLETTER
        job.history.append("dead_lettered")
        self._cancel_blocked_children(job.id)

    def _cancel(self, job: ReferenceJob) -> None:
        job.status = Status.CANCELLED
        job.blocked = False
        job.history.append("cancelled")
        self._cancel_blocked_children(job.id)

    def _cancel_blocked_children(self, job_id: UUID) -> None:
        # Contract: spooled-jobs 10.7: what can no longer be satisfied, transitively.
        for child in self._blocked_children(job_id):
            self._cancel(child)
            child.last_error = "parent"

    def _blocked_children(self, job_id: UUID) -> list[ReferenceJob]:
        return [
            job
            for job in self.jobs.values()
            if job.parent_id == job_id and job.blocked and job.status in WAITING
        ]

    def _delete(self, job_id: UUID) -> None:
        # Contract: spooled-jobs 3.18: children go with their parent, and theirs with them.
        if self.jobs.pop(job_id, None) is not None:
            self.purged.append(job_id)
        for child in [job.id for job in self.jobs.values() if job.parent_id == job_id]:
            self._delete(child)

    def _revive(self, job: ReferenceJob, retry_count: int) -> None:
        job.status = Status.PENDING
        job.retry_count = retry_count
        job.last_error = None
        job.run_at = None
        job.let_go()
        job.history.append("retried")


def _after(now: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


def _count(totals: dict[str, int], worker_id: str | None) -> None:
    assert worker_id is not None
    totals[worker_id] = totals.get(worker_id, 0) + 1
