"""Schedules and their runs."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.schedule import (
    NewSchedule,
    RunStatus,
    Schedule,
    ScheduleChange,
    ScheduleFilter,
    ScheduleRun,
)
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("schedules")
_CREATE = _QUERIES["create_schedule"].taking(
    "now", "tenant_id", "id", "name", "description", "cron", "timezone", "queue", "payload", "job_type", "priority",
    "max_retries", "timeout_seconds", "tags", "metadata", "size_bytes", "next_run_at",
)  # fmt: skip
_LIST = _QUERIES["list_schedules"].taking(
    "tenant_id", "queues", "queue", "is_active", "limit", "offset", "bytes_max"
)
_FIND = _QUERIES["find_schedule"].taking("tenant_id", "id", "queues")
_LOCK = _QUERIES["lock_schedule"].taking("tenant_id", "id", "queues")
_COUNT = _QUERIES["count_schedules"].taking("tenant_id")
_UPDATE = _QUERIES["update_schedule"].taking(
    "now", "tenant_id", "id", "name", "description", "cron", "timezone", "payload", "job_type", "priority",
    "max_retries", "timeout_seconds", "tags", "metadata", "size_bytes", "is_active", "next_run_at",
)  # fmt: skip
_DELETE = _QUERIES["delete_schedule"].taking("tenant_id", "id", "queues")
_FORGET_RUNS = _QUERIES["forget_schedule_runs"].taking("tenant_id", "schedule_id", "limit")
_LIST_RUNS = _QUERIES["list_schedule_runs"].taking("tenant_id", "schedule_id", "limit")
_CLAIM_DUE = _QUERIES["claim_due_schedules"].taking("now", "lookback_seconds", "limit", "bytes_max")
_CLAIM = _QUERIES["claim_schedules"].taking("now", "tenant_ids", "ids")
_RECORD_RUNS = _QUERIES["record_schedule_runs"].taking(
    "now", "tenant_ids", "ids", "statuses", "job_ids", "errors", "next_run_ats", "pauses"
)
_NEXT = _QUERIES["seconds_to_next_schedule"].taking("now", "lookback_seconds")
_PRUNE = _QUERIES["prune_schedule_runs"].taking("tenant_ids", "befores", "limit")

Key = tuple[int, UUID]
"""A tenant, and a schedule of it."""


class ScheduleCounts(Struct, frozen=True):
    """How many schedules a tenant has, and how many of them are active."""

    total: int
    active: int


class DueSchedule(Struct, frozen=True, kw_only=True):
    """A schedule that is held to be fired `at` this time. Without a tenant that is served nothing runs."""

    tenant_id: int
    schedule: Schedule
    at: datetime
    plan_tier: str | None
    custom_limits: str | None
    is_served: bool

    @property
    def key(self) -> Key:
        """What it is named by."""
        return self.tenant_id, self.schedule.id


class RunRow(Struct, frozen=True, kw_only=True):
    """How a run went (`status` None: nothing ran), and when the schedule runs next (None: as before)."""

    key: Key
    status: RunStatus | None = None
    job_id: UUID | None = None
    error: str | None = None
    next_run_at: datetime | None = None
    pauses: bool = False


async def create_schedule(
    session: Session,
    tenant_id: int,
    schedule_id: UUID,
    new: NewSchedule,
    *,
    next_run_at: datetime,
    now: datetime | None,
) -> Schedule | None:
    """Create an active schedule."""
    row = await session.one(
        _CREATE,
        now,
        tenant_id,
        schedule_id,
        new.name,
        new.description,
        new.cron,
        new.timezone,
        new.queue,
        new.payload,
        new.job_type,
        new.priority,
        new.max_retries,
        new.timeout_seconds,
        new.tags,
        new.metadata,
        _size_bytes(new.payload, new.tags, new.metadata),
        next_run_at,
    )
    return None if row is None else _schedule_from(row)


async def list_schedules(session: Session, tenant_id: int, wanted: ScheduleFilter) -> list[Schedule] | None:
    """Return a page of schedules, the newest first; None when their templates are too large for one."""
    rows = await session.many(
        _LIST,
        tenant_id,
        _listed(wanted.queues),
        wanted.queue,
        wanted.is_active,
        wanted.limit,
        wanted.offset,
        limits.SCHEDULE_PAGE_BYTES_MAX,
    )
    return None if rows and not rows[0]["fits"] else [_schedule_from(row) for row in rows]


async def find_schedule(
    session: Session, tenant_id: int, schedule_id: UUID, queues: Sequence[str] | None
) -> Schedule | None:
    """Return a schedule, if it is one of `queues` (None: of any)."""
    row = await session.one(_FIND, tenant_id, schedule_id, _listed(queues))
    return None if row is None else _schedule_from(row)


async def lock_schedule(
    session: Session, tenant_id: int, schedule_id: UUID, queues: Sequence[str] | None
) -> Schedule | None:
    """Return a schedule as `find_schedule` does, and hold it until the transaction ends."""
    row = await session.one(_LOCK, tenant_id, schedule_id, _listed(queues))
    return None if row is None else _schedule_from(row)


async def count_schedules(session: Session, tenant_id: int) -> ScheduleCounts:
    """Return how many schedules the tenant has."""
    row = await session.one(_COUNT, tenant_id)
    return ScheduleCounts(0, 0) if row is None else ScheduleCounts(row["total"], row["active"])


async def update_schedule(
    session: Session,
    tenant_id: int,
    held: Schedule,
    change: ScheduleChange,
    *,
    next_run_at: datetime | None,
    now: datetime | None,
) -> Schedule | None:
    """Change what is given of a schedule that is held; without `next_run_at` that stays."""
    row = await session.one(
        _UPDATE,
        now,
        tenant_id,
        held.id,
        change.name,
        change.description,
        change.cron,
        change.timezone,
        change.payload,
        change.job_type,
        change.priority,
        change.max_retries,
        change.timeout_seconds,
        change.tags,
        change.metadata,
        _size_bytes(
            change.payload or held.payload, change.tags or held.tags, change.metadata or held.metadata
        ),
        change.is_active,
        next_run_at,
    )
    return None if row is None else _schedule_from(row)


async def delete_schedule(
    session: Session, tenant_id: int, schedule_id: UUID, queues: Sequence[str] | None
) -> bool:
    """Delete a schedule with its runs; returns whether there was one."""
    if await session.one(_DELETE, tenant_id, schedule_id, _listed(queues)) is None:
        return False
    await session.run(_FORGET_RUNS, tenant_id, schedule_id, limits.SCHEDULE_RUNS_FORGOTTEN_MAX)
    return True


async def list_runs(session: Session, tenant_id: int, schedule_id: UUID, *, limit: int) -> list[ScheduleRun]:
    """Return the newest runs of a schedule."""
    rows = await session.many(_LIST_RUNS, tenant_id, schedule_id, limit)
    return [
        ScheduleRun(
            id=row["id"],
            schedule_id=row["schedule_id"],
            status=RunStatus(row["status"]),
            job_id=row["job_id"],
            error=row["error"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
        )
        for row in rows
    ]


async def claim_due_schedules(
    session: Session, *, lookback_seconds: int, limit: int, now: datetime | None
) -> list[DueSchedule]:
    """Hold up to `limit` due schedules until the transaction ends, the longest due first."""
    rows = await session.many(_CLAIM_DUE, now, lookback_seconds, limit, limits.BATCH_BYTES_MAX)
    return [_due_from(row) for row in rows]


async def claim_schedules(session: Session, keys: Sequence[Key], now: datetime | None) -> list[DueSchedule]:
    """Hold those of `keys` that are due and that nobody else holds."""
    rows = await session.many(_CLAIM, now, [key[0] for key in keys], [key[1] for key in keys])
    return [_due_from(row) for row in rows]


async def record_runs(session: Session, runs: Sequence[RunRow], now: datetime | None) -> None:
    """Note how runs of held schedules went, and when those run next."""
    await session.run(
        _RECORD_RUNS,
        now,
        arrays.ints([run.key[0] for run in runs]),
        arrays.uuids([run.key[1] for run in runs]),
        arrays.ints([None if run.status is None else run.status.value for run in runs]),
        arrays.uuids([run.job_id for run in runs]),
        arrays.texts(
            [None if run.error is None else run.error[: limits.RUN_ERROR_CHARS_MAX] for run in runs]
        ),
        arrays.times([run.next_run_at for run in runs]),
        arrays.flags([run.pauses for run in runs]),
    )


async def seconds_to_next_schedule(
    session: Session, *, lookback_seconds: int, now: datetime | None
) -> float | None:
    """Return in how many seconds the next schedule is due (negative: since then), None when there is none."""
    row = await session.one(_NEXT, now, lookback_seconds)
    return None if row is None else float(row["seconds"])


async def prune_runs(session: Session, bounds: Sequence[tuple[int, datetime]], *, limit: int) -> int:
    """Delete runs that are older than the bounds of their tenants; returns how many."""
    row = await session.one(_PRUNE, [bound[0] for bound in bounds], [bound[1] for bound in bounds], limit)
    return 0 if row is None else int(row["pruned"])


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _size_bytes(*texts: str | None) -> int:
    return sum(len(text.encode()) for text in texts if text is not None)


def _due_from(row: Row) -> DueSchedule:
    return DueSchedule(
        tenant_id=row["tenant_id"],
        schedule=_schedule_from(row),
        at=row["at"],
        plan_tier=row["plan_tier"],
        custom_limits=row["custom_limits"],
        is_served=row["is_served"],
    )


def _schedule_from(row: Row) -> Schedule:
    return Schedule(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        cron=row["cron"],
        timezone=row["timezone"],
        queue=row["queue"],
        payload=row["payload"],
        job_type=row["job_type"],
        priority=row["priority"],
        max_retries=row["max_retries"],
        timeout_seconds=row["timeout_seconds"],
        tags=row["tags"],
        metadata=row["metadata"],
        is_active=row["is_active"],
        last_run_at=row["last_run_at"],
        next_run_at=row["next_run_at"],
        run_count=row["run_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
