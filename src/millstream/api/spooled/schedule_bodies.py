"""The bodies of `/schedules`, as they are on the wire. Contract: spooled-jobs 2.8, 6."""

from uuid import UUID

from msgspec import UNSET, Raw, Struct

from millstream.api.http.timestamps import format_optional, format_timestamp
from millstream.api.spooled.requests import Int, Opaque
from millstream.domain.schedule import Schedule, ScheduleRun
from millstream.domain.tenant import Principal


class CreateSchedule(Struct, frozen=True, kw_only=True):
    """`POST /schedules`. `cron_expression` has five fields, or six with the seconds first."""

    name: str
    cron_expression: str
    queue_name: str
    payload_template: Raw
    timezone: str | None = None
    description: str | None = None
    priority: Int | None = None
    max_retries: Int | None = None
    timeout_seconds: Int | None = None
    tags: Opaque = UNSET
    metadata: Opaque = UNSET


class UpdateSchedule(Struct, frozen=True, kw_only=True):
    """`PUT /schedules/{schedule_id}`. What is absent or null stays, the queue always."""

    name: str | None = None
    cron_expression: str | None = None
    payload_template: Opaque = UNSET
    timezone: str | None = None
    description: str | None = None
    priority: Int | None = None
    max_retries: Int | None = None
    timeout_seconds: Int | None = None
    tags: Opaque = UNSET
    metadata: Opaque = UNSET
    is_active: bool | None = None


class ScheduleBody(Struct, frozen=True, kw_only=True):
    """A schedule with all its fields, always all present."""

    id: UUID
    organization_id: str
    name: str
    description: str | None
    cron_expression: str
    timezone: str
    queue_name: str
    payload_template: Raw
    priority: int
    max_retries: int
    timeout_seconds: int
    is_active: bool
    last_run_at: str | None
    next_run_at: str
    run_count: int
    tags: Raw | None
    metadata: Raw | None
    created_at: str
    updated_at: str


class ScheduleRunBody(Struct, frozen=True, kw_only=True):
    """One run: whether it created its job."""

    id: UUID
    schedule_id: UUID
    job_id: UUID | None
    status: str
    error_message: str | None
    started_at: str
    completed_at: str


class ScheduleTriggered(Struct, frozen=True, kw_only=True):
    """The answer to a trigger; some clients read the time as `scheduled_at`."""

    job_id: UUID
    triggered_at: str
    scheduled_at: str


def schedule_body(schedule: Schedule, principal: Principal) -> ScheduleBody:
    """Return `schedule` with all its fields."""
    return ScheduleBody(
        id=schedule.id,
        organization_id=principal.organization_id,
        name=schedule.name,
        description=schedule.description,
        cron_expression=schedule.cron,
        timezone=schedule.timezone,
        queue_name=schedule.queue,
        payload_template=Raw(schedule.payload.encode()),
        priority=schedule.priority,
        max_retries=schedule.max_retries,
        timeout_seconds=schedule.timeout_seconds,
        is_active=schedule.is_active,
        last_run_at=format_optional(schedule.last_run_at),
        next_run_at=format_timestamp(schedule.next_run_at),
        run_count=schedule.run_count,
        tags=_raw(schedule.tags),
        metadata=_raw(schedule.metadata),
        created_at=format_timestamp(schedule.created_at),
        updated_at=format_timestamp(schedule.updated_at),
    )


def schedule_run_body(run: ScheduleRun) -> ScheduleRunBody:
    """Return `run` with all its fields."""
    return ScheduleRunBody(
        id=run.id,
        schedule_id=run.schedule_id,
        job_id=run.job_id,
        status=run.status.name.lower(),
        error_message=run.error,
        started_at=format_timestamp(run.started_at),
        completed_at=format_timestamp(run.finished_at),
    )


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text.encode())
