"""The bodies of this dialect, as they are on the wire. Contract: spooled-jobs 2 to 5, spooled-tenancy 2.1.

In requests null means the same as absent; `Raw` fields are opaque JSON that passes through as it is.
"""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

# Beyond 64 bits a number is of the wrong type, not out of range.
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Meta(ge=-(2.0**63), le=2.0**63)]
ABSENT = Raw(b"")


# ------------------------------------------------------------------------------------------------ requests: jobs


class CreateJob(Struct, frozen=True, kw_only=True, gc=False):
    """`POST /jobs`."""

    queue_name: str
    payload: Raw
    priority: Int | None = None
    max_retries: Int | None = None
    timeout_seconds: Int | None = None
    scheduled_at: str | None = None
    expires_at: str | None = None
    idempotency_key: str | None = None
    tags: Raw = ABSENT
    parent_job_id: str | None = None
    completion_webhook: str | None = None
    completion_webhook_secret: str | None = None


class BulkItem(Struct, frozen=True, kw_only=True, gc=False):
    """One job of `POST /jobs/bulk`."""

    payload: Raw
    priority: Int | None = None
    idempotency_key: str | None = None
    scheduled_at: str | None = None


class CreateJobs(Struct, frozen=True, kw_only=True):
    """`POST /jobs/bulk`."""

    queue_name: str
    jobs: list[BulkItem]
    default_priority: Int | None = None
    default_max_retries: Int | None = None
    default_timeout_seconds: Int | None = None


class SetPriority(Struct, frozen=True, kw_only=True):
    """`PUT /jobs/{id}/priority`."""

    priority: Int


class Claim(Struct, frozen=True, kw_only=True, gc=False):
    """`POST /jobs/claim`. `wait_seconds` holds the request until something is claimable."""

    queue_name: str
    worker_id: str
    limit: Int | None = None
    lease_duration_secs: Int | None = None
    wait_seconds: Int | None = None


class Complete(Struct, frozen=True, kw_only=True, gc=False):
    """`POST /jobs/{id}/complete`."""

    worker_id: str
    lease_id: str | None = None
    result: Raw = ABSENT


class Fail(Struct, frozen=True, kw_only=True, gc=False):
    """`POST /jobs/{id}/fail`. `retry_in_seconds` overrides the queue's back-off."""

    worker_id: str
    error: str
    lease_id: str | None = None
    retry_in_seconds: Int | None = None


class Renew(Struct, frozen=True, kw_only=True, gc=False):
    """`POST /jobs/{id}/heartbeat`."""

    worker_id: str
    lease_id: str | None = None
    lease_duration_secs: Int | None = None


class SettleItem(Struct, frozen=True, kw_only=True, gc=False):
    """One item of `POST /jobs/settle`; `action` is `complete` or `fail`."""

    job_id: str
    action: str
    worker_id: str | None = None
    lease_id: str | None = None
    result: Raw = ABSENT
    error: str | None = None
    retry_in_seconds: Int | None = None


class Settle(Struct, frozen=True, kw_only=True):
    """`POST /jobs/settle`. `worker_id` serves the items that name none."""

    items: list[SettleItem]
    worker_id: str | None = None


class RetryDead(Struct, frozen=True, kw_only=True):
    """`POST /jobs/dlq/retry`."""

    job_ids: list[str] | None = None
    queue_name: str | None = None
    limit: Int | None = None


class PurgeDead(Struct, frozen=True, kw_only=True):
    """`POST /jobs/dlq/purge`."""

    confirm: bool
    queue_name: str | None = None
    older_than: str | None = None
    limit: Int | None = None


# ------------------------------------------------------------------------------------- requests: everything else


