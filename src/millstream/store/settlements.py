"""Settlements: completions, failures and renewals; each one statement over a set of rows."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import Holder, JobState, Lease
from millstream.store import arrays
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("settlements")

_COMPLETE = _QUERIES["complete_jobs"].taking(
    "batch_id", "now", "tell", "tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "results"
)
_FAIL = _QUERIES["fail_jobs"].taking(
    "batch_id", "now", "reap", "lookback_seconds", "tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "errors",
    "delays", "event_ids",
)  # fmt: skip
_RENEW = _QUERIES["renew_leases"].taking(
    "now", "tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "lease_seconds"
)
_JUDGE = _QUERIES["judge_jobs"].taking("now", "tenant_ids", "ids")
_FIND_COMPLETED = _QUERIES["find_completed_jobs"].taking("now", "tenant_ids", "ids")
_FIND_ENDED = _QUERIES["find_ended_attempts"].taking("tenant_ids", "job_ids", "event_ids")
# Version 4 ids are never all zero.
_NOBODYS_LEASE = UUID(int=0)


class CompleteRow(Struct, frozen=True, gc=False):
    """A completion of one tenant's worker."""

    tenant_id: int
    lease: Lease
    result: str | None


class CompleteOutcome(Struct, frozen=True, gc=False):
    """The completions that passed their guard: where each was in the batch, how long it ran, and its queue if asked for."""

    places: Sequence[int]
    seconds: Sequence[float]
    queues: Sequence[str]


class Unblocked(Struct, frozen=True, gc=False):
    """A job that became claimable because another one ended."""

    tenant_id: int
    id: UUID
    queue: str


class Released(Struct, frozen=True, gc=False):
    """What completions let go, and whether any of them was of a workflow."""

    jobs: Sequence[Unblocked]
    workflows_changed: bool


_NOTHING = Released((), False)


async def complete_jobs(
    session: Session, rows: Sequence[CompleteRow], *, batch_id: int, tell: bool, now: datetime | None
) -> tuple[CompleteOutcome, Released]:
    """Complete `rows` (each job at most once); returns those that passed their guard, and what they let go.

    With `tell` their queues are looked up too, which nobody but a listener wants to know.
    """
    order = _key_order(rows)
    rows = [rows[place] for place in order]
    leases = [row.lease for row in rows]
    record = await session.one(
        _COMPLETE,
        batch_id,
        now,
        tell,
        arrays.ints([row.tenant_id for row in rows]),
        arrays.uuids([lease.job_id for lease in leases]),
        arrays.texts([lease.worker_id for lease in leases]),
        arrays.uuids([_fence(lease) for lease in leases]),
        arrays.flags([lease.check_end for lease in leases]),
        arrays.texts([row.result for row in rows]),
    )
    if record is None or record["places"] is None:
        return CompleteOutcome((), (), ()), _NOTHING
    places: list[int] = record["places"]
    outcome = CompleteOutcome(
        [order[place - 1] for place in places], record["seconds"], record["queues"] or ()
    )
    if record["unblocked_ids"] is None and not record["workflows_changed"]:
        return outcome, _NOTHING
    unblocked = zip(
        record["unblocked_tenant_ids"] or (),
        record["unblocked_ids"] or (),
        record["unblocked_queues"] or (),
        strict=True,
    )
    return outcome, Released([Unblocked(*job) for job in unblocked], bool(record["workflows_changed"]))


class CompletedJob(Struct, frozen=True, gc=False):
    """Who completed a job under which lease, and how many seconds ago."""

    worker_id: str | None
    lease_id: UUID | None
    seconds_ago: float


async def find_completed_jobs(
    session: Session, keys: Sequence[tuple[int, UUID]], now: datetime | None
) -> list[CompletedJob | None]:
    """Return who completed the jobs `keys` (tenant, id); None for those that are not completed."""
    found: list[CompletedJob | None] = [None] * len(keys)
    for row in await session.many(_FIND_COMPLETED, now, [key[0] for key in keys], [key[1] for key in keys]):
        found[row["place"] - 1] = CompletedJob(row["worker_id"], row["lease_id"], row["seconds_ago"])
    return found


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
    lookback_seconds: int = 0,
) -> list[FailOutcome]:
    """Fail `rows` (each job at most once) and up to `reap` jobs whose lease ran out in the last
    `lookback_seconds`.
    """
    leases = [row.lease for row in rows]
    records = await session.many(
        _FAIL,
        batch_id,
        now,
        reap,
        lookback_seconds,
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


def _key_order(rows: Sequence[CompleteRow] | Sequence[RenewRow]) -> list[int]:
    """Return the places of `rows` in the order of their keys, which is the order of locks everywhere."""
    keys = [(row.tenant_id, row.lease.job_id.int) for row in rows]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _fence(lease: Lease) -> UUID | None:
    return _NOBODYS_LEASE if lease.mismatch else lease.lease_id
