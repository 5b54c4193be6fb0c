"""State changes of jobs: each one statement over a set of rows."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import ClaimedJob, DeadSelection, Holder, JobState, Lease, NewJob
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.job_rows import claimed_from
from millstream.store.queries import load

_QUERIES = load("jobs")

_CREATE = _QUERIES["create_jobs"].taking(
    "batch_id", "now", "default_max_retries", "default_timeout_seconds", "tenant_ids", "ids", "queues", "payloads",
    "job_types", "priorities", "max_retries", "timeouts", "run_ats", "expires_ats", "idempotency_keys", "tags",
    "parent_job_ids", "webhooks", "webhook_secrets", "label_tenant_ids", "label_kinds", "labels",
)  # fmt: skip
_TOUCH = _QUERIES["touch_jobs"].taking("now", "tenant_ids", "ids")
_FIND_KNOWN = _QUERIES["find_known_jobs"].taking("tenant_ids", "ids")
_PROMOTE = _QUERIES["promote_due_jobs"].taking("now", "after", "limit")
_NEXT_RUN_AT = _QUERIES["next_run_at"].taking("now", "after")
_CLAIM = _QUERIES["claim_jobs"].taking(
    "batch_id", "now", "tenant_ids", "queues", "wants", "slot_firsts", "worker_ids", "lease_seconds", "slot_seats",
    "lease_ids",
)  # fmt: skip
_FIND_CLAIMED = _QUERIES["find_claimed_jobs"].taking("tenant_ids", "first_lease_id", "last_lease_id")
_RELEASE = _QUERIES["release_jobs"].taking("now", "tenant_ids", "ids", "lease_ids")
_COMPLETE = _QUERIES["complete_jobs"].taking(
    "batch_id", "now", "tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "results"
)
_FAIL = _QUERIES["fail_jobs"].taking(
    "batch_id", "now", "reap", "after", "tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "errors",
    "delays", "event_ids",
)  # fmt: skip
_RENEW = _QUERIES["renew_leases"].taking(
    "now", "tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "lease_seconds"
)
_JUDGE = _QUERIES["judge_jobs"].taking("now", "tenant_ids", "ids")
_FIND_ENDED = _QUERIES["find_ended_attempts"].taking("tenant_ids", "job_ids", "event_ids")
_CANCEL = _QUERIES["cancel_jobs"].taking("now", "tenant_ids", "ids", "error")
_FIND_EXPIRED = _QUERIES["find_expired_jobs"].taking("now", "limit")
_RETRY_DEAD = _QUERIES["retry_dead_jobs"].taking(
    "now", "tenant_id", "ids", "queue", "queues", "limit", "restart"
)
_PURGE_DEAD = _QUERIES["purge_dead_jobs"].taking("tenant_id", "queue", "queues", "created_before", "limit")
_SET_PRIORITY = _QUERIES["set_job_priority"].taking("now", "tenant_id", "id", "queues", "priority")
_LOCK_BATCH = "select pg_advisory_xact_lock($1)"

# Version 4 ids are never all zero.
_NOBODYS_LEASE = UUID(int=0)

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
    records = await session.many(
        _CREATE,
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
        arrays.times([job.run_at for job in jobs]),
        arrays.times([job.expires_at for job in jobs]),
        arrays.texts([job.idempotency_key for job in jobs]),
        arrays.texts([job.tags for job in jobs]),
        arrays.uuids([job.parent_job_id for job in jobs]),
        arrays.texts([job.completion_webhook for job in jobs]),
        arrays.texts([job.completion_webhook_secret for job in jobs]),
        arrays.ints([label[0] for label in labels]),
        arrays.ints([label[1] for label in labels]),
        arrays.texts([label[2] for label in labels]),
    )
    return [Created(record["id"], record["created"], record["delayed"]) for record in records]


async def touch_jobs(session: Session, keys: Sequence[tuple[int, UUID]], now: datetime | None) -> None:
    """Move `updated_at` of the jobs `keys` (tenant, id)."""
    await session.run(_TOUCH, now, [key[0] for key in keys], [key[1] for key in keys])


async def find_known_jobs(session: Session, keys: Sequence[tuple[int, UUID]]) -> set[UUID]:
    """Return those ids of `keys` (tenant, id) that are jobs of their tenant."""
    rows = await session.many(_FIND_KNOWN, [key[0] for key in keys], [key[1] for key in keys])
    return {row["id"] for row in rows}


async def lock_batch(session: Session, batch_id: int) -> None:
    """Wait until the session that ran batch `batch_id` has ended its transaction."""
    await session.one(_LOCK_BATCH, batch_id)


class Promoted(Struct, frozen=True, gc=False):
    """A waiting job that became claimable."""

    tenant_id: int
    id: UUID
    queue: str
    run_at: datetime


async def promote_due_jobs(
    session: Session, *, after: datetime, limit: int, now: datetime | None
) -> list[Promoted]:
    """Make up to `limit` due jobs claimable that were due later than `after`."""
    rows = await session.many(_PROMOTE, now, after, limit)
    return [Promoted(row["tenant_id"], row["id"], row["queue"], row["run_at"]) for row in rows]


async def seconds_to_next_run(session: Session, *, after: datetime, now: datetime | None) -> float | None:
    """Return how many seconds from now the next waiting job is due; None if none waits."""
    row = await session.one(_NEXT_RUN_AT, now, after)
    return None if row is None else float(row["in_seconds"])


class Want(Struct, frozen=True, gc=False):
    """How many jobs of one queue are wanted; they fill the slots after `slot_first` in order."""

    tenant_id: int
    queue: str
    jobs: int
    slot_first: int


class Seat(Struct, frozen=True, gc=False):
    """A caller that jobs are handed to."""

    worker_id: str
    lease_seconds: int


async def claim_jobs(
    session: Session,
    wants: Sequence[Want],
    seats: Sequence[Seat],
    slot_seats: Sequence[int],
    lease_ids: Sequence[str],
    *,
    batch_id: int,
    now: datetime | None,
) -> list[list[ClaimedJob]]:
    """Hand ready jobs out; returns the jobs of each of `seats`, best first.

    Slot by slot (from 1), `slot_seats` says which seat (from 1) a job there goes to, `lease_ids` under which lease, in hexadecimal digits.
    """
    rows = await session.many(
        _CLAIM,
        batch_id,
        now,
        [want.tenant_id for want in wants],
        [want.queue for want in wants],
        [want.jobs for want in wants],
        [want.slot_first for want in wants],
        [seat.worker_id for seat in seats],
        [seat.lease_seconds for seat in seats],
        arrays.ints(slot_seats),
        arrays.joined(lease_ids),
    )
    handed: dict[int, list[ClaimedJob]] = {seat: [] for seat in range(1, len(seats) + 1)}
    for row in sorted(rows, key=_slot_of):
        handed[slot_seats[int(row["slot"]) - 1]].append(claimed_from(row))
    return list(handed.values())


def _slot_of(row: Row) -> int:
    slot: int = row["slot"]
    return slot


async def find_claimed_jobs(
    session: Session, tenant_ids: Sequence[int], lease_head: str
) -> list[tuple[int, UUID, UUID]]:
    """Return (tenant, job, lease) of running jobs whose lease id begins with the 16 digits `lease_head`."""
    rows = await session.many(
        _FIND_CLAIMED, tenant_ids, UUID(lease_head + "0" * 16), UUID(lease_head + "f" * 16)
    )
    return [(row["tenant_id"], row["id"], row["lease_id"]) for row in rows]


async def release_jobs(
    session: Session, leases: Sequence[tuple[int, UUID, UUID]], now: datetime | None
) -> list[tuple[int, str]]:
    """Give `leases` (tenant, job, lease) back; returns the (tenant, queue) of each job that is ready again."""
    rows = await session.many(
        _RELEASE,
        now,
        [lease[0] for lease in leases],
        [lease[1] for lease in leases],
        [lease[2] for lease in leases],
    )
    return [(row["tenant_id"], row["queue"]) for row in rows]


class CompleteRow(Struct, frozen=True, gc=False):
    """A completion of one tenant's worker."""

    tenant_id: int
    lease: Lease
    result: str | None


