"""Deletions: finding what goes, locking it in the global order, deleting it wherever it lives."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import DeadSelection
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("deletions")
_LIST_PURGED = _QUERIES["list_purged_jobs"].taking("tenant_id", "queue", "queues", "created_before", "limit")
_LIST_DESCENDANTS = _QUERIES["list_descendants"].taking("tenant_id", "ids", "limit")
_LIST_QUEUE_JOBS = _QUERIES["list_queue_jobs"].taking("tenant_id", "queue", "after", "until", "limit")
_LOCK_KEYS = _QUERIES["lock_idempotency_keys"].taking("tenant_id", "keys")
_LOCK_JOBS = _QUERIES["lock_jobs"].taking("tenant_id", "ids")
_LOCK_HOPELESS = _QUERIES["lock_hopeless_jobs"].taking("tenant_id", "ids")
_FORGET = _QUERIES["forget_jobs"].taking("now", "tenant_id", "ids")
_DELETE = _QUERIES["delete_jobs"].taking("tenant_id", "ids")


class DoomedJob(Struct, frozen=True, gc=False):
    """A job that is to be deleted, and the idempotency key it holds."""

    id: UUID
    idempotency_key: str | None


class Descendant(Struct, frozen=True, gc=False):
    """A job below others: its parent, and how many links below the given ones it lies."""

    job: DoomedJob
    parent_id: UUID
    depth: int


class QueuePage(Struct, frozen=True):
    """A look at some of a tenant's jobs by id: those of the queue, how many were looked at, the last one's id."""

    jobs: list[DoomedJob]
    looked_at: int
    last_id: UUID | None


class LockedJob(Struct, frozen=True, gc=False):
    """How a job stands that is locked now."""

    id: UUID
    is_dead: bool
    has_dependents: bool


async def list_purged_jobs(
    session: Session, tenant_id: int, selection: DeadSelection, *, limit: int
) -> list[DoomedJob]:
    """Return the oldest dead letters of `selection`, up to `limit`."""
    rows = await session.many(
        _LIST_PURGED, tenant_id, selection.queue, selection.queues, selection.created_before, limit
    )
    return [DoomedJob(row["id"], row["idempotency_key"]) for row in rows]


async def list_descendants(
    session: Session, tenant_id: int, ids: Sequence[UUID], *, limit: int
) -> list[Descendant]:
    """Return up to `limit` jobs below `ids`, the nearest first."""
    rows = await session.many(_LIST_DESCENDANTS, tenant_id, ids, limit)
    return [
        Descendant(DoomedJob(row["id"], row["idempotency_key"]), row["parent_id"], row["depth"])
        for row in rows
    ]


async def list_queue_jobs(
    session: Session, tenant_id: int, name: str, *, after: UUID, until: datetime, limit: int
) -> QueuePage:
    """Look at the next `limit` jobs above `after`, made until about `until`, for those of a queue."""
    row = await session.one(_LIST_QUEUE_JOBS, tenant_id, name, after, until, limit)
    if row is None:
        raise LookupError
    jobs = [
        DoomedJob(job_id, key)
        for job_id, key in zip(row["ids"] or [], row["idempotency_keys"] or [], strict=True)
    ]
    return QueuePage(jobs, row["looked_at"], row["last_id"])


async def lock_idempotency_keys(session: Session, tenant_id: int, jobs: Sequence[DoomedJob]) -> None:
    """Lock the keys that `jobs` hold. Keys come before jobs in the order of locks."""
    keys = [job.idempotency_key for job in jobs if job.idempotency_key is not None]
    if keys:
        await session.run(_LOCK_KEYS, tenant_id, keys)


async def lock_jobs(session: Session, tenant_id: int, ids: Sequence[UUID]) -> list[LockedJob]:
    """Lock jobs by id, wherever they live, and return how they stand; a job that is gone is neither."""
    rows = await session.many(_LOCK_JOBS, tenant_id, ids)
    return [LockedJob(row["id"], row["is_dead"], row["has_dependents"]) for row in rows]


async def lock_hopeless_jobs(session: Session, tenant_id: int, ids: Sequence[UUID]) -> list[UUID]:
    """Lock and return the children that wait for `ids`, and what waits for those and can never start without them."""
    return [row["id"] for row in await session.many(_LOCK_HOPELESS, tenant_id, ids)]


class Forgotten(Struct, frozen=True):
    """What became of jobs that waited for deleted ones: claimable (job, queue), or hopeless, as all else is cancelled."""

    ready: list[tuple[UUID, str]]
    hopeless: list[UUID]


async def forget_jobs(
    session: Session, tenant_id: int, ids: Sequence[UUID], now: datetime | None
) -> Forgotten:
    """Take jobs, which are locked, out of what waits for them and of their workflows."""
    rows = await session.many(_FORGET, now, tenant_id, ids)
    return Forgotten(
        [(row["id"], row["queue"]) for row in rows if row["is_ready"]],
        [row["id"] for row in rows if not row["is_ready"]],
    )


async def delete_jobs(session: Session, tenant_id: int, ids: Sequence[UUID]) -> set[UUID]:
    """Delete jobs with their history and keys; returns which there were."""
    return {row["id"] for row in await session.many(_DELETE, tenant_id, ids)}
