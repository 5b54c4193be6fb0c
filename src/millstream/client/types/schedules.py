"""Schedules and their runs."""

from datetime import datetime
from enum import StrEnum

import msgspec

from millstream.client.json_value import JsonValue


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it stands; `run_count` counts the jobs that it created. Contract: spooled-jobs 2.8."""

    id: str
    tenant_id: str = msgspec.field(name="organization_id")
    name: str
    description: str | None = None
    cron: str = msgspec.field(name="cron_expression")
    timezone: str
    queue: str = msgspec.field(name="queue_name")
    payload: JsonValue = msgspec.field(name="payload_template")
    priority: int
    max_retries: int
    timeout_seconds: int
    is_active: bool
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    run_count: int
    tags: JsonValue = None
    metadata: JsonValue = None
    created_at: datetime
    updated_at: datetime


class ScheduleRunStatus(StrEnum):
    """Whether a run created its job. Contract: spooled-jobs 2.8."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class ScheduleRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run: the job that it created, or the `error` that kept it from that."""

    id: str
    schedule_id: str
    job_id: str | None = None
    status: ScheduleRunStatus
    error: str | None = msgspec.field(name="error_message", default=None)
    started_at: datetime
    completed_at: datetime | None = None


class ScheduleTriggered(msgspec.Struct, frozen=True, kw_only=True):
    """The job that a schedule created on request."""

    job_id: str
    triggered_at: datetime
