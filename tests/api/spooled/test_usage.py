"""Contract: spooled-tenancy 2.4, 2.5, 3.6, 7.3, 7.4, 19.7 (G1, G2, G4, G6, G9)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from millstream.domain.plan import LIMIT_NAMES, PLANS
from millstream.store.installation import direct_session
from tests.api.spooled.wire import (
    UNKNOWN_ID,
    Api,
    JsonObject,
    LiveServer,
    LiveTenant,
    a_queue,
    answered,
    refused,
)

RESOURCES = [
    "jobs_today",
    "active_jobs",
    "queues",
    "workers",
    "api_keys",
    "schedules",
    "workflows",
    "webhooks",
]
Make = Callable[..., LiveTenant]


async def _store(server: LiveServer, organization_id: str, custom_limits: str) -> None:
    async with direct_session(server.dsn) as session:
        await session.run(
            "update millstream.tenants set custom_limits = $2 where public_id = $1",
            organization_id,
            custom_limits,
        )


@pytest.fixture
def of_plan(http: httpx2.Client, server: LiveServer, make_tenant: Make) -> Callable[..., Api]:
    """Make a caller in a fresh organization: `of_plan("pro", max_queues=1)`."""

    def make(tier: str, **own: object) -> Api:
        tenant = make_tenant(plan_tier=tier)
        if own:
            asyncio.run(_store(server, tenant.organization_id, json.dumps(own)))
        return Api(http, tenant.url, tenant.api_key)

    return make


def usage(api: Api) -> JsonObject:
    return answered(api.get("/organizations/usage"))


@pytest.mark.parametrize("tier", PLANS)
def test_every_field_is_there_whatever_the_plan(of_plan: Callable[..., Api], tier: str) -> None:
    body = usage(of_plan(tier))
    assert set(body) == {"plan", "plan_display_name", "limits", "usage", "warnings"}
    assert (body["plan"], body["plan_display_name"]) == (tier, tier.capitalize())
    expected = {name: getattr(PLANS[tier], name) for name in LIMIT_NAMES}
    assert body["limits"] == {"tier": tier, "display_name": tier.capitalize(), **expected}
    assert list(body["usage"]) == RESOURCES
    for name, item in body["usage"].items():
        assert set(item) == {"current", "limit", "percentage", "is_disabled"}
        assert item["is_disabled"] is (tier == "free" and name == "workflows")
        assert item["limit"] == expected["max_jobs_per_day" if name == "jobs_today" else f"max_{name}"]
        assert (item["percentage"] is None) == (not item["limit"])


def test_usage_follows_what_is_done(free: Api) -> None:
    fresh = usage(free)["usage"]
    assert {name: item["current"] for name, item in fresh.items()} == {
        **dict.fromkeys(RESOURCES, 0),
        "api_keys": 1,
    }
    for _ in range(5):
        free.enqueue("q")
    free.complete(free.claim_one("q"))
    answered(free.put("/queues/q/config", {}))
    answered(free.post("/workers/register", {"queue_name": "q", "hostname": "h"}), 201)
    body = usage(free)
    items = body["usage"]
    assert items["jobs_today"] == {"current": 5, "limit": 1000, "percentage": 0.5, "is_disabled": False}
    assert items["active_jobs"] == {"current": 4, "limit": 10, "percentage": 40.0, "is_disabled": False}
    assert items["workflows"] == {"current": 0, "limit": 0, "percentage": None, "is_disabled": True}
    assert body["warnings"] == [
        {"resource": "queues", "message": "queues at 50% of limit", "severity": "warning"},
        {"resource": "workers", "message": "workers limit reached", "severity": "critical"},
        {"resource": "api_keys", "message": "api keys at 50% of limit", "severity": "warning"},
    ]


def test_the_own_id_is_another_way_and_any_other_is_unknown(
    http: httpx2.Client, make_tenant: Make, own: Api
) -> None:
    mine, other = make_tenant(plan_tier="pro"), make_tenant(plan_tier="pro")
    api = Api(http, mine.url, mine.api_key)
    assert answered(api.get(f"/organizations/{mine.organization_id}/usage")) == usage(api)
    unknown = refused(api.get(f"/organizations/{UNKNOWN_ID}/usage"), 404, "NOT_FOUND")
    assert refused(api.get(f"/organizations/{other.organization_id}/usage"), 404, "NOT_FOUND") == unknown
    refused(own.get(f"/organizations/{mine.organization_id}/usage"), 404, "NOT_FOUND")


def test_usage_is_for_those_who_belong_to_the_organization(anonymous: Api) -> None:
    refused(anonymous.get("/organizations/usage"), 401)
    refused(anonymous.get(f"/organizations/{UNKNOWN_ID}/usage"), 401)


def test_limits_of_an_organizations_own_are_enforced_and_shown(of_plan: Callable[..., Api]) -> None:
    api = of_plan("free", max_active_jobs=2, max_queues=0, max_workers=None, max_payload_size_bytes=100, x=1)
    limits = usage(api)["limits"]
    assert (limits["max_active_jobs"], limits["max_queues"], limits["max_workers"]) == (2, 0, 1)
    api.enqueue("q", "x" * 98)
    body = refused(api.post("/jobs", {"queue_name": "q", "payload": "x" * 99}), 413, "PAYLOAD_TOO_LARGE")
    assert (body["current"], body["limit"], body["plan"], body["upgrade_to"]) == (101, 100, "free", "starter")
    api.enqueue("q")
    body = refused(api.post("/jobs", {"queue_name": "q", "payload": 1}), 429, "QUOTA_EXCEEDED")
    assert (body["resource"], body["current"], body["limit"]) == ("active_jobs", 2, 2)
    body = refused(api.put("/queues/q/config", {}), 429, "QUOTA_EXCEEDED")
    assert (body["resource"], body["current"], body["limit"]) == ("queues", 0, 0)


@pytest.mark.parametrize(
    ("tier", "upgrade_to"),
    [("free", "starter"), ("starter", "pro"), ("pro", "enterprise"), ("enterprise", None)],
)
def test_a_quota_names_the_next_tier_if_there_is_one(
    of_plan: Callable[..., Api], tier: str, upgrade_to: str | None
) -> None:
    response = of_plan(tier, max_active_jobs=0).post("/jobs", {"queue_name": "q", "payload": 1})
    body = refused(response, 429, "QUOTA_EXCEEDED")
    facts = {"resource": "active_jobs", "current": 0, "limit": 0, "plan": tier}
    sentence = f". Upgrade to {upgrade_to} for higher limits." if upgrade_to else ""
    assert body == {
        "code": "QUOTA_EXCEEDED",
        "error": "limit_exceeded",
        "message": f"active jobs limit reached (0/0){sentence}",
        "details": facts,
        **facts,
        **({"upgrade_to": upgrade_to} if upgrade_to else {}),
    }
    assert "retry-after" not in response.headers


@pytest.mark.parametrize(
    "text", ["[]", "null", "nonsense", '{"max_active_jobs": -1}', '{"max_active_jobs": "99"}', "{", "3"]
)
def test_stored_nonsense_leaves_the_plan_as_it_is(
    http: httpx2.Client, server: LiveServer, make_tenant: Make, text: str
) -> None:
    tenant = make_tenant(plan_tier="free")
    asyncio.run(_store(server, tenant.organization_id, text))
    assert usage(Api(http, tenant.url, tenant.api_key))["limits"]["max_active_jobs"] == 10


def test_a_capped_top_plan_takes_as_many_as_fit_of_many_at_once(of_plan: Callable[..., Api]) -> None:
    api = of_plan("enterprise", max_active_jobs=25)
    queue = a_queue()
    with ThreadPoolExecutor(24) as pool:
        body = {"queue_name": queue, "payload": 1}
        statuses = [
            call.result().status_code for call in [pool.submit(api.post, "/jobs", body) for _ in range(100)]
        ]
    assert sorted(statuses) == [201] * 25 + [429] * 75
    assert usage(api)["usage"]["active_jobs"]["current"] == 25


def test_the_servers_own_payload_limit_advertises_no_plan(own: Api, free: Api) -> None:
    large = {"queue_name": "q", "payload": "x" * (1024 * 1024)}
    body = refused(own.post("/jobs", large), 413, "PAYLOAD_TOO_LARGE")
    assert (body["limit"], body.get("plan"), body.get("upgrade_to")) == (1024 * 1024, None, None)
    # On a smaller plan it is the plan's limit that counts.
    body = refused(free.post("/jobs", large), 413, "PAYLOAD_TOO_LARGE")
    assert (body["limit"], body["plan"], body["upgrade_to"]) == (64 * 1024, "free", "starter")
