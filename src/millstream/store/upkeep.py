"""What background loops do to the database: fold, prune, lead, look after partitions and vacuum."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("upkeep")
_FOLD = _QUERIES["fold_counters"].taking("limit")
_LEAD = _QUERIES["lead"].taking("now", "name", "holder", "seconds")
_RESIGN = _QUERIES["resign"].taking("name", "holder")
_PRUNE_DONE = _QUERIES["prune_done_jobs"].taking("tenant_ids", "finished_befores", "limit")
_PRUNE_EVENTS = _QUERIES["prune_job_events"].taking("tenant_ids", "befores", "limit")
_PLANS = _QUERIES["list_tenant_plans"].taking("after", "limit")
_TIME = _QUERIES["get_database_time"].taking("now")
_OLD_TRANSACTION = _QUERIES["find_old_transaction"].taking()
_DEAD_TUPLES = _QUERIES["list_dead_tuples"].taking()
_DROP_PARTITIONS = "select millstream.drop_empty_done_partitions($1::timestamptz) as dropped"
_ADD_PARTITION = "select millstream.add_done_partition($1::timestamptz) as added"


async def fold_counters(session: Session, *, limit: int) -> int:
    """Fold up to `limit` deltas into their totals; returns how many there were."""
    row = await session.one(_FOLD, limit)
    return 0 if row is None else int(row["folded"])


async def lead(session: Session, name: str, holder: UUID, *, seconds: int, now: datetime | None) -> bool:
    """Take or keep the lead `name` for `seconds`; False when another process has it."""
    return await session.one(_LEAD, now, name, holder, seconds) is not None


async def resign(session: Session, name: str, holder: UUID) -> None:
    """Give up the lead `name`, if it is held."""
    await session.run(_RESIGN, name, holder)


class TenantPlan(Struct, frozen=True):
    """Which plan a tenant has."""

    id: int
    plan_tier: str
    custom_limits: str | None


async def list_tenant_plans(session: Session, *, after: int, limit: int) -> list[TenantPlan]:
    """Return tenants by id, those above `after`."""
    return [
        TenantPlan(row["id"], row["plan_tier"], row["custom_limits"])
        for row in await session.many(_PLANS, after, limit)
    ]


async def prune_done_jobs(session: Session, bounds: Sequence[tuple[int, datetime]], *, limit: int) -> int:
    """Delete up to `limit` jobs that finished before their tenant's bound; returns how many."""
    row = await session.one(
        _PRUNE_DONE, [bound[0] for bound in bounds], [bound[1] for bound in bounds], limit
    )
    return 0 if row is None else int(row["pruned"])


async def prune_job_events(session: Session, bounds: Sequence[tuple[int, datetime]], *, limit: int) -> int:
    """Delete up to `limit` history entries older than their tenant's bound; returns how many."""
    row = await session.one(
        _PRUNE_EVENTS, [bound[0] for bound in bounds], [bound[1] for bound in bounds], limit
    )
    return 0 if row is None else int(row["pruned"])


async def get_database_time(session: Session, now: datetime | None) -> datetime:
    """Return the database's time, or the steered one."""
    row = await session.one(_TIME, now)
    if row is None:
        raise LookupError
    at: datetime = row["at"]
    return at


async def act_as(session: Session, role: str) -> None:
    """Take the role `role` on a session of its own, for work that takes its time."""
    await session.one(
        "select set_config('role', $1, false), set_config('statement_timeout', '0', false),"
        " set_config('lock_timeout', '1s', false)",
        role,
    )


async def add_partition(session: Session, at: datetime) -> bool:
    """Make the partition of finished jobs of the week of `at`; returns whether it was missing.

    Raises PoisonRow when finished jobs of that week lie in the partition for the rest already: there they
    stay. Needs the owner's role.
    """
    row = await session.one(_ADD_PARTITION, at)
    return row is not None and bool(row["added"])


async def drop_empty_partitions(session: Session, ends_before: datetime) -> int:
    """Drop the partitions of finished jobs that end before a time and hold none any more; returns how many.

    Needs the owner's role.
    """
    row = await session.one(_DROP_PARTITIONS, ends_before)
    return 0 if row is None else int(row["dropped"])


class OldTransaction(Struct, frozen=True):
    """Who holds the oldest snapshot, and for how long."""

    pid: int
    application_name: str
    username: str
    seconds: float


async def find_old_transaction(session: Session) -> OldTransaction | None:
    """Return the session with the oldest open snapshot, if any."""
    row = await session.one(_OLD_TRANSACTION)
    if row is None:
        return None
    return OldTransaction(row["pid"], row["application_name"], row["username"], row["seconds"])


class DeadTuples(Struct, frozen=True):
    """How many dead rows a hot table carries."""

    relation: str
    dead: int
    live: int


async def list_dead_tuples(session: Session) -> list[DeadTuples]:
    """Return the dead rows of the hot tables, as last reported."""
    return [DeadTuples(row["relation"], row["dead"], row["live"]) for row in await session.many(_DEAD_TUPLES)]


async def vacuum(session: Session, relation: str) -> None:
    """Vacuum one hot table of ours. Needs the owner's role and no transaction."""
    if not relation.isidentifier():
        raise ValueError(relation)
    await session.run(f"vacuum (analyze) millstream.{relation}")
