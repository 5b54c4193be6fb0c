"""What the administrator is shown, made of domain values. Contract: spooled-tenancy 2.4, 2.5, 6."""

from msgspec import structs

from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import admin_bodies as bodies
from millstream.api.spooled.translate import organization_body
from millstream.api.spooled.usage_bodies import plan_limits_body, usage_body
from millstream.domain.admin import ListedTenant, PlatformStats, TenantDetails
from millstream.domain.plan import Plan, plan_of
from millstream.domain.usage import UsageCounts, report_usage


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
    plan = plan_of(details.tenant.plan_tier, details.tenant.custom_limits)
    return bodies.AdminOrganizationDetails(
        **structs.asdict(organization_body(details.tenant)),
        usage=_usage_body(details.usage),
        usage_info=usage_body(report_usage(plan, details.usage)),
        api_keys_count=details.api_keys,
        total_jobs=details.total_jobs,
    )


def plan_body(plan: Plan) -> bodies.AdminPlan:
    """Return a plan, flat and nested."""
    limits = plan_limits_body(plan)
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


def _usage_body(usage: UsageCounts) -> bodies.AdminUsage:
    return bodies.AdminUsage(
        jobs_today=usage.jobs_today,
        active_jobs=usage.active_jobs,
        queues=usage.queues,
        workers=usage.workers,
        api_keys=usage.api_keys,
    )
