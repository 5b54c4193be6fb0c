"""Reads of jobs on behalf of one tenant: each one statement, wherever the jobs live."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import Job, JobFilter, JobOrder, JobState, JobStatus
from millstream.store.database import Session
from millstream.store.job_rows import job_from, status_from
from millstream.store.jobs import LABEL_QUEUE
from millstream.store.queries import load

_QUERIES = load("job_reads")
_FILTER = (
    "tenant_id", "queues", "queue", "states", "job_type", "created_from", "created_before", "id_from", "id_to",
    "queue_matches", "type_matches", "tag", "limit", "offset",
)  # fmt: skip
_FIND = _QUERIES["find_job"].taking("tenant_id", "id", "queues")
_NEWEST = _QUERIES["list_jobs_newest"].taking(*_FILTER)
_OLDEST = _QUERIES["list_jobs_oldest"].taking(*_FILTER)
_SORTED = _QUERIES["list_jobs_sorted"].taking(*_FILTER, "sort", "descending")
_STATUSES = _QUERIES["list_job_statuses"].taking("tenant_id", "ids", "queues")
_COUNT = _QUERIES["count_jobs"].taking("tenant_id", "queues")
_EVENTS = _QUERIES["list_job_events"].taking("tenant_id", "job_id")
_LABELS = _QUERIES["find_labels"].taking("tenant_id", "pattern")
_GAUGES = _QUERIES["count_job_gauges"].taking("now")


async def find_job(
    session: Session, tenant_id: int, job_id: UUID, queues: Sequence[str] | None
) -> Job | None:
    """Return a job of the tenant within `queues` (None: all), or None."""
    row = await session.one(_FIND, tenant_id, job_id, _listed(queues))
    return None if row is None else job_from(row)


async def list_jobs(session: Session, tenant_id: int, wanted: JobFilter) -> list[Job]:
    """Return the jobs of a page and one more, if there is one."""
    arguments: list[object] = [
        tenant_id,
        _listed(wanted.queues),
        wanted.queue,
        None if wanted.states is None else [int(state) for state in wanted.states],
        wanted.job_type,
        wanted.created_from,
        wanted.created_before,
        *await _search(session, tenant_id, wanted.search),
        wanted.tag,
        wanted.limit + 1,
        wanted.offset,
    ]
    if wanted.order is JobOrder.CREATED_AT:
        rows = await session.many(_NEWEST if wanted.descending else _OLDEST, *arguments)
        jobs = [job_from(row) for row in rows]
        # Pages go by id, which begins with the time of creation; within a page the database's clock decides.
        shown, extra = jobs[: wanted.limit], jobs[wanted.limit :]
        shown.sort(key=_by_creation, reverse=wanted.descending)
        return shown + extra
    rows = await session.many(_SORTED, *arguments, int(wanted.order), wanted.descending)
    return [job_from(row) for row in rows]


def _by_creation(job: Job) -> tuple[datetime, UUID]:
    return job.created_at, job.id


async def _search(
    session: Session, tenant_id: int, text: str | None
) -> tuple[UUID | None, UUID | None, list[str], list[str]]:
    if not text:
        return None, None, [], []
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    queues: list[str] = []
    types: list[str] = []
    for row in await session.many(_LABELS, tenant_id, pattern):
        (queues if row["kind"] == LABEL_QUEUE else types).append(row["label"])
    return *_ids_beginning_with(text), queues, types


def _ids_beginning_with(text: str) -> tuple[UUID, UUID]:
    digits = text.lower()
    template = "00000000-0000-0000-0000-000000000000"
    if len(digits) <= 36 and all(
        (a == "-") == (b == "-") and (a == "-" or a in "0123456789abcdef")
        for a, b in zip(digits, template, strict=False)
    ):
        rest = template[len(digits) :]
        return UUID(digits + rest), UUID(digits + rest.replace("0", "f"))
    # No id begins with that: an empty range keeps the search on, by queue and type.
    return UUID(int=1), UUID(int=0)


async def list_job_statuses(
    session: Session, tenant_id: int, job_ids: Sequence[UUID], queues: Sequence[str] | None
) -> list[JobStatus]:
    """Return the facts of those jobs that exist, in the order of `job_ids`."""
    rows = await session.many(_STATUSES, tenant_id, list(job_ids), _listed(queues))
    return [status_from(row) for row in rows]


async def count_jobs(session: Session, tenant_id: int, queues: Sequence[str] | None) -> dict[JobState, int]:
    """Return how many jobs are in each state."""
    counts = dict.fromkeys(JobState, 0)
    for row in await session.many(_COUNT, tenant_id, _listed(queues)):
        counts[JobState(row["state"])] = int(row["jobs"])
    return counts


class EventRow(Struct, frozen=True):
    """A stored entry of a job's history; an ended attempt tells also under which lease it was claimed, and when."""

    id: UUID
    kind: int
    buried: bool
    worker_id: str | None
    lease_id: UUID | None
    claimed_at: datetime | None
    at: datetime
    error: str | None


async def list_job_events(session: Session, tenant_id: int, job_id: UUID) -> list[EventRow]:
    """Return the stored history of a job, oldest first."""
    rows = await session.many(_EVENTS, tenant_id, job_id)
    return [
        EventRow(
            row["id"],
            row["kind"],
            row["buried"],
            row["worker_id"],
            row["lease_id"],
            row["claimed_at"],
            row["at"],
            row["error"],
        )
        for row in rows
    ]


class JobGauges(Struct, frozen=True):
    """What waits and runs over all tenants."""

    pending: int
    processing: int
    oldest_seconds: float


async def count_job_gauges(session: Session, now: datetime | None) -> JobGauges:
    """Return what waits and runs over all tenants."""
    row = await session.one(_GAUGES, now)
    return (
        JobGauges(0, 0, 0.0)
        if row is None
        else JobGauges(row["pending"], row["processing"], row["oldest_seconds"])
    )


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)
