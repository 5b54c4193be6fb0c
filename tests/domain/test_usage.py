"""Contract: spooled-tenancy 2.5."""

import pytest

from millstream.domain.plan import PLANS, plan_of
from millstream.domain.usage import Severity, UsageCounts, UsageItem, report_usage

NAMES = UsageCounts.__struct_fields__


def test_every_resource_is_held_against_its_own_limit() -> None:
    counts = UsageCounts(**{name: place for place, name in enumerate(NAMES)})
    items = report_usage(PLANS["pro"], counts).items
    assert [getattr(items, name).current for name in NAMES] == list(range(8))
    limits = [100_000, 5_000, 50, 25, 25, 50, 25, 20]
    assert [getattr(items, name).limit for name in NAMES] == limits
    assert [getattr(items, name).percentage for name in NAMES] == [
        pytest.approx(place / limit * 100) for place, limit in enumerate(limits)
    ]


def test_without_a_limit_there_is_no_share_and_no_warning() -> None:
    report = report_usage(PLANS["enterprise"], UsageCounts(**dict.fromkeys(NAMES, 10**9)))
    assert all(
        getattr(report.items, name) == UsageItem(10**9, None, None, is_disabled=False) for name in NAMES
    )
    assert report.warnings == []


def test_of_a_limit_of_zero_there_is_no_share_either() -> None:
    plan = plan_of("starter", '{"max_workflows": 0, "max_queues": 0}')
    report = report_usage(plan, UsageCounts(workflows=3, queues=3))
    assert report.items.workflows == UsageItem(3, 0, None, is_disabled=True)
    # Only workflows are a feature that a plan does without.
    assert report.items.queues == UsageItem(3, 0, None, is_disabled=False)
    assert report.warnings == []


@pytest.mark.parametrize(
    ("tier", "limit", "current", "expected"),
    [
        ("free", 1_000, 499, None),
        ("free", 1_000, 500, "at 50% of limit"),
        ("free", 1_000, 999, "at 100% of limit"),
        ("free", 1_000, 1_000, "limit reached"),
        ("free", 1_000, 2_500, "limit reached"),
        ("starter", 10_000, 7_999, None),
        ("starter", 10_000, 8_000, "at 80% of limit"),
        ("starter", 10_000, 8_449, "at 84% of limit"),
        ("pro", 100_000, 80_000, "at 80% of limit"),
        ("enterprise", 100, 79, None),
        ("enterprise", 100, 80, "at 80% of limit"),
    ],
)
def test_the_threshold_of_a_warning_is_the_tiers(
    tier: str, limit: int, current: int, expected: str | None
) -> None:
    plan = plan_of(tier, f'{{"max_jobs_per_day": {limit}}}')
    warnings = report_usage(plan, UsageCounts(jobs_today=current)).warnings
    told = [(warning.resource, warning.message, warning.severity) for warning in warnings]
    severity = Severity.CRITICAL if expected == "limit reached" else Severity.WARNING
    assert told == ([] if expected is None else [("jobs_per_day", f"jobs per day {expected}", severity)])


def test_each_resource_is_warned_of_by_the_name_that_refusals_have_for_it() -> None:
    warnings = report_usage(
        plan_of("free", '{"max_workflows": 1}'), UsageCounts(**dict.fromkeys(NAMES, 1_000))
    )
    assert [warning.resource for warning in warnings.warnings] == [
        "jobs_per_day", "active_jobs", "queues", "workers", "api_keys", "schedules", "workflows", "webhooks",
    ]  # fmt: skip
    assert {warning.severity for warning in warnings.warnings} == {Severity.CRITICAL}
    assert warnings.warnings[4].message == "api keys limit reached"
