"""Domain values as this dialect shows them, and its words as domain values."""

from typing import assert_never

import msgspec
from msgspec import Raw

from millstream.api.http.timestamps import format_optional, format_timestamp
from millstream.api.spooled import answers
from millstream.domain.job import ClaimedJob, DependencyMode, Job, JobEvent, JobEventKind, JobState, JobStatus
from millstream.domain.queue import Queue, QueueStats
from millstream.domain.tenant import IssuedKey, Principal, Tenant
from millstream.domain.worker import Worker, WorkerStatus

_LISTED_PAYLOAD_CHARS_MAX = 64 * 1024
_PAUSE_KEYS = ("paused", "paused_at", "paused_reason")


def status_word(state: JobState) -> str:
    """Return the wire's word for `state`: what waits for a retry or for other jobs is pending too."""
    return _STATUS_WORDS[state]


def _status_word(state: JobState) -> str:
    match state:
        case JobState.READY | JobState.RETRYING | JobState.BLOCKED:
            return "pending"
        case JobState.SCHEDULED:
            return "scheduled"
        case JobState.RUNNING:
            return "processing"
        case JobState.DEAD:
            return "deadletter"
        case JobState.COMPLETED:
            return "completed"
        case JobState.CANCELLED:
            return "cancelled"
        case _:
            assert_never(state)


_STATUS_WORDS = {state: _status_word(state) for state in JobState}
STATES_OF_WORD: dict[str, tuple[JobState, ...]] = {
    word: tuple(state for state in JobState if _STATUS_WORDS[state] == word)
    for word in (*_STATUS_WORDS.values(), "failed")
}


def job_body(job: Job, principal: Principal) -> answers.JobBody:
    """Return `job` with all its fields."""
    return answers.JobBody(
        id=job.id,
        organization_id=principal.organization_id,
        queue_name=job.queue,
        status=_STATUS_WORDS[job.state],
        payload=Raw(job.payload),
        result=_optional_raw(job.result),
        retry_count=job.retry_count,
        max_retries=job.max_retries,
        last_error=job.last_error,
        created_at=format_timestamp(job.created_at),
        updated_at=format_timestamp(job.updated_at),
        scheduled_at=format_optional(job.run_at),
        started_at=format_optional(job.started_at),
        completed_at=format_optional(job.completed_at),
        expires_at=format_optional(job.expires_at),
        priority=job.priority,
        tags=_optional_raw(job.tags),
        timeout_seconds=job.timeout_seconds,
        parent_job_id=job.parent_job_id,
        completion_webhook=job.completion_webhook,
        idempotency_key=job.idempotency_key,
        workflow_id=job.workflow_id,
        assigned_worker_id=job.worker_id,
        lease_id=job.lease_id,
        lease_expires_at=format_optional(job.lease_expires_at),
        dependency_mode="any" if job.dependency_mode is DependencyMode.ANY else "all",
        dependencies_met=job.unmet == 0,
    )


def job_summary(job: Job, *, with_payload: bool) -> answers.JobSummary:
    """Return `job` as a row of a list; `with_payload` adds payload and tags where they are objects.

    Some clients decode rows as whole jobs and stumble over anything but objects there.
    """
    summary = answers.JobSummary(
        id=job.id,
        queue_name=job.queue,
        status=_STATUS_WORDS[job.state],
        priority=job.priority,
        created_at=format_timestamp(job.created_at),
        retry_count=job.retry_count,
        attempt=job.retry_count,
        max_retries=job.max_retries,
        timeout_seconds=job.timeout_seconds,
        job_type=job.job_type,
        last_error=job.last_error,
        scheduled_at=format_optional(job.run_at),
        started_at=format_optional(job.started_at),
        completed_at=format_optional(job.completed_at),
    )
    if with_payload:
        if job.payload.startswith("{") and len(job.payload) <= _LISTED_PAYLOAD_CHARS_MAX:
            summary.payload = Raw(job.payload)
        if job.tags is not None and job.tags.startswith("{"):
            summary.tags = Raw(job.tags)
    return summary


def job_status(status: JobStatus) -> answers.JobStatusBody:
    """Return the few facts of a batch look-up."""
    return answers.JobStatusBody(
        status.id,
        _STATUS_WORDS[status.state],
        status.queue,
        status.retry_count,
        format_timestamp(status.created_at),
        format_optional(status.completed_at),
    )


def claimed_job(job: ClaimedJob) -> answers.ClaimedJobBody:
    """Return a claimed job as its worker sees it."""
    return answers.ClaimedJobBody(
        id=job.id,
        queue_name=job.queue,
        status="processing",
        payload=Raw(job.payload),
        priority=job.priority,
        retry_count=job.retry_count,
        max_retries=job.max_retries,
        timeout_seconds=job.timeout_seconds,
        created_at=format_timestamp(job.created_at),
        lease_id=job.lease_id,
        lease_expires_at=format_timestamp(job.lease_expires_at),
    )


def history_event(event: JobEvent) -> answers.JobHistoryEvent:
    """Return an entry of a job's history."""
    return answers.JobHistoryEvent(
        id=event.id,
        job_id=event.job_id,
        event_type=_event_word(event.kind),
        worker_id=event.worker_id,
        details={} if event.error is None else {"error": event.error},
        created_at=format_timestamp(event.at),
    )


