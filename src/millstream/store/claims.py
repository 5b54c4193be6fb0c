"""Claims: due jobs made ready, ready jobs leased, leases given back; each one statement over a set of rows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import ClaimedJob
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.job_rows import claimed_from
from millstream.store.queries import load

_QUERIES = load("claims")

_PROMOTE = _QUERIES["promote_due_jobs"].taking("now", "lookback_seconds", "limit")
_NEXT_RUN_AT = _QUERIES["next_run_at"].taking("now", "lookback_seconds")
_CLAIM_COLUMNS = (
    "batch_id", "now", "tenant_ids", "queues", "wants", "slot_firsts", "worker_ids", "lease_seconds", "slot_seats",
    "lease_ids",
)  # fmt: skip
_CLAIM = _QUERIES["claim_jobs"].taking(*_CLAIM_COLUMNS)
_CLAIM_ONWARD = _QUERIES["claim_jobs_onward"].taking(*_CLAIM_COLUMNS, "levels", "sinces")
_FIND_CLAIMED = _QUERIES["find_claimed_jobs"].taking("tenant_ids", "first_lease_id", "last_lease_id")
_RELEASE = _QUERIES["release_jobs"].taking("now", "tenant_ids", "ids", "lease_ids")


class Promoted(Struct, frozen=True, gc=False):
    """A waiting job that became claimable."""

    tenant_id: int
    id: UUID
    queue: str
    run_at: datetime


async def promote_due_jobs(
    session: Session, *, lookback_seconds: int, limit: int, now: datetime | None
) -> list[Promoted]:
    """Make up to `limit` jobs claimable that became due within the last `lookback_seconds`."""
    rows = await session.many(_PROMOTE, now, lookback_seconds, limit)
    return [Promoted(row["tenant_id"], row["id"], row["queue"], row["run_at"]) for row in rows]


async def seconds_to_next_run(
    session: Session, *, lookback_seconds: int, now: datetime | None
) -> float | None:
    """Return how many seconds from now the next waiting job is due; None if none waits."""
    row = await session.one(_NEXT_RUN_AT, now, lookback_seconds)
    return None if row is None else float(row["in_seconds"])


class Position(Struct, frozen=True, gc=False):
    """How far a queue is claimed: at priority `level`, only jobs that came back were created before `since`."""

    level: int
    since: datetime


class Want(Struct, frozen=True, gc=False):
    """How many jobs of one queue are wanted; they fill the slots after `slot_first` in order."""

    tenant_id: int
    queue: str
    jobs: int
    slot_first: int
    position: Position | None = None


class Seat(Struct, frozen=True, gc=False):
    """A caller that jobs are handed to."""

    worker_id: str
    lease_seconds: int


# Above every priority: all of a queue lies below it.
_NOWHERE = Position(32_767, datetime(1970, 1, 1, tzinfo=UTC))


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
    columns = (
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
    positions = [want.position or _NOWHERE for want in wants]
    if any(position is not _NOWHERE for position in positions):
        rows = await session.many(
            _CLAIM_ONWARD,
            *columns,
            [position.level for position in positions],
            [position.since for position in positions],
        )
    else:
        rows = await session.many(_CLAIM, *columns)
    handed: dict[int, list[ClaimedJob]] = {seat: [] for seat in range(1, len(seats) + 1)}
    for row in sorted(rows, key=_slot_of):
        handed[slot_seats[int(row["slot"]) - 1]].append(claimed_from(row))
    return list(handed.values())


async def find_claimed_jobs(
    session: Session, tenant_ids: Sequence[int], lease_head: str
) -> list[tuple[int, UUID, UUID]]:
    """Return (tenant, job, lease) of running jobs whose lease id begins with the 16 digits `lease_head`."""
    rows = await session.many(
        _FIND_CLAIMED, tenant_ids, UUID(lease_head + "0" * 16), UUID(lease_head + "f" * 16)
    )
    return [(row["tenant_id"], row["id"], row["lease_id"]) for row in rows]


class ReleasedJob(Struct, frozen=True, gc=False):
    """A job that is ready again because its lease was given back."""

    tenant_id: int
    id: UUID
    queue: str


async def release_jobs(
    session: Session, leases: Sequence[tuple[int, UUID, UUID]], now: datetime | None
) -> list[ReleasedJob]:
    """Give `leases` (tenant, job, lease), in the order of their jobs, back; returns the jobs that are ready again."""
    rows = await session.many(
        _RELEASE,
        now,
        [lease[0] for lease in leases],
        [lease[1] for lease in leases],
        [lease[2] for lease in leases],
    )
    return [ReleasedJob(row["tenant_id"], row["id"], row["queue"]) for row in rows]


def _slot_of(row: Row) -> int:
    slot: int = row["slot"]
    return slot
