"""What tenants have used of what their plans limit. Where it decides, it is read under the lock of their rows."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.usage import UsageCounts
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("quotas")
_LOCK = _QUERIES["lock_tenants"].taking("tenant_ids")
_JOB_USAGE = _QUERIES["count_job_usage"].taking("now", "tenant_ids", "active_maxes")
_KNOWN_KEYS = _QUERIES["find_known_keys"].taking("tenant_ids", "keys")
_RESET_TODAY = _QUERIES["reset_jobs_today"].taking("now", "tenant_id", "today")
_USAGE = _QUERIES["count_usage"].taking("now", "tenant_id", "active_max")
_QUEUES = _QUERIES["count_queues"].taking("tenant_id")


class JobUsage(Struct, frozen=True):
    """Jobs created since midnight UTC, and active ones counted up to a bound."""

    today: int
    active: int


async def lock_tenants(session: Session, tenant_ids: Sequence[int]) -> set[int]:
    """Hold the tenants' rows until the transaction ends, and return those ids that are tenants.

    What they have used cannot grow meanwhile. Count it by statements that follow.
    """
    return {row["id"] for row in await session.many(_LOCK, list(tenant_ids))}


async def lock_tenant(session: Session, tenant_id: int) -> None:
    """Hold one tenant's row until the transaction ends."""
    await lock_tenants(session, (tenant_id,))


async def count_job_usage(
    session: Session, tenants: Sequence[tuple[int, int | None]], *, now: datetime | None
) -> dict[int, JobUsage]:
    """Return what `tenants` (id, limit of active jobs) have used.

    Active jobs are counted up to one more than their limit, and not at all where there is none.
    """
    rows = await session.many(
        _JOB_USAGE,
        now,
        [tenant_id for tenant_id, _ in tenants],
        [0 if active_max is None else active_max + 1 for _, active_max in tenants],
    )
    return {row["tenant_id"]: JobUsage(row["today"], row["active"]) for row in rows}


async def find_known_keys(session: Session, keys: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return those of the idempotency `keys` (tenant, key) that a job of the tenant holds."""
    rows = await session.many(_KNOWN_KEYS, [key[0] for key in keys], [key[1] for key in keys])
    return {(row["tenant_id"], row["key"]) for row in rows}


async def reset_jobs_today(session: Session, tenant_id: int, now: datetime | None) -> None:
    """Let the tenant's count of jobs created today begin at 0; totals over longer times keep them.

    Needs a transaction. Contract: spooled-tenancy 6.7.
    """
    await lock_tenant(session, tenant_id)
    usage = await count_job_usage(session, [(tenant_id, None)], now=now)
    await session.run(_RESET_TODAY, now, tenant_id, usage[tenant_id].today)


async def count_usage(
    session: Session, tenant_id: int, *, active_max: int | None, now: datetime | None
) -> UsageCounts:
    """Return what the tenant uses; active jobs are counted up to `active_max`, or all of them."""
    row = await session.one(_USAGE, now, tenant_id, active_max)
    if row is None:
        raise LookupError(tenant_id)
    return UsageCounts(
        jobs_today=row["jobs_today"],
        active_jobs=row["active_jobs"],
        queues=row["queues"],
        workers=row["workers"],
        api_keys=row["api_keys"],
        schedules=row["schedules"],
        webhooks=row["webhooks"],
        workflows=row["workflows"],
    )


async def count_queues(session: Session, tenant_id: int) -> int:
    """Return how many queues the tenant has configured."""
    row = await session.one(_QUEUES, tenant_id)
    return 0 if row is None else int(row["queues"])
