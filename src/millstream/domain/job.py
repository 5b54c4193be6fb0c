"""Jobs: their states, what a caller hands in and what the engine hands out."""

from datetime import datetime
from enum import IntEnum
from uuid import UUID

from msgspec import Struct

from millstream.domain.errors import Conflict, LeaseExpired, MillstreamError, NotFound


class JobState(IntEnum):
    """Where a job is in its life; the numbers are stored.

    The first five live in `jobs`, DEAD in `jobs_dead`, the last two in `jobs_done`.
    """

    READY = 1
    """Claimable now."""
    SCHEDULED = 2
    """Waits for its first `run_at`."""
    RETRYING = 3
    """Waits for `run_at` after a failed attempt."""
    BLOCKED = 4
    """Waits for other jobs (`unmet` > 0)."""
    RUNNING = 5
    """Held by a worker under a lease."""
    DEAD = 6
    """Out of attempts: a dead letter."""
    COMPLETED = 7
    CANCELLED = 8


class DependencyMode(IntEnum):
    """When a blocked job may start; the numbers are stored."""

    ALL = 1
    ANY = 2


class NewJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job to be enqueued, already validated.

    `payload` and `tags` are JSON texts, passed through untouched. `max_retries` and `timeout_seconds`
    fall back to the queue's configuration, then to the server's. A `run_at` in the future delays it.
    """

    queue: str
    payload: str
    job_type: str = ""
    priority: int = 0
    max_retries: int | None = None
    timeout_seconds: int | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: str | None = None
    tags: str | None = None
    parent_job_id: UUID | None = None
    completion_webhook: str | None = None
    completion_webhook_secret: str | None = None


class Enqueued(Struct, frozen=True, gc=False):
    """The answer to an enqueue: a new job, or the one that already holds the idempotency key."""

    id: UUID
    created: bool


class Job(Struct, frozen=True, kw_only=True, gc=False):
    """A job as it stands, in any state. `payload`, `result` and `tags` are JSON texts.

    `finished_at` is when it was completed or cancelled, `completed_at` when it was completed.
    """

    id: UUID
    queue: str
    state: JobState
    job_type: str
    payload: str
    result: str | None
    retry_count: int
    max_retries: int
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    run_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    priority: int
    tags: str | None
    timeout_seconds: int
    parent_job_id: UUID | None
    completion_webhook: str | None
    idempotency_key: str | None
    workflow_id: UUID | None
    worker_id: str | None
    lease_id: UUID | None
    lease_expires_at: datetime | None
    dependency_mode: DependencyMode
    unmet: int


class ClaimRequest(Struct, frozen=True, kw_only=True, gc=False):
    """A worker's wish for up to `limit` jobs of `queue`, each held for `lease_seconds`."""

    queue: str
    worker_id: str
    limit: int = 1
    lease_seconds: int = 30


class ClaimedJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job in the hands of a worker, fenced by `lease_id` until `lease_expires_at`."""

    id: UUID
    queue: str
    payload: str
    priority: int
    retry_count: int
    max_retries: int
    timeout_seconds: int
    created_at: datetime
    lease_id: UUID
    lease_expires_at: datetime


class Lease(Struct, frozen=True, kw_only=True, gc=False):
    """What a worker presents when it settles or renews.

    Without `lease_id` the worker id is the fence, and the end of the lease is looked at only if
    `check_end` says so. `mismatch` is set by an edge that received a lease id which no lease can have.
    """

    job_id: UUID
    worker_id: str
    lease_id: UUID | None = None
    check_end: bool = False
    mismatch: bool = False


class Completion(Struct, frozen=True, kw_only=True, gc=False):
    """A worker's success; `result` is a JSON text."""

    lease: Lease
    result: str | None = None


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """A worker's failure; `retry_in_seconds` overrides the queue's back-off."""

    lease: Lease
    error: str
    retry_in_seconds: int | None = None


class Completed(Struct, frozen=True, gc=False):
    """A completion that was recorded."""

    job_id: UUID


class Failed(Struct, frozen=True, gc=False):
    """A failure that was recorded: retried in `retry_in_seconds`, or a dead letter (None)."""

    job_id: UUID
    retry_in_seconds: int | None


