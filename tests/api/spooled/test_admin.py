"""Contract: spooled-tenancy 6, 7.4, 12.5, 19.2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.api.spooled.administrator import Administrator, Make, a_slug
from tests.api.spooled.objects import conforms, shape
from tests.api.spooled.wire import (
    UNKNOWN_ID,
    Api,
    LiveServer,
    a_queue,
    answered,
    refused,
)

ENDPOINTS = [
    ("GET", "/organizations"),
    ("POST", "/organizations"),
    ("GET", f"/organizations/{UNKNOWN_ID}"),
    ("PATCH", f"/organizations/{UNKNOWN_ID}"),
    ("PUT", f"/organizations/{UNKNOWN_ID}"),
    ("DELETE", f"/organizations/{UNKNOWN_ID}"),
    ("POST", f"/organizations/{UNKNOWN_ID}/api-keys"),
    ("POST", f"/organizations/{UNKNOWN_ID}/reset-usage"),
    ("GET", "/stats"),
    ("GET", "/plans"),
]
LISTED = shape(
    id="text",
    name="text",
    slug="text",
    plan_tier="text",
    billing_email="text?",
    created_at="time",
    updated_at="time",
    usage="any",
)


def of(organization: dict[str, Any]) -> str:
    return f"/organizations/{organization['id']}"


def listed(admin: Administrator, organization: dict[str, Any]) -> dict[str, Any]:
    page = answered(admin.get("/organizations", search=organization["slug"]))
    (row,) = page["organizations"]
    return row


class TestAccess:
    @pytest.mark.parametrize(("method", "path"), ENDPOINTS, ids=lambda value: value)
    def test_no_endpoint_answers_without_the_key(
        self, anonymous: Api, api: Api, method: str, path: str
    ) -> None:
        for caller in (anonymous, api):
            body = refused(caller.call(method, f"/admin{path}", {}), 401, "MISSING_ADMIN_KEY")
            assert body["error"] == "missing_admin_key"

    def test_what_is_not_the_key_is_refused_and_too_much_of_it_has_to_wait(self, server: LiveServer) -> None:
        key = server.admin_key
        # An address of its own: the others go on.
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.77")) as http:
            wrong = [key[:-1], key + "x", key.swapcase(), server.api_key, f"Bearer {key}", "", key[:-1] + "~"]
            for presented in (*wrong, "a", "b", "c"):
                body = refused(Administrator(http, server.url, presented).get("/stats"), 401)
                assert (body["code"], body["error"]) == ("INVALID_ADMIN_KEY", "invalid_admin_key")
            response = Administrator(http, server.url, key).get("/stats")
            assert refused(response, 429, "RATE_LIMIT_EXCEEDED")["error"] == "rate_limit_exceeded"
            assert 1 <= int(response.headers["retry-after"]) <= 60
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.78")) as http:
            body = refused(Administrator(http, server.url, b"\xff\xfe").get("/stats"), 401)
            assert (body["code"], body["error"]) == ("INVALID_HEADER", "invalid_header")
            answered(Administrator(http, server.url, key).get("/stats"))

    def test_a_bearer_credential_beside_the_key_is_ignored(self, admin: Administrator) -> None:
        for credential in ("Bearer rubbish", "Basic x"):
            answered(admin.call("GET", "/plans", headers={"Authorization": credential}))

    def test_a_page_may_send_the_key_and_every_method(self, admin: Administrator) -> None:
        for method in ("PATCH", "DELETE", "GET"):
            response = admin.http.request(
                "OPTIONS",
                f"{admin.url}/api/v1/admin/stats",
                headers={
                    "Origin": "https://dashboard.example",
                    "Access-Control-Request-Method": method,
                    "Access-Control-Request-Headers": "x-admin-key",
                },
            )
            assert response.status_code == 204
            assert method in response.headers["access-control-allow-methods"]
            assert "X-Admin-Key" in response.headers["access-control-allow-headers"]
        headers = {"Origin": "https://dashboard.example"}
        response = admin.call("GET", "/stats", headers=headers)
        assert response.headers["access-control-allow-origin"] == "*"


class TestList:
    def test_a_row_is_a_summary_with_its_usage(self, admin: Administrator, make: Make) -> None:
        organization, api = make(billing_email="pay@example.com")
        queue = a_queue()
        for _ in range(3):
            api.enqueue(queue)
        api.complete(api.claim_one(queue))
        answered(api.put(f"/queues/{queue}/config", {}))
        answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)
        row = conforms(listed(admin, organization), LISTED)
        assert row["billing_email"] == "pay@example.com"
        assert row["usage"] == {
            "jobs_today": 3,
            "active_jobs": 2,
            "queues": 1,
            "workers": 1,
            "api_keys": 1,
        }

    def test_filters_sorting_and_pages(self, admin: Administrator) -> None:
        mark = a_slug()[-12:]
        made = [
            admin.make(name=f"{name} {mark}", slug=f"{slug}-{mark}", plan_tier=tier)[0]
            for name, slug, tier in (("Beta", "aa", "pro"), ("alpha", "bb", "free"), ("Gamma", "cc", "PRO"))
        ]

        def slugs(**params: str | int) -> list[str]:
            page = answered(admin.get("/organizations", search=mark.upper(), **params))
            return [row["slug"].split("-")[0] for row in page["organizations"]]

        assert slugs() == ["cc", "bb", "aa"]
        assert slugs(sort_order="ASC") == ["aa", "bb", "cc"]
        assert slugs(sort_by="slug") == ["cc", "bb", "aa"]
        assert slugs(sort_by="plan_tier", sort_order="asc") == ["bb", "aa", "cc"]
        assert slugs(sort_by="name; DELETE FROM tenants", sort_order="sideways") == ["cc", "bb", "aa"]
        answered(admin.patch(of(made[0]), {"description": "touched"}))
        assert slugs(sort_by="updated_at")[0] == "aa"
        assert slugs(plan_tier="Pro", sort_by="slug", sort_order="asc") == ["aa", "cc"]
        assert slugs(plan_tier="hacked", sort_by="created_at") == ["cc", "bb", "aa"]
        assert slugs(limit=1, offset=1) == ["bb"]
        page = answered(admin.get("/organizations", search=mark, limit=2))
        assert (page["total"], page["limit"], page["offset"]) == (3, 2, 0)
        beyond = answered(admin.get("/organizations", search=mark, offset=50))
        assert (beyond["organizations"], beyond["total"], beyond["offset"]) == ([], 3, 50)
        assert answered(admin.get("/organizations", search=f"{mark}%00-no"))["total"] == 0

    def test_a_search_is_cleaned_and_never_a_pattern(self, admin: Administrator, make: Make) -> None:
        everything = answered(admin.get("/organizations"))["total"]
        organization, _ = make(name="under_score")
        for search in ("%", "\\", "<>"):
            assert answered(admin.get("/organizations", search=search))["total"] == everything + 1
        found = answered(admin.get("/organizations", search="r_s"))
        assert [row["id"] for row in found["organizations"]] == [organization["id"]]
        for search in ("'; DROP TABLE tenants; --", "x" * 10_000, "é" * 200):
            assert answered(admin.get("/organizations", search=search))["total"] == 0

    def test_numbers_are_clamped_and_anything_else_refused(self, admin: Administrator) -> None:
        for limit, counts in ((0, 1), (-5, 1), (1000, 100), (2**63, 100)):
            assert answered(admin.get("/organizations", limit=limit))["limit"] == counts
        assert answered(admin.get("/organizations", offset=-1))["offset"] == 0
        for name in ("limit", "offset"):
            refused(admin.get("/organizations", **{name: "ten"}), 400, "BAD_REQUEST")


def test_the_stats_count_over_everything(admin: Administrator, make: Make) -> None:
    before = answered(admin.get("/stats"))
    _, api = make(plan_tier="pro")
    queue = a_queue()
    answered(api.put(f"/queues/{queue}/config", {}))
    answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)
    api.complete(api.running(queue))
    api.dead(queue)
    api.running(queue)
    api.enqueue(queue)
    api.enqueue(queue, scheduled_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    after = answered(admin.get("/stats"))

    def grew(*path: str) -> int:
        one, other = before, after
        for name in path:
            one, other = one.get(name, 0), other[name]
        return other - one

    # Other tests' loops may end leases meanwhile, so what is counted here is what only grows by this test.
    assert grew("organizations", "total") == grew("total_organizations") == 1
    assert grew("organizations", "created_today") == grew("organizations", "created_this_week") == 1
    assert grew("active_organizations") == 1
    assert grew("organizations_by_plan", "pro") == 1
    plans = after["organizations"]["by_plan"]
    assert {plan["plan"]: plan["count"] for plan in plans} == after["organizations_by_plan"]
    assert [plan["count"] for plan in plans] == sorted((plan["count"] for plan in plans), reverse=True)
    assert grew("jobs", "completed_24h") == 1
    assert grew("jobs", "failed_24h") == grew("jobs_by_status", "deadletter") == 1
    assert grew("jobs", "total_active") == 3
    assert (grew("jobs", "pending"), grew("jobs", "processing")) == (1, 1)
    assert (grew("total_jobs"), grew("jobs_today")) == (5, 5)
    assert (grew("total_queues"), grew("total_api_keys")) == (1, 1)
    assert after["workers"]["healthy"] >= 1
    assert after["workers"]["total"] == after["total_workers"]
    assert after["system"]["api_version"] == "v1"
    assert after["system"]["uptime_seconds"] >= before["system"]["uptime_seconds"] >= 0


def test_the_plans_are_listed_from_the_smallest_to_the_largest(admin: Administrator) -> None:
    plans = answered(admin.get("/plans"))
    assert [plan["tier"] for plan in plans] == ["free", "starter", "pro", "enterprise"]
    for plan in plans:
        assert {name: plan[name] for name in plan["limits"]} == plan["limits"]
        assert len(plan["limits"]) == 15
        assert plan["description"]
    assert (plans[0]["max_active_jobs"], plans[0]["max_workflows"]) == (10, 0)
    # Clients look for the name even where there is no limit.
    assert plans[3]["max_queues"] is None
