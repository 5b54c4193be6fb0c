"""The bodies of plans and their use, as they are on the wire. Contract: spooled-tenancy 2.4, 2.5."""

from msgspec import Struct

from millstream.domain.plan import Plan
from millstream.domain.usage import UsageItems, UsageReport, UsageWarning


class PlanLimitsBody(Struct, kw_only=True):
    """What a plan allows. Null is no limit, and written: clients look for the key."""

    tier: str
    display_name: str
    max_jobs_per_day: int | None
    max_active_jobs: int | None
    max_queues: int | None
    max_workers: int | None
    max_api_keys: int | None
    max_schedules: int | None
    max_workflows: int | None
    max_webhooks: int | None
    max_payload_size_bytes: int
    rate_limit_requests_per_second: int
    rate_limit_burst: int
    job_retention_days: int
    history_retention_days: int


class UsageBody(Struct, kw_only=True):
    """What an organization uses of its plan."""

    plan: str
    plan_display_name: str
    limits: PlanLimitsBody
    usage: UsageItems
    warnings: list[UsageWarning]


def plan_limits_body(plan: Plan) -> PlanLimitsBody:
    """Return `plan` as a row of the list of plans, and as the limits within a report."""
    return PlanLimitsBody(
        tier=plan.tier,
        display_name=plan.display_name,
        max_jobs_per_day=plan.max_jobs_per_day,
        max_active_jobs=plan.max_active_jobs,
        max_queues=plan.max_queues,
        max_workers=plan.max_workers,
        max_api_keys=plan.max_api_keys,
        max_schedules=plan.max_schedules,
        max_workflows=plan.max_workflows,
        max_webhooks=plan.max_webhooks,
        max_payload_size_bytes=plan.max_payload_size_bytes,
        rate_limit_requests_per_second=plan.rate_limit_requests_per_second,
        rate_limit_burst=plan.rate_limit_burst,
        job_retention_days=plan.job_retention_days,
        history_retention_days=plan.history_retention_days,
    )


def usage_body(report: UsageReport) -> UsageBody:
    """Return a report of usage."""
    return UsageBody(
        plan=report.plan.tier,
        plan_display_name=report.plan.display_name,
        limits=plan_limits_body(report.plan),
        usage=report.items,
        warnings=report.warnings,
    )
