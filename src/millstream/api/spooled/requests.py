"""The bodies of requests, as they are on the wire. Contract: spooled-jobs 3 to 5, spooled-tenancy 3.1.

Null means the same as absent; `Raw` fields are opaque JSON that passes through as it is.
"""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

# Beyond 64 bits a number is of the wrong type, not out of range.
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Meta(ge=-(2.0**63), le=2.0**63)]
Opaque = Raw | UnsetType


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
    tags: Opaque = UNSET
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
    result: Opaque = UNSET


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
    """One item of `POST /jobs/settle`; `action` is `complete`, `fail` or `release`."""

    job_id: str
    action: str
    worker_id: str | None = None
    lease_id: str | None = None
    result: Opaque = UNSET
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


class ConfigureQueue(Struct, frozen=True, kw_only=True):
    """`PUT /queues/{name}/config`. For the three back-off fields null clears and absence keeps."""

    max_retries: Int | None = None
    default_timeout: Int | None = None
    rate_limit: Int | None = None
    enabled: bool | None = None
    settings: Opaque = UNSET
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
    metadata: Opaque = UNSET
    version: str | None = None


class WorkerHeartbeat(Struct, frozen=True, kw_only=True):
    """`POST /workers/{id}/heartbeat`. A status word that nobody knows counts as healthy."""

    current_jobs: Int
    status: str | None = None
    metadata: Opaque = UNSET


class CreateOrganization(Struct, frozen=True, kw_only=True):
    """`POST /organizations`."""

    name: str
    slug: str
    billing_email: str | None = None
