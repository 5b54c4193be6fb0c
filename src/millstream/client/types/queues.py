"""Queues: configuration, statistics, pause and resume."""

from datetime import datetime

import msgspec

from millstream.client.json_value import JsonValue


class QueueSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's configuration as lists show it; claims are not held to `rate_limit`. Contract: spooled-jobs 2.5."""

    name: str = msgspec.field(name="queue_name")
    max_retries: int
    timeout_seconds: int = msgspec.field(name="default_timeout")
    rate_limit: int | None = None
    enabled: bool


class Queue(QueueSummary, frozen=True, kw_only=True):
    """A queue's whole configuration. The three `retry_` values are None where the default back-off holds."""

    id: str
    tenant_id: str = msgspec.field(name="organization_id")
    settings: JsonValue
    created_at: datetime
    updated_at: datetime
    retry_initial_seconds: int | None = None
    retry_factor: float | None = None
    retry_max_seconds: int | None = None


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue holds and did in the last 24 hours. Contract: spooled-jobs 2.6."""

    name: str = msgspec.field(name="queue_name")
    pending_jobs: int
    processing_jobs: int
    completed_jobs_24h: int
    failed_jobs_24h: int
    active_workers: int
    average_processing_ms: float | None = msgspec.field(name="avg_processing_time_ms", default=None)
    oldest_job_age_seconds: int | None = msgspec.field(name="max_job_age_seconds", default=None)


class QueuePaused(msgspec.Struct, frozen=True, kw_only=True):
    """Since when and why a queue hands out nothing."""

    name: str = msgspec.field(name="queue_name")
    paused_at: datetime
    reason: str | None = None


class QueueResumed(msgspec.Struct, frozen=True, kw_only=True):
    """How long the queue was paused; 0 when it was not."""

    name: str = msgspec.field(name="queue_name")
    paused_seconds: int = msgspec.field(name="paused_duration_secs")
