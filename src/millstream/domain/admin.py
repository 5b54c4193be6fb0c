"""What an administrator sees of all tenants. Contract: spooled-tenancy 6."""

from datetime import datetime

from msgspec import Struct

from millstream.domain.tenant import Tenant
from millstream.domain.usage import UsageCounts

SORT_KEYS = frozenset({"name", "slug", "plan_tier", "created_at", "updated_at"})
SUBSCRIPTION_STATUSES = frozenset({"active", "past_due", "canceled", "unpaid", "trialing", "incomplete"})


class TenantFilter(Struct, frozen=True, kw_only=True):
    """Which tenants to list: of one tier, with `search` in name or slug; None is any. `sort_by` is one of SORT_KEYS."""

    plan_tier: str | None = None
    search: str | None = None
    sort_by: str = "created_at"
    descending: bool = True
    limit: int = 50
    offset: int = 0


class ListedTenant(Struct, frozen=True, kw_only=True):
    """A tenant in the administrator's list."""

    public_id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    created_at: datetime
    updated_at: datetime
    usage: UsageCounts


class TenantPage(Struct, frozen=True):
    """Some of the tenants that match, and how many match."""

    tenants: list[ListedTenant]
    total: int


class TenantDetails(Struct, frozen=True, kw_only=True):
    """A tenant with its usage, its keys (revoked ones included) and all jobs that it ever created."""

    tenant: Tenant
    usage: UsageCounts
    api_keys: int
    total_jobs: int


class PlatformStats(Struct, frozen=True, kw_only=True):
    """Counts over all tenants. "Seen" workers had a heartbeat in the last minute; days begin at midnight UTC."""

    tenants: int
    active_tenants: int
    tenants_created_today: int
    tenants_created_this_week: int
    tenants_by_plan: list[tuple[str, int]]
    jobs_pending: int
    jobs_scheduled: int
    jobs_processing: int
    jobs_dead: int
    jobs_completed_24h: int
    jobs_failed_24h: int
    jobs_today: int
    jobs_created: int
    workers_seen: int
    workers_healthy: int
    workers_degraded: int
    queues: int
    api_keys: int
    uptime_seconds: int
