"""The bodies of `/admin`. Contract: spooled-tenancy 2.4, 2.5, 6."""

from msgspec import UNSET, Struct, UnsetType

from millstream.api.spooled.answers import IssuedKeyBody, OrganizationBody
from millstream.api.spooled.requests import Opaque
from millstream.api.spooled.usage_bodies import PlanLimitsBody, UsageBody


class CreateOrganizationAsAdmin(Struct, frozen=True, kw_only=True):
    """`POST /admin/organizations`."""

    name: str
    slug: str
    plan_tier: str | None = None
    billing_email: str | None = None
    settings: Opaque = UNSET
    custom_limits: Opaque = UNSET


class UpdateOrganizationAsAdmin(Struct, frozen=True, kw_only=True):
    """`PATCH /admin/organizations/{id}`. Null keeps, but clears `custom_limits` and what begins with `stripe_`."""

    name: str | None = None
    plan_tier: str | None = None
    billing_email: str | None = None
    description: str | None = None
    settings: Opaque = UNSET
    custom_limits: Opaque = UNSET
    is_active: bool | None = None
    stripe_customer_id: str | None | UnsetType = UNSET
    stripe_subscription_id: str | None | UnsetType = UNSET
    stripe_subscription_status: str | None | UnsetType = UNSET


class AdminUsage(Struct, kw_only=True):
    """What an organization uses."""

    jobs_today: int
    active_jobs: int
    queues: int
    workers: int
    api_keys: int


class AdminOrganization(Struct, kw_only=True):
    """An organization in the administrator's list."""

    id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    created_at: str
    updated_at: str
    usage: AdminUsage


class AdminOrganizations(Struct):
    """A page of organizations, and how many match."""

    organizations: list[AdminOrganization]
    total: int
    limit: int
    offset: int


class AdminOrganizationCreated(OrganizationBody, kw_only=True):
    """A new organization with its first key; older clients read its fields beside it."""

    organization: OrganizationBody
    api_key: IssuedKeyBody


class AdminPlan(PlanLimitsBody, kw_only=True):
    """A plan, flat and, for other clients, nested."""

    description: str
    limits: PlanLimitsBody


class AdminOrganizationDetails(OrganizationBody, kw_only=True):
    """Everything about an organization."""

    usage: AdminUsage
    usage_info: UsageBody
    api_keys_count: int
    total_jobs: int


class PlanCount(Struct):
    """How many organizations have a plan."""

    plan: str
    count: int


class OrganizationStats(Struct, kw_only=True):
    """Counts of organizations."""

    total: int
    by_plan: list[PlanCount]
    created_today: int
    created_this_week: int


class JobStats(Struct, kw_only=True):
    """Counts of jobs."""

    total_active: int
    pending: int
    processing: int
    completed_24h: int
    failed_24h: int


class WorkerStats(Struct, kw_only=True):
    """Counts of workers that were heard of in the last minute."""

    total: int
    healthy: int
    degraded: int


class SystemStats(Struct):
    """The process that answered."""

    api_version: str
    uptime_seconds: int


class AdminStats(Struct, kw_only=True):
    """Counts over everything; the flat ones serve older clients."""

    organizations: OrganizationStats
    jobs: JobStats
    workers: WorkerStats
    system: SystemStats
    total_organizations: int
    active_organizations: int
    total_jobs: int
    jobs_today: int
    total_workers: int
    total_queues: int
    total_api_keys: int
    jobs_by_status: dict[str, int]
    organizations_by_plan: dict[str, int]
