"""What a tenant uses of what its plan allows. Contract: spooled-tenancy 2.5."""

from enum import StrEnum

from msgspec import Struct

from millstream.domain.plan import Plan


class UsageCounts(Struct, frozen=True, kw_only=True):
    """How much a tenant has of each resource that plans limit, under the names that the report has for them."""

    jobs_today: int = 0
    active_jobs: int = 0
    queues: int = 0
    workers: int = 0
    api_keys: int = 0
    schedules: int = 0
    workflows: int = 0
    webhooks: int = 0


class UsageItem(Struct, frozen=True):
    """One resource: what is used, what is allowed (None: any number), and the share in percent, if there is one.

    `is_disabled`: the plan does without the feature altogether.
    """

    current: int
    limit: int | None
    percentage: float | None
    is_disabled: bool


class Severity(StrEnum):
    """How urgent a warning is."""

    WARNING = "warning"
    CRITICAL = "critical"


class UsageWarning(Struct, frozen=True):
    """A resource that is used up, or soon will be, by the name that refusals have for it."""

    resource: str
    message: str
    severity: Severity


class UsageItems(Struct, frozen=True, kw_only=True):
    """Each resource that plans limit."""

    jobs_today: UsageItem
    active_jobs: UsageItem
    queues: UsageItem
    workers: UsageItem
    api_keys: UsageItem
    schedules: UsageItem
    workflows: UsageItem
    webhooks: UsageItem


class UsageReport(Struct, frozen=True, kw_only=True):
    """What a tenant uses of its plan, and what it should be warned of."""

    plan: Plan
    items: UsageItems
    warnings: list[UsageWarning]


def report_usage(plan: Plan, counts: UsageCounts) -> UsageReport:
    """Hold `counts` against what `plan` allows."""
    items = UsageItems(
        jobs_today=_item(counts.jobs_today, plan.max_jobs_per_day),
        active_jobs=_item(counts.active_jobs, plan.max_active_jobs),
        queues=_item(counts.queues, plan.max_queues),
        workers=_item(counts.workers, plan.max_workers),
        api_keys=_item(counts.api_keys, plan.max_api_keys),
        schedules=_item(counts.schedules, plan.max_schedules),
        workflows=_item(counts.workflows, plan.max_workflows, is_feature=True),
        webhooks=_item(counts.webhooks, plan.max_webhooks),
    )
    by_resource = {
        # As refusals call it.
        "jobs_per_day": items.jobs_today,
        "active_jobs": items.active_jobs,
        "queues": items.queues,
        "workers": items.workers,
        "api_keys": items.api_keys,
        "schedules": items.schedules,
        "workflows": items.workflows,
        "webhooks": items.webhooks,
    }
    warnings = [_warning(resource, item, plan.warning_percent) for resource, item in by_resource.items()]
    return UsageReport(plan=plan, items=items, warnings=[warning for warning in warnings if warning])


def _item(current: int, limit: int | None, *, is_feature: bool = False) -> UsageItem:
    # No share of nothing: a division by zero is no number that JSON knows.
    percentage = current / limit * 100 if limit else None
    return UsageItem(current, limit, percentage, is_feature and limit == 0)


def _warning(resource: str, item: UsageItem, warning_percent: int) -> UsageWarning | None:
    if item.percentage is None or item.percentage < warning_percent:
        return None
    words = resource.replace("_", " ")
    if item.percentage >= 100:
        return UsageWarning(resource, f"{words} limit reached", Severity.CRITICAL)
    return UsageWarning(resource, f"{words} at {round(item.percentage)}% of limit", Severity.WARNING)
