"""What an administrator reads and changes of any tenant."""

from datetime import datetime

from msgspec import Struct

from millstream.domain.admin import (
    ListedTenant,
    PlatformStats,
    TenantFilter,
    TenantPage,
)
from millstream.domain.usage import UsageCounts
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("admin")
_LIST = _QUERIES["list_all_tenants"].taking("now", "plan_tier", "search", "ordering", "limit", "offset")
_TOTALS = _QUERIES["get_tenant_totals"].taking("tenant_id")
_DELETE_SOFTLY = _QUERIES["delete_tenant_softly"].taking("now", "public_id")
_BY_PLAN = _QUERIES["count_tenants_by_plan"].taking()
_STATS = _QUERIES["get_platform_stats"].taking("now")


async def list_all_tenants(session: Session, wanted: TenantFilter, now: datetime | None) -> TenantPage:
    """Return a page of tenants with their usage, and how many match."""
    order = f"{wanted.sort_by} {'desc' if wanted.descending else 'asc'}"
    rows = await session.many(_LIST, now, wanted.plan_tier, wanted.search, order, wanted.limit, wanted.offset)
    listed = [_listed_tenant(row) for row in rows if row["public_id"] is not None]
    return TenantPage(listed, int(rows[0]["total"]) if rows else 0)


class TenantTotals(Struct, frozen=True):
    """A tenant's keys of any kind, and all jobs that it ever created."""

    api_keys: int
    jobs: int


async def get_tenant_totals(session: Session, tenant_id: int) -> TenantTotals:
    """Return the totals of a tenant; an unknown one has none."""
    row = await session.one(_TOTALS, tenant_id)
    if row is None:
        raise LookupError(tenant_id)
    return TenantTotals(row["api_keys"], row["jobs"])


async def delete_tenant_softly(session: Session, public_id: str, now: datetime | None) -> int | None:
    """Mark a tenant as deleted; returns its id, None when it is unknown."""
    row = await session.one(_DELETE_SOFTLY, now, public_id)
    return None if row is None else int(row["id"])


async def get_platform_stats(session: Session, *, uptime_seconds: int, now: datetime | None) -> PlatformStats:
    """Return counts over all tenants."""
    by_plan = await session.many(_BY_PLAN)
    row = await session.one(_STATS, now)
    if row is None:
        raise LookupError
    return PlatformStats(
        tenants=row["tenants"],
        active_tenants=row["active_tenants"],
        tenants_created_today=row["created_today"],
        tenants_created_this_week=row["created_this_week"],
        tenants_by_plan=[(counted["plan_tier"], counted["tenants"]) for counted in by_plan],
        jobs_pending=row["pending"],
        jobs_scheduled=row["scheduled"],
        jobs_processing=row["processing"],
        jobs_dead=row["dead"],
        jobs_completed_24h=row["completed_24h"],
        jobs_failed_24h=row["failed_24h"],
        jobs_today=row["jobs_today"],
        jobs_created=row["jobs_created"],
        workers_seen=row["seen"],
        workers_healthy=row["healthy"],
        workers_degraded=row["degraded"],
        queues=row["queues"],
        api_keys=row["api_keys"],
        uptime_seconds=uptime_seconds,
    )


def _listed_tenant(row: Row) -> ListedTenant:
    return ListedTenant(
        public_id=row["public_id"],
        name=row["name"],
        slug=row["slug"],
        plan_tier=row["plan_tier"],
        billing_email=row["billing_email"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        usage=_usage(row),
    )


def _usage(row: Row) -> UsageCounts:
    return UsageCounts(
        jobs_today=row["jobs_today"],
        active_jobs=row["active_jobs"],
        queues=row["queues"],
        workers=row["workers"],
        api_keys=row["api_keys"],
    )