class ConfigureQueue(Struct, frozen=True, kw_only=True):
    """`PUT /queues/{name}/config`. For the three back-off fields null clears and absence keeps."""

    max_retries: Int | None = None
    default_timeout: Int | None = None
    rate_limit: Int | None = None
    enabled: bool | None = None
    settings: Raw = ABSENT
    retry_initial_seconds: Int | None | UnsetType = UNSET
    retry_factor: Float | None | UnsetType = UNSET
    retry_max_seconds: Int | None | UnsetType = UNSET


class PauseQueue(Struct, frozen=True, kw_only=True):
    """`POST /queues/{name}/pause`."""

    reason: str | None = None


class RegisterWorker(Struct, frozen=True, kw_only=True):
    """`POST /workers/register`."""

    queue_name: str
    hostname: str
    worker_id: str | None = None
    worker_type: str | None = None
    max_concurrency: Int | None = None
    metadata: Raw = ABSENT
    version: str | None = None


class WorkerHeartbeat(Struct, frozen=True, kw_only=True):
    """`POST /workers/{id}/heartbeat`. A status word that nobody knows counts as healthy."""

    current_jobs: Int
    status: str | None = None
    metadata: Raw = ABSENT


class CreateOrganization(Struct, frozen=True, kw_only=True):
    """`POST /organizations`."""

    name: str
    slug: str
    billing_email: str | None = None


# ----------------------------------------------------------------------------------------------- answers: jobs


class Created(Struct, gc=False):
    """The answer to a create."""

    id: UUID
    created: bool


class BulkSucceeded(Struct, gc=False):
    """An item of a bulk create that was enqueued."""

    index: int
    job_id: UUID
    created: bool


class BulkFailed(Struct, gc=False):
    """An item of a bulk create that broke a rule."""

    index: int
    error: str


class BulkCreated(Struct):
    """The answer to a bulk create."""

    succeeded: list[BulkSucceeded]
    failed: list[BulkFailed]
    total: int
    success_count: int
    failure_count: int


class JobBody(Struct, kw_only=True, gc=False):
    """A job with all its fields, always all present."""

    id: UUID
    organization_id: str
    queue_name: str
    status: str
    payload: Raw
    result: Raw | None
    retry_count: int
    max_retries: int
    last_error: str | None
    created_at: str
    updated_at: str
    scheduled_at: str | None
    started_at: str | None
    completed_at: str | None
    expires_at: str | None
    priority: int
    tags: Raw | None
    timeout_seconds: int
    parent_job_id: UUID | None
    completion_webhook: str | None
    idempotency_key: str | None
    workflow_id: UUID | None
    assigned_worker_id: str | None
    lease_id: UUID | None
    lease_expires_at: str | None
    dependency_mode: str
    dependencies_met: bool


class JobSummary(Struct, kw_only=True, gc=False):
    """A job in a list. `payload` and `tags` come with dead letters, when they are objects."""

    id: UUID
    queue_name: str
    status: str
    priority: int
    created_at: str
    retry_count: int
    attempt: int
    max_retries: int
    timeout_seconds: int
    job_type: str
    last_error: str | None
    scheduled_at: str | None
    started_at: str | None
    completed_at: str | None
    payload: Raw | UnsetType = UNSET
    tags: Raw | UnsetType = UNSET


class JobStatusBody(Struct, gc=False):
    """A job in a batch look-up."""

    id: UUID
    status: str
    queue_name: str
    retry_count: int
    created_at: str
    completed_at: str | None


class JobStats(Struct, kw_only=True):
    """How many jobs are in each status; `failed` is a word that no job ever has."""

    pending: int
    scheduled: int
    processing: int
    completed: int
    failed: int
    deadletter: int
    cancelled: int
    total: int


class JobHistoryEvent(Struct, kw_only=True, gc=False):
    """An entry of a job's history."""

    id: UUID
    job_id: UUID
    event_type: str
    worker_id: str | None
    details: dict[str, str]
    created_at: str


class PriorityChanged(Struct):
    """The answer to a change of priority."""

    job_id: UUID
    old_priority: int
    new_priority: int