class CompleteOutcome(Struct, frozen=True, gc=False):
    """A completion that passed its guard: where it was in the batch, and what is known of the job."""

    place: int
    queue: str
    seconds: float


class Unblocked(Struct, frozen=True, gc=False):
    """A job that became claimable because another one ended."""

    tenant_id: int
    id: UUID
    queue: str


async def complete_jobs(
    session: Session, rows: Sequence[CompleteRow], *, batch_id: int, now: datetime | None
) -> tuple[list[CompleteOutcome], list[Unblocked]]:
    """Complete `rows` (each job at most once); returns those that passed their guard, and what they unblocked."""
    order = _key_order(rows)
    rows = [rows[place] for place in order]
    leases = [row.lease for row in rows]
    records = await session.many(
        _COMPLETE,
        batch_id,
        now,
        arrays.ints([row.tenant_id for row in rows]),
        arrays.uuids([lease.job_id for lease in leases]),
        arrays.texts([lease.worker_id for lease in leases]),
        arrays.uuids([_fence(lease) for lease in leases]),
        arrays.flags([lease.check_end for lease in leases]),
        arrays.texts([row.result for row in rows]),
    )
    outcomes: list[CompleteOutcome] = []
    unblocked: list[Unblocked] = []
    for record in records:
        if record["place"] is not None:
            outcomes.append(
                CompleteOutcome(order[int(record["place"]) - 1], record["queue"], record["seconds"])
            )
        else:
            unblocked.append(Unblocked(record["tenant_id"], record["unblocked_id"], record["queue"]))
    return outcomes, unblocked


class FailRow(Struct, frozen=True, gc=False):
    """A failure of one tenant's worker; `event_id` is the history entry that will tell of it."""

    tenant_id: int
    lease: Lease
    error: str
    retry_in_seconds: int | None
    event_id: UUID


class FailOutcome(Struct, frozen=True, gc=False):
    """An attempt that ended: `place` in the batch, or None when its lease had run out."""

    place: int | None
    tenant_id: int
    job_id: UUID
    queue: str
    again: bool
    retry_in_seconds: int
    seconds: float


