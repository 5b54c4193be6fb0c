"""What the administrator is shown, made of domain values. Contract: spooled-tenancy 2.4, 2.5, 6."""

from msgspec import structs

from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import admin_bodies as bodies
from millstream.api.spooled.translate import organization_body
from millstream.domain import custom_limits
from millstream.domain.admin import ListedTenant, PlatformStats, TenantDetails, TenantUsage
from millstream.domain.errors import InvalidField
from millstream.domain.tenant import Plan, Tenant, plan_of

_WARNED_PERCENT = 80
_WARNED_PERCENT_FREE = 50


def listed_body(tenant: ListedTenant) -> bodies.AdminOrganization:
    """Return a row of the list."""
    return bodies.AdminOrganization(
        id=tenant.public_id,
        name=tenant.name,
        slug=tenant.slug,
        plan_tier=tenant.plan_tier,
        billing_email=tenant.billing_email,
        created_at=format_timestamp(tenant.created_at),
        updated_at=format_timestamp(tenant.updated_at),
        usage=_usage_body(tenant.usage),
    )


def details_body(details: TenantDetails) -> bodies.AdminOrganizationDetails:
    """Return everything about an organization."""
    return bodies.AdminOrganizationDetails(
        **structs.asdict(organization_body(details.tenant)),
        usage=_usage_body(details.usage),
        usage_info=_usage_info(details.tenant, details.usage),
        api_keys_count=details.api_keys,
        total_jobs=details.total_jobs,
    )


def plan_body(plan: Plan) -> bodies.AdminPlan:
    """Return a plan, flat and nested."""
    limits = _limits_body(plan)
    description = f"{plan.display_name} plan"
    return bodies.AdminPlan(**structs.asdict(limits), description=description, limits=limits)


def stats_body(stats: PlatformStats) -> bodies.AdminStats:
    """Return the counts over everything."""
    active = stats.jobs_pending + stats.jobs_scheduled + stats.jobs_processing
    return bodies.AdminStats(
        organizations=bodies.OrganizationStats(
            total=stats.tenants,
            by_plan=[bodies.PlanCount(tier, count) for tier, count in stats.tenants_by_plan],
            created_today=stats.tenants_created_today,
            created_this_week=stats.tenants_created_this_week,
        ),
        jobs=bodies.JobStats(
            total_active=active,
            pending=stats.jobs_pending,
            processing=stats.jobs_processing,
            completed_24h=stats.jobs_completed_24h,
            failed_24h=stats.jobs_failed_24h,
        ),
        workers=bodies.WorkerStats(
            total=stats.workers_seen, healthy=stats.workers_healthy, degraded=stats.workers_degraded
        ),
        system=bodies.SystemStats("v1", stats.uptime_seconds),
        total_organizations=stats.tenants,
        active_organizations=stats.active_tenants,
        total_jobs=stats.jobs_created,
        jobs_today=stats.jobs_today,
        total_workers=stats.workers_seen,
        total_queues=stats.queues,
        total_api_keys=stats.api_keys,
        # Finished jobs are not among them: counting those of all tenants would read all that retention keeps.
        jobs_by_status={
            "pending": stats.jobs_pending,
            "scheduled": stats.jobs_scheduled,
            "processing": stats.jobs_processing,
            "deadletter": stats.jobs_dead,
        },
        organizations_by_plan=dict(stats.tenants_by_plan),
    )


def _usage_body(usage: TenantUsage) -> bodies.AdminUsage:
    return bodies.AdminUsage(**structs.asdict(usage))


def _limits_body(plan: Plan) -> bodies.AdminPlanLimits:
    known = set(bodies.AdminPlanLimits.__struct_fields__)
    return bodies.AdminPlanLimits(
        **{name: value for name, value in structs.asdict(plan).items() if name in known}
    )


def _usage_info(tenant: Tenant, usage: TenantUsage) -> bodies.AdminUsageInfo:
    plan = _effective_plan(tenant)
    counted: dict[str, tuple[int, int | None]] = {
        "jobs_today": (usage.jobs_today, plan.max_jobs_per_day),
        "active_jobs": (usage.active_jobs, plan.max_active_jobs),
        "queues": (usage.queues, plan.max_queues),
        "workers": (usage.workers, plan.max_workers),
        "api_keys": (usage.api_keys, plan.max_api_keys),
        "schedules": (0, plan.max_schedules),
        "workflows": (0, plan.max_workflows),
        "webhooks": (0, plan.max_webhooks),
    }
    items = {
        name: bodies.AdminUsageItem(
            current, limit, current / limit * 100 if limit else None, name == "workflows" and limit == 0
        )
        for name, (current, limit) in counted.items()
    }
    return bodies.AdminUsageInfo(
        plan=tenant.plan_tier,
        plan_display_name=plan.display_name,
        limits=_limits_body(plan),
        usage=items,
        warnings=_warnings(plan, items),
    )


def _effective_plan(tenant: Tenant) -> Plan:
    plan = plan_of(tenant.plan_tier)
    if tenant.custom_limits is None:
        return plan
    try:
        return structs.replace(plan, **custom_limits.parse(tenant.custom_limits))
    except InvalidField:
        return plan


def _warnings(plan: Plan, items: dict[str, bodies.AdminUsageItem]) -> list[bodies.AdminUsageWarning]:
    threshold = _WARNED_PERCENT_FREE if plan.tier == "free" else _WARNED_PERCENT
    warnings: list[bodies.AdminUsageWarning] = []
    for name, item in items.items():
        resource = "jobs_per_day" if name == "jobs_today" else name
        words = resource.replace("_", " ")
        if item.percentage is None or item.percentage < threshold:
            continue
        if item.percentage >= 100:
            warnings.append(bodies.AdminUsageWarning(resource, f"{words} limit reached", "critical"))
        else:
            message = f"{words} at {round(item.percentage)}% of limit"
            warnings.append(bodies.AdminUsageWarning(resource, message, "warning"))
    return warnings