class ClaimedJobBody(Struct, kw_only=True, gc=False):
    """A job in the hands of a worker."""

    id: UUID
    queue_name: str
    status: str
    payload: Raw
    priority: int
    retry_count: int
    max_retries: int
    timeout_seconds: int
    created_at: str
    lease_id: UUID
    lease_expires_at: str


class Claimed(Struct):
    """The answer to a claim, best job first."""

    jobs: list[ClaimedJobBody]


class Success(Struct):
    """The answer to what has nothing to say."""

    success: bool = True


class FailRecorded(Struct):
    """The answer to a failure: whether the job runs again, and in how many seconds."""

    success: bool
    will_retry: bool
    next_retry_delay_secs: int


class Renewed(Struct):
    """The answer to the renewal of a lease."""

    success: bool
    lease_expires_at: str


class Settled(Struct, gc=False):
    """What became of one item of a settle request."""

    job_id: str
    success: bool
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class SettledAll(Struct):
    """The answer to a settle request, in its order."""

    results: list[Settled]
    success_count: int
    failure_count: int


class DeadRetried(Struct):
    """The answer to a retry of dead letters."""

    retried_count: int
    retried_jobs: list[UUID]
    job_ids: list[UUID]
    skipped_jobs: list[UUID]


class DeadPurged(Struct):
    """The answer to a purge of dead letters."""

    purged_count: int


# ------------------------------------------------------------------------------------- answers: everything else


class QueueSummary(Struct, kw_only=True):
    """A queue in a list."""

    queue_name: str
    max_retries: int
    default_timeout: int
    rate_limit: int | None
    enabled: bool


class QueueConfig(QueueSummary, kw_only=True):
    """A queue's configuration."""

    id: UUID
    organization_id: str
    settings: Raw
    retry_initial_seconds: int | None
    retry_factor: float | None
    retry_max_seconds: int | None
    created_at: str
    updated_at: str


class QueueStatsBody(Struct, kw_only=True):
    """What a queue is doing."""

    queue_name: str
    pending_jobs: int
    processing_jobs: int
    completed_jobs_24h: int
    failed_jobs_24h: int
    avg_processing_time_ms: int | None
    max_job_age_seconds: int | None
    active_workers: int


class QueuePaused(Struct):
    """The answer to a pause."""

    queue_name: str
    paused: bool
    paused_at: str
    reason: str | None


class QueueResumed(Struct):
    """The answer to a resume."""

    queue_name: str
    resumed: bool
    paused_duration_secs: int


class WorkerRegistered(Struct):
    """The answer to a registration; clients time their heartbeats by it."""

    id: str
    queue_name: str
    lease_duration_secs: int
    heartbeat_interval_secs: int


class WorkerBody(Struct, kw_only=True):
    """A worker, under the names of both generations of clients."""

    id: str
    organization_id: str
    queue_name: str
    queue_names: list[str]
    hostname: str
    worker_type: str | None
    version: str | None
    max_concurrency: int
    max_concurrent_jobs: int
    current_jobs: int
    current_job_count: int
    status: str
    last_heartbeat: str
    metadata: Raw
    registered_at: str
    created_at: str
    updated_at: str
    jobs_processed: int
    jobs_failed: int


class OrganizationBody(Struct, kw_only=True):
    """An organization."""

    id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    settings: Raw
    custom_limits: Raw | None
    stripe_customer_id: str | None = None
    stripe_subscription_id: str | None = None
    stripe_subscription_status: str | None = None
    stripe_current_period_end: str | None = None
    stripe_cancel_at_period_end: bool | None = None
    created_at: str
    updated_at: str


class IssuedKeyBody(Struct):
    """An API key in the one answer that shows it."""

    id: UUID
    key: str
    name: str
    created_at: str


class OrganizationCreated(Struct):
    """The answer to the creation of an organization."""

    organization: OrganizationBody
    api_key: IssuedKeyBody
