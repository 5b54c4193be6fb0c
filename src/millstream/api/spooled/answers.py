"""The bodies of answers, as they are on the wire. Contract: spooled-jobs 2 to 5, spooled-tenancy 2.1.

`Raw` fields are opaque JSON that passes through as it is; what is nullable is always there.
"""

from uuid import UUID

from msgspec import UNSET, Raw, Struct, UnsetType


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
    description: str | None = None
    is_active: bool = True
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