class Release(Struct, frozen=True, kw_only=True, gc=False):
    """A worker's wish to give a lease back for a job that it did not begin."""

    lease: Lease


class Released(Struct, frozen=True, gc=False):
    """A lease that was given back."""

    job_id: UUID


class Renewal(Struct, frozen=True, kw_only=True, gc=False):
    """A wish to move the end of `lease` to `seconds` from now."""

    lease: Lease
    seconds: int = 30


class JobStatus(Struct, frozen=True, gc=False):
    """The few facts about a job that a batch look-up returns."""

    id: UUID
    queue: str
    state: JobState
    retry_count: int
    created_at: datetime
    completed_at: datetime | None


class JobOrder(IntEnum):
    """What a list of jobs is ordered by."""

    CREATED_AT = 1
    UPDATED_AT = 2
    RUN_AT = 3
    COMPLETED_AT = 4
    PRIORITY = 5
    STATE = 6
    QUEUE = 7
    RETRY_COUNT = 8


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs a list shows; absent filters let everything pass, all others must hold.

    `queues` restricts to the queues that a credential may see (None: all). `search` matches the head of
    the id, or a part of the queue name or job type, in any case.
    """

    queues: tuple[str, ...] | None = None
    queue: str | None = None
    states: tuple[JobState, ...] | None = None
    search: str | None = None
    job_type: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    tag: str | None = None
    order: JobOrder = JobOrder.CREATED_AT
    descending: bool = True
    limit: int = 50
    offset: int = 0


class JobPage(Struct, frozen=True):
    """A page of jobs, and whether more follow."""

    jobs: list[Job]
    has_more: bool


class JobEventKind(IntEnum):
    """What happened to a job; the numbers are stored for those that are rows."""

    CREATED = 1
    CLAIMED = 2
    COMPLETED = 3
    FAILED = 4
    LEASE_EXPIRED = 5
    DEAD_LETTERED = 6
    RETRIED = 7
    CANCELLED = 8


class JobEvent(Struct, frozen=True, kw_only=True):
    """One entry of a job's history."""

    id: UUID
    job_id: UUID
    kind: JobEventKind
    worker_id: str | None
    error: str | None
    at: datetime


class HistoryPage(Struct, frozen=True):
    """A page of a job's history, and whether more follows."""

    events: list[JobEvent]
    has_more: bool


class DeadSelection(Struct, frozen=True, kw_only=True):
    """Which dead letters to retry or purge, oldest first: by id, else by queue and age."""

    job_ids: tuple[UUID, ...] | None = None
    queues: tuple[str, ...] | None = None
    queue: str | None = None
    created_before: datetime | None = None
    limit: int


class Revived(Struct, frozen=True):
    """Dead letters that were retried, and those left alone."""

    job_ids: list[UUID]
    skipped: list[UUID]


class Holder(Struct, frozen=True, kw_only=True, gc=False):
    """Who holds a job and how it stands: what a refused settlement is judged by."""

    state: JobState
    worker_id: str | None
    lease_id: UUID | None
    lease_ended: bool


FINISHED_WORDS = {
    JobState.COMPLETED: "job is already completed",
    JobState.CANCELLED: "job is already cancelled",
    JobState.DEAD: "job is already in the dead letter queue (deadletter)",
}


def refusal(lease: Lease, holder: Holder | None) -> MillstreamError | None:
    """Say why `lease` may not settle or renew the job that `holder` describes; None if it may.

    The order of the checks is the contract's: unknown, finished, lease id, lease end, not running,
    worker id. Contract: spooled-jobs 3.15.
    """
    if holder is None:
        return NotFound()
    if holder.state in FINISHED_WORDS:
        return Conflict(FINISHED_WORDS[holder.state])
    running = holder.state is JobState.RUNNING
    if lease.lease_id is not None or lease.mismatch:
        if not running or lease.mismatch or holder.lease_id != lease.lease_id or holder.lease_ended:
            return LeaseExpired()
    elif not running:
        return Conflict("job is not being processed")
    if holder.worker_id != lease.worker_id:
        return Conflict("job is held by another worker")
    if lease.check_end and holder.lease_ended:
        return LeaseExpired()
    return None