def _event_word(kind: JobEventKind) -> str:
    match kind:
        case JobEventKind.CREATED:
            return "created"
        case JobEventKind.CLAIMED:
            return "claimed"
        case JobEventKind.COMPLETED:
            return "completed"
        case JobEventKind.FAILED:
            return "failed"
        case JobEventKind.LEASE_EXPIRED:
            return "lease_expired"
        case JobEventKind.DEAD_LETTERED:
            return "deadlettered"
        case JobEventKind.RETRIED:
            return "retried"
        case JobEventKind.CANCELLED:
            return "cancelled"
        case _:
            assert_never(kind)


def queue_summary(queue: Queue) -> answers.QueueSummary:
    """Return a queue as a row of a list."""
    return answers.QueueSummary(
        queue_name=queue.name,
        max_retries=queue.max_retries,
        default_timeout=queue.default_timeout_seconds,
        rate_limit=queue.rate_limit,
        enabled=queue.enabled,
    )


def queue_config(queue: Queue, principal: Principal) -> answers.QueueConfig:
    """Return a queue's configuration; while it is paused its settings say so."""
    return answers.QueueConfig(
        id=queue.id,
        organization_id=principal.organization_id,
        queue_name=queue.name,
        max_retries=queue.max_retries,
        default_timeout=queue.default_timeout_seconds,
        rate_limit=queue.rate_limit,
        enabled=queue.enabled,
        settings=_settings_with_pause(queue),
        retry_initial_seconds=queue.retry_initial_seconds,
        retry_factor=queue.retry_factor,
        retry_max_seconds=queue.retry_max_seconds,
        created_at=format_timestamp(queue.created_at),
        updated_at=format_timestamp(queue.updated_at),
    )


def _settings_with_pause(queue: Queue) -> Raw:
    if queue.paused_at is None or not queue.settings.startswith("{"):
        return Raw(queue.settings)
    settings = msgspec.json.decode(queue.settings, type=dict[str, Raw])
    settings["paused"] = Raw(b"true")
    settings["paused_at"] = Raw(msgspec.json.encode(format_timestamp(queue.paused_at)))
    settings["paused_reason"] = Raw(msgspec.json.encode(queue.paused_reason))
    return Raw(msgspec.json.encode(settings))


def settings_without_pause(text: str) -> str:
    """Return settings without the keys that pausing owns: clients send back what they have read."""
    if not text.startswith("{") or '"paused' not in text:
        return text
    settings = msgspec.json.decode(text, type=dict[str, Raw])
    for key in _PAUSE_KEYS:
        settings.pop(key, None)
    return msgspec.json.encode(settings).decode()


def queue_stats(stats: QueueStats) -> answers.QueueStatsBody:
    """Return what a queue is doing."""
    return answers.QueueStatsBody(
        queue_name=stats.name,
        pending_jobs=stats.pending,
        processing_jobs=stats.processing,
        completed_jobs_24h=stats.completed_24h,
        failed_jobs_24h=stats.failed_24h,
        avg_processing_time_ms=stats.avg_processing_ms,
        max_job_age_seconds=stats.oldest_age_seconds,
        active_workers=stats.active_workers,
    )


def worker_body(worker: Worker, principal: Principal) -> answers.WorkerBody:
    """Return a worker under the names of both generations of clients."""
    registered_at = format_timestamp(worker.registered_at)
    return answers.WorkerBody(
        id=worker.id,
        organization_id=principal.organization_id,
        queue_name=worker.queue,
        queue_names=[worker.queue],
        hostname=worker.hostname,
        worker_type=worker.worker_type,
        version=worker.version,
        max_concurrency=worker.max_concurrency,
        max_concurrent_jobs=worker.max_concurrency,
        current_jobs=worker.current_jobs,
        current_job_count=worker.current_jobs,
        status=worker.status.name.lower(),
        last_heartbeat=format_timestamp(worker.last_heartbeat_at),
        metadata=Raw(worker.metadata),
        registered_at=registered_at,
        created_at=registered_at,
        updated_at=format_timestamp(worker.updated_at),
        jobs_processed=worker.jobs_processed,
        jobs_failed=worker.jobs_failed,
    )


def worker_status(word: str | None) -> WorkerStatus:
    """Return the status that `word` names; words that nobody knows mean healthy. Contract: spooled-jobs 5.4."""
    return _WORKER_STATUSES.get(word or "", WorkerStatus.HEALTHY)


_WORKER_STATUSES = {status.name.lower(): status for status in WorkerStatus}


def organization_body(tenant: Tenant) -> answers.OrganizationBody:
    """Return a tenant as an organization."""
    return answers.OrganizationBody(
        id=tenant.public_id,
        name=tenant.name,
        slug=tenant.slug,
        plan_tier=tenant.plan_tier,
        billing_email=tenant.billing_email,
        settings=Raw(tenant.settings),
        custom_limits=_optional_raw(tenant.custom_limits),
        description=tenant.description,
        is_active=tenant.is_active,
        stripe_customer_id=tenant.stripe_customer_id,
        stripe_subscription_id=tenant.stripe_subscription_id,
        stripe_subscription_status=tenant.stripe_subscription_status,
        stripe_current_period_end=format_optional(tenant.stripe_current_period_end),
        stripe_cancel_at_period_end=tenant.stripe_cancel_at_period_end,
        created_at=format_timestamp(tenant.created_at),
        updated_at=format_timestamp(tenant.updated_at),
    )


def issued_key(key: IssuedKey) -> answers.IssuedKeyBody:
    """Return a new API key with its secret."""
    return answers.IssuedKeyBody(key.id, key.secret, key.name, format_timestamp(key.created_at))


def _optional_raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text)
