"""Jobs: what is enqueued, read, claimed and settled."""

from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

import msgspec

from millstream.client.json_value import JsonValue

Shape = TypeVar("Shape")


class JobStatus(StrEnum):
    """Where a job stands. Contract: spooled-jobs 10.1."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD_LETTER = "deadletter"
    CANCELLED = "cancelled"


class NewJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """One job of `enqueue_many`; what is None takes the batch's or the queue's default."""

    payload: object
    priority: int | None = None
    run_at: datetime | None = msgspec.field(name="scheduled_at", default=None)
    idempotency_key: str | None = None


class Enqueued(msgspec.Struct, frozen=True):
    """The job's id; `created` is false when its idempotency key had been used before."""

    id: str
    created: bool


class BatchSuccess(msgspec.Struct, frozen=True):
    """The job made of (or found for) the item at `index`."""

    index: int
    id: str = msgspec.field(name="job_id")
    created: bool


class BatchFailure(msgspec.Struct, frozen=True):
    """Why the item at `index` was refused."""

    index: int
    error: str


class BulkEnqueued(msgspec.Struct, frozen=True):
    """What became of each item; every `index` is the item's position in the whole input."""

    succeeded: list[BatchSuccess] = msgspec.field(default_factory=list[BatchSuccess])
    failed: list[BatchFailure] = msgspec.field(default_factory=list[BatchFailure])


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A job as lists show it. Contract: spooled-jobs 2.2."""

    id: str
    queue: str = msgspec.field(name="queue_name")
    status: JobStatus
    job_type: str
    priority: int
    retry_count: int
    max_retries: int
    last_error: str | None = None
    created_at: datetime
    run_at: datetime | None = msgspec.field(name="scheduled_at", default=None)
    started_at: datetime | None = None
    completed_at: datetime | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job with everything the server tells of it. Contract: spooled-jobs 2.1."""

    id: str
    tenant_id: str = msgspec.field(name="organization_id")
    queue: str = msgspec.field(name="queue_name")
    status: JobStatus
    payload: JsonValue
    result: JsonValue = None
    retry_count: int
    max_retries: int
    last_error: str | None = None
    created_at: datetime
    updated_at: datetime
    run_at: datetime | None = msgspec.field(name="scheduled_at", default=None)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int
    tags: JsonValue = None
    timeout_seconds: int
    parent_job_id: str | None = None
    completion_webhook: str | None = None
    idempotency_key: str | None = None
    workflow_id: str | None = None
    worker_id: str | None = msgspec.field(name="assigned_worker_id", default=None)
    lease_id: str | None = None
    lease_expires_at: datetime | None = None
    dependency_mode: str | None = None
    dependencies_met: bool | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the job will not run again unless somebody retries it."""
        return self.status in {
            JobStatus.COMPLETED,
            JobStatus.FAILED,
            JobStatus.DEAD_LETTER,
            JobStatus.CANCELLED,
        }


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """The short answer of `jobs.status`. Contract: spooled-jobs 3.8."""

    id: str
    status: JobStatus
    queue: str = msgspec.field(name="queue_name")
    retry_count: int
    created_at: datetime
    completed_at: datetime | None = None


class JobStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs the tenant has in each status. Contract: spooled-jobs 3.7."""

    pending: int
    scheduled: int
    processing: int
    completed: int
    failed: int
    dead_letter: int = msgspec.field(name="deadletter")
    cancelled: int
    total: int


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job. Contract: spooled-jobs 2.4."""

    id: str
    job_id: str
    event_type: str
    worker_id: str | None = None
    details: JsonValue
    created_at: datetime


class PriorityChange(msgspec.Struct, frozen=True, kw_only=True):
    """A job's priority before and after."""

    job_id: str
    old_priority: int
    new_priority: int


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A job under lease: until `lease_expires_at` it is the claimer's alone. Contract: spooled-jobs 2.3.

    `lease_id` is what `complete`, `fail` and `renew` must present. `payload_json` is the payload as sent;
    `payload` decodes it on first use, `payload_as` decodes it into a type of your own.
    """

    id: str
    queue: str = msgspec.field(name="queue_name")
    payload_json: msgspec.Raw = msgspec.field(name="payload")
    retry_count: int
    max_retries: int
    timeout_seconds: int
    lease_id: str
    lease_expires_at: datetime

    @cached_property
    def payload(self) -> JsonValue:
        """The payload as plain Python values."""
        return msgspec.json.decode(self.payload_json)

    def payload_as(self, shape: type[Shape]) -> Shape:
        """Decode the payload into `shape` (a msgspec struct, dataclass, TypedDict, …).

        Raises msgspec.ValidationError when it does not fit.
        """
        return msgspec.json.decode(self.payload_json, type=shape)

    @property
    def attempt(self) -> int:
        """Which run of the job this is, from 1."""
        return self.retry_count + 1


class Complete(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="complete"):
    """Settle a job as done, with any JSON as its result."""

    job_id: str
    lease_id: str
    result: object = None
    worker_id: str | None = None


class Fail(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="fail"):
    """Settle a job as failed; `retry_in_seconds` (0 to 86400) replaces the queue's back-off."""

    job_id: str
    lease_id: str
    error: str
    retry_in_seconds: int | None = None
    worker_id: str | None = None


class Release(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="release"):
    """Give a job back that was not begun: claimable at once, and the attempt does not count. An extension of ours."""

    job_id: str
    lease_id: str
    worker_id: str | None = None


Settlement = Complete | Fail | Release


class Settled(msgspec.Struct, frozen=True):
    """What became of one settlement; `code` and `message` say why it was refused."""

    job_id: str
    success: bool
    code: str | None = None
    message: str | None = None
