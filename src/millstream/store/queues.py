"""Queues: configuration, pause, statistics."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct

from millstream.domain.queue import Queue, QueueChange, QueueStats
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("queues")
_LIST = _QUERIES["list_queues"].taking("tenant_id", "queues", "limit")
_CONFIGURE = _QUERIES["configure_queue"].taking(
    "now", "tenant_id", "name", "id", "queues_max", "max_retries", "timeout_seconds", "rate_limit", "enabled", "settings",
    "retry_initial_seconds", "retry_factor", "retry_max_seconds", "set_retry_initial", "set_retry_factor",
    "set_retry_max",
)  # fmt: skip
_PAUSE = _QUERIES["pause_queue"].taking("now", "tenant_id", "name", "reason")
_RESUME = _QUERIES["resume_queue"].taking("now", "tenant_id", "name")
_DELETE = _QUERIES["delete_queue"].taking("tenant_id", "name")
_REMOVE = _QUERIES["remove_queue"].taking("tenant_id", "name")
_STATS = _QUERIES["get_queue_stats"].taking("now", "tenant_id", "name")


async def list_queues(
    session: Session, tenant_id: int, *, names: Sequence[str] | None, limit: int
) -> list[Queue]:
    """Return the configured queues within `names` (None: all), by name."""
    rows = await session.many(_LIST, tenant_id, None if names is None else list(names), limit)
    return [_queue_from(row) for row in rows]


async def configure_queue(
    session: Session,
    tenant_id: int,
    name: str,
    change: QueueChange,
    *,
    new_id: UUID,
    queues_max: int | None,
    now: datetime | None,
) -> Queue | None:
    """Create or change a queue's row; None when it would be one more than `queues_max`."""
    row = await session.one(
        _CONFIGURE,
        now,
        tenant_id,
        name,
        new_id,
        queues_max,
        change.max_retries,
        change.default_timeout_seconds,
        change.rate_limit,
        change.enabled,
        change.settings,
        None if change.retry_initial_seconds is UNSET else change.retry_initial_seconds,
        None if change.retry_factor is UNSET else change.retry_factor,
        None if change.retry_max_seconds is UNSET else change.retry_max_seconds,
        change.retry_initial_seconds is not UNSET,
        change.retry_factor is not UNSET,
        change.retry_max_seconds is not UNSET,
    )
    return None if row is None else _queue_from(row)


async def pause_queue(
    session: Session, tenant_id: int, name: str, *, reason: str | None, now: datetime | None
) -> datetime | None:
    """Stop claims of a configured queue; returns since when, or None when it has no row."""
    row = await session.one(_PAUSE, now, tenant_id, name, reason)
    return None if row is None else row["paused_at"]


async def resume_queue(session: Session, tenant_id: int, name: str, now: datetime | None) -> int | None:
    """Let a queue be claimed again; returns for how many seconds it was paused, None when it has no row."""
    row = await session.one(_RESUME, now, tenant_id, name)
    return None if row is None else int(row["seconds"])


class QueueDeletion(Struct, frozen=True):
    """What stood in the way of deleting a queue, if anything."""

    existed: bool
    busy: bool
    removed: bool


async def delete_queue(session: Session, tenant_id: int, name: str) -> QueueDeletion:
    """Delete a queue's row unless jobs are pending or running there."""
    row = await session.one(_DELETE, tenant_id, name)
    if row is None:
        return QueueDeletion(existed=False, busy=False, removed=False)
    return QueueDeletion(existed=row["existed"], busy=row["busy"], removed=row["removed"])


async def remove_queue(session: Session, tenant_id: int, name: str) -> bool:
    """Delete a queue's row, whatever is in the queue; returns whether there was one."""
    return await session.one(_REMOVE, tenant_id, name) is not None


async def get_queue_stats(session: Session, tenant_id: int, name: str, now: datetime | None) -> QueueStats:
    """Return what a queue is doing; zeros for one that nobody has seen."""
    row = await session.one(_STATS, now, tenant_id, name)
    if row is None:
        raise LookupError(name)
    return QueueStats(
        name=name,
        pending=row["pending"],
        processing=row["processing"],
        completed_24h=row["completed"],
        failed_24h=row["failed"],
        avg_processing_ms=row["avg_ms"],
        oldest_age_seconds=row["oldest_seconds"],
        active_workers=row["workers"],
    )


def _queue_from(row: Row) -> Queue:
    return Queue(
        id=row["id"],
        name=row["name"],
        max_retries=row["max_retries"],
        default_timeout_seconds=row["default_timeout_seconds"],
        rate_limit=row["rate_limit"],
        enabled=row["enabled"],
        settings=row["settings"],
        paused_at=row["paused_at"],
        paused_reason=row["paused_reason"],
        retry_initial_seconds=row["retry_initial_seconds"],
        retry_factor=row["retry_factor"],
        retry_max_seconds=row["retry_max_seconds"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