async def fail_jobs(
    session: Session,
    rows: Sequence[FailRow],
    *,
    batch_id: int,
    now: datetime | None,
    reap: int = 0,
    reap_after: datetime,
) -> list[FailOutcome]:
    """Fail `rows` (each job at most once) and up to `reap` jobs whose lease ran out after `reap_after`."""
    leases = [row.lease for row in rows]
    records = await session.many(
        _FAIL,
        batch_id,
        now,
        reap,
        reap_after,
        arrays.ints([row.tenant_id for row in rows]),
        arrays.uuids([lease.job_id for lease in leases]),
        arrays.texts([lease.worker_id for lease in leases]),
        arrays.uuids([_fence(lease) for lease in leases]),
        arrays.flags([lease.check_end for lease in leases]),
        arrays.texts([row.error for row in rows]),
        arrays.ints([row.retry_in_seconds for row in rows]),
        arrays.uuids([row.event_id for row in rows]),
    )
    return [
        FailOutcome(
            None if record["place"] is None else record["place"] - 1,
            record["tenant_id"],
            record["id"],
            record["queue"],
            record["again"],
            record["wait"],
            record["seconds"],
        )
        for record in records
    ]


class EndedAttempt(Struct, frozen=True, gc=False):
    """A recorded failure: its history entry, whether the job was buried, and in how many seconds it runs again."""

    event_id: UUID
    buried: bool
    retry_in_seconds: int | None


async def find_ended_attempts(session: Session, rows: Sequence[FailRow]) -> dict[UUID, EndedAttempt]:
    """Return which of `rows` were recorded, by their event ids."""
    records = await session.many(
        _FIND_ENDED,
        [row.tenant_id for row in rows],
        [row.lease.job_id for row in rows],
        [row.event_id for row in rows],
    )
    return {record["id"]: EndedAttempt(record["id"], record["buried"], record["wait"]) for record in records}


class RenewRow(Struct, frozen=True, gc=False):
    """A renewal of one tenant's worker."""

    tenant_id: int
    lease: Lease
    seconds: int


async def renew_leases(
    session: Session, rows: Sequence[RenewRow], now: datetime | None
) -> dict[int, datetime]:
    """Renew `rows` (each job at most once); returns the new ends by place, of those that passed their guard."""
    order = _key_order(rows)
    rows = [rows[place] for place in order]
    leases = [row.lease for row in rows]
    records = await session.many(
        _RENEW,
        now,
        arrays.ints([row.tenant_id for row in rows]),
        arrays.uuids([lease.job_id for lease in leases]),
        arrays.texts([lease.worker_id for lease in leases]),
        arrays.uuids([_fence(lease) for lease in leases]),
        arrays.flags([lease.check_end for lease in leases]),
        arrays.ints([row.seconds for row in rows]),
    )
    return {order[record["place"] - 1]: record["lease_expires_at"] for record in records}


async def judge_jobs(
    session: Session, keys: Sequence[tuple[int, UUID]], now: datetime | None
) -> list[Holder | None]:
    """Return how the jobs `keys` (tenant, id) stand; None for those that are unknown."""
    holders: list[Holder | None] = [None] * len(keys)
    for row in await session.many(_JUDGE, now, [key[0] for key in keys], [key[1] for key in keys]):
        holders[row["place"] - 1] = Holder(
            state=JobState(row["state"]),
            worker_id=row["worker_id"],
            lease_id=row["lease_id"],
            lease_ended=bool(row["lease_ended"]),
        )
    return holders


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


async def retry_dead_jobs(
    session: Session, tenant_id: int, selection: DeadSelection, *, restart: bool, now: datetime | None
) -> list[tuple[UUID, str]]:
    """Bring dead letters back; `restart` begins their retries anew. Returns (job, queue), oldest first."""
    ids = None if selection.job_ids is None else list(selection.job_ids)
    queue = selection.queue if ids is None else None
    rows = await session.many(
        _RETRY_DEAD, now, tenant_id, ids, queue, _listed(selection.queues), selection.limit, restart
    )
    return [(row["id"], row["queue"]) for row in rows]


async def purge_dead_jobs(session: Session, tenant_id: int, selection: DeadSelection) -> int:
    """Delete dead letters for good; returns how many."""
    row = await session.one(
        _PURGE_DEAD,
        tenant_id,
        selection.queue,
        _listed(selection.queues),
        selection.created_before,
        selection.limit,
    )
    return 0 if row is None else int(row["purged"])


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
    row: Row | None = await session.one(_SET_PRIORITY, now, tenant_id, job_id, _listed(queues), priority)
    return None if row is None else int(row["old_priority"])


def _key_order(rows: Sequence[CompleteRow] | Sequence[RenewRow]) -> list[int]:
    """Return the places of `rows` in the order of their keys, which is the order of locks everywhere."""
    keys = [(row.tenant_id, row.lease.job_id.int) for row in rows]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _fence(lease: Lease) -> UUID | None:
    return _NOBODYS_LEASE if lease.mismatch else lease.lease_id


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)
