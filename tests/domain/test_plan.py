"""Contract: spooled-tenancy 7.1, 7.4."""

import json

import pytest

from millstream.domain.plan import LIMIT_NAMES, PLANS, is_limit, plan_of, plans_table

NONE = None
TABLE = {
    "max_jobs_per_day": (1_000, 10_000, 100_000, NONE),
    "max_active_jobs": (10, 500, 5_000, NONE),
    "max_queues": (2, 10, 50, NONE),
    "max_workers": (1, 5, 25, NONE),
    "max_api_keys": (2, 5, 25, NONE),
    "max_schedules": (1, 10, 50, NONE),
    "max_workflows": (0, 5, 25, NONE),
    "max_webhooks": (1, 5, 20, NONE),
    "max_payload_size_bytes": (65_536, 262_144, 1_048_576, 5_242_880),
    "rate_limit_requests_per_second": (5, 25, 100, 500),
    "rate_limit_burst": (10, 50, 200, 1_000),
    "job_retention_days": (3, 14, 30, 90),
    "history_retention_days": (1, 7, 30, 90),
}
NONSENSE = [None, -1, -(2**31), 2**31, 2**32, 2**64, 10**400, 1.5, 10.0, "10", "", True, False, [], [5], {}]


def test_the_plans_are_those_of_the_contract() -> None:
    assert tuple(PLANS) == ("free", "starter", "pro", "enterprise")
    assert set(LIMIT_NAMES) == set(TABLE)
    for name, row in TABLE.items():
        assert tuple(getattr(plan, name) for plan in PLANS.values()) == row, name
    assert [plan.display_name for plan in PLANS.values()] == ["Free", "Starter", "Pro", "Enterprise"]
    assert [plan.warning_percent for plan in PLANS.values()] == [50, 80, 80, 80]


@pytest.mark.parametrize("name", LIMIT_NAMES)
@pytest.mark.parametrize("tier", PLANS)
def test_each_limit_can_be_a_tenants_own(tier: str, name: str) -> None:
    for value in (0, 1, 2**31 - 1):
        plan = plan_of(tier, json.dumps({name: value, "unknown": 3}))
        assert getattr(plan, name) == value
        others = [other for other in PLANS[tier].__struct_fields__ if other != name]
        assert all(getattr(plan, other) == getattr(PLANS[tier], other) for other in others)


@pytest.mark.parametrize("value", NONSENSE)
def test_a_stored_limit_that_is_none_leaves_the_tiers(value: object) -> None:
    for name in LIMIT_NAMES:
        plan = plan_of("free", json.dumps({name: value, "max_queues" if name != "max_queues" else "x": 7}))
        assert getattr(plan, name) == getattr(PLANS["free"], name)
        # What stands beside it counts all the same.
        assert plan.max_queues == (2 if name == "max_queues" else 7)
    assert not is_limit(value)


def test_tier_and_names_are_nobodys_own() -> None:
    text = json.dumps({"tier": "pro", "display_name": "X", "upgrade_to": "x", "warning_percent": 1})
    assert plan_of("free", text) == PLANS["free"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", '"x"', "{}", "NaN", '{"max_queues": NaN}', "[" * 100_000, "\x00", "ä"],
)
def test_a_text_that_is_no_object_of_limits_leaves_the_tier(text: str) -> None:
    assert plan_of("starter", text) is PLANS["starter"]


def test_no_text_is_the_tier_itself() -> None:
    assert plan_of("pro", None) is PLANS["pro"]
    assert plan_of("", '{"max_queues": 9}').tier == "free"
    assert plan_of("deleted").tier == "free"


def test_a_plan_is_made_once_for_a_text() -> None:
    text = '{"max_active_jobs": 17}'
    assert plan_of("free", text) is plan_of("free", "".join(text))
    assert plan_of("free", text) is not plan_of("starter", text)


def test_the_table_of_the_guide_has_every_limit() -> None:
    table = plans_table()
    assert all(f"| `{name}` |" in table for name in LIMIT_NAMES)
    assert "| `max_payload_size_bytes` | 64 KiB | 256 KiB | 1,024 KiB | 5,120 KiB |" in table
    assert "| `max_queues` | 2 | 10 | 50 | – |" in table
