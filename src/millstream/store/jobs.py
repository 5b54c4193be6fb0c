"""New jobs, and changes to those that nobody works on: each one statement over a set of rows."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import NewJob
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("jobs")

_CREATE_COLUMNS = (
    "batch_id", "now", "default_max_retries", "default_timeout_seconds", "tenant_ids", "ids", "queues", "payloads",
    "job_types", "priorities", "max_retries", "timeouts", "expires_ats", "tags", "parent_job_ids", "webhooks",
    "webhook_secrets", "label_tenant_ids", "label_kinds", "labels",
)  # fmt: skip
_CREATE = _QUERIES["create_jobs"].taking(*_CREATE_COLUMNS, "run_ats", "idempotency_keys")
_CREATE_PLAIN = _QUERIES["create_plain_jobs"].taking(*_CREATE_COLUMNS, "counted_tenant_ids", "counted_jobs")
_TOUCH = _QUERIES["touch_jobs"].taking("now", "tenant_ids", "ids")
_FIND_KNOWN = _QUERIES["find_known_jobs"].taking("tenant_ids", "ids")
_CANCEL = _QUERIES["cancel_jobs"].taking("now", "tenant_ids", "ids", "error")
_FIND_EXPIRED = _QUERIES["find_expired_jobs"].taking("now", "limit")
_SET_PRIORITY = _QUERIES["set_job_priority"].taking("now", "tenant_id", "id", "queues", "priority")


LABEL_QUEUE = 1
LABEL_JOB_TYPE = 2


class CreateRow(Struct, frozen=True, gc=False):
    """A job to insert, under the id that its caller will be told."""

    tenant_id: int
    id: UUID
    job: NewJob


class Created(Struct, frozen=True, gc=False):
    """What became of one `CreateRow`: `id` is another's when the idempotency key was taken."""

    id: UUID
    created: bool
    delayed: bool


class ServerDefaults(Struct, frozen=True):
    """What a job gets that neither its caller nor its queue gave it."""

    max_retries: int = 3
    timeout_seconds: int = 300


Label = tuple[int, int, str]


async def create_jobs(
    session: Session,
    rows: Sequence[CreateRow],
    *,
    batch_id: int,
    defaults: ServerDefaults,
    labels: Sequence[Label],
    now: datetime | None,
) -> list[Created]:
    """Insert `rows` and the new `labels`; idempotency keys must differ within `rows`."""
    jobs = [row.job for row in rows]
    plain = all(job.idempotency_key is None and job.run_at is None for job in jobs)
    head = [
        batch_id,
        now,
        defaults.max_retries,
        defaults.timeout_seconds,
        arrays.ints([row.tenant_id for row in rows]),
        arrays.uuids([row.id for row in rows]),
        arrays.texts([job.queue for job in jobs]),
        arrays.texts([job.payload for job in jobs]),
        arrays.texts([job.job_type for job in jobs]),
        arrays.ints([job.priority for job in jobs]),
        arrays.ints([job.max_retries for job in jobs]),
        arrays.ints([job.timeout_seconds for job in jobs]),
        arrays.times([job.expires_at for job in jobs]),
        arrays.texts([job.tags for job in jobs]),
        arrays.uuids([job.parent_job_id for job in jobs]),
        arrays.texts([job.completion_webhook for job in jobs]),
        arrays.texts([job.completion_webhook_secret for job in jobs]),
        arrays.ints([label[0] for label in labels]),
        arrays.ints([label[1] for label in labels]),
        arrays.texts([label[2] for label in labels]),
    ]
    if plain:
        counts = Counter([row.tenant_id for row in rows])
        await session.run(_CREATE_PLAIN, *head, arrays.ints(list(counts)), arrays.ints(list(counts.values())))
        return [Created(row.id, True, False) for row in rows]
    records = await session.many(
        _CREATE,
        *head,
        arrays.times([job.run_at for job in jobs]),
        arrays.texts([job.idempotency_key for job in jobs]),
    )
    return [Created(record["id"], record["created"], record["delayed"]) for record in records]


async def touch_jobs(session: Session, keys: Sequence[tuple[int, UUID]], now: datetime | None) -> None:
    """Move `updated_at` of the jobs `keys` (tenant, id)."""
    await session.run(_TOUCH, now, [key[0] for key in keys], [key[1] for key in keys])


async def find_known_jobs(session: Session, keys: Sequence[tuple[int, UUID]]) -> set[UUID]:
    """Return those ids of `keys` (tenant, id) that are jobs of their tenant."""
    rows = await session.many(_FIND_KNOWN, [key[0] for key in keys], [key[1] for key in keys])
    return {row["id"] for row in rows}


async def cancel_jobs(
    session: Session, keys: Sequence[tuple[int, UUID]], *, error: str | None, now: datetime | None
) -> list[tuple[int, UUID, str]]:
    """Cancel the jobs `keys` (tenant, id) that nobody works on, and what waited for them.

    Returns (tenant, job, queue) of each that was cancelled.
    """
    rows = await session.many(_CANCEL, now, [key[0] for key in keys], [key[1] for key in keys], error)
    return [(row["tenant_id"], row["id"], row["queue"]) for row in rows]


async def find_expired_jobs(session: Session, *, limit: int, now: datetime | None) -> list[tuple[int, UUID]]:
    """Return (tenant, job) of jobs that nobody may claim any more."""
    return [(row["tenant_id"], row["id"]) for row in await session.many(_FIND_EXPIRED, now, limit)]


async def set_job_priority(
    session: Session,
    tenant_id: int,
    job_id: UUID,
    priority: int,
    *,
    queues: Sequence[str] | None,
    now: datetime | None,
) -> int | None:
    """Change the priority of a waiting job and return the old one; None when there is no such job."""
    row: Row | None = await session.one(_SET_PRIORITY, now, tenant_id, job_id, queues, priority)
    return None if row is None else int(row["old_priority"])
