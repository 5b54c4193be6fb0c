"""What an organization sees and changes of itself. Contract: spooled-tenancy 3.2 to 3.5, 3.10, 4.2, 19.3 C1."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx2
import pytest

from tests.api.spooled.administrator import Administrator, Make
from tests.api.spooled.wire import (
    UNKNOWN_ID,
    Api,
    LiveServer,
    LiveTenant,
    a_queue,
    answered,
    refused,
    refused_fields,
)


@pytest.fixture
def restricted(http: httpx2.Client, make_tenant: Callable[..., LiveTenant]) -> tuple[Api, str]:
    """A caller with a key that is limited to a queue, and its organization's id."""
    tenant = make_tenant(queues=("emails",))
    return Api(http, tenant.url, tenant.api_key), tenant.organization_id


def test_the_list_holds_the_own_organization_alone(own: Api, tenant: LiveTenant) -> None:
    (row,) = answered(own.get("/organizations"))
    assert set(row) == {"id", "name", "slug", "plan_tier", "created_at"}
    assert row["id"] == tenant.organization_id


def test_an_update_changes_what_is_given_and_keeps_the_rest(own: Api, tenant: LiveTenant) -> None:
    path = f"/organizations/{tenant.organization_id}"
    before = answered(own.get(path))
    first = answered(
        own.put(path, {"name": " Renamed ", "billing_email": "pay@example.com", "description": "d"})
    )
    assert (first["name"], first["billing_email"], first["description"]) == (
        "Renamed",
        "pay@example.com",
        "d",
    )
    assert first["updated_at"] > before["updated_at"]
    second = answered(own.put(path, {"settings": {"a": [1]}, "name": None, "billing_email": None}))
    assert second["settings"] == {"a": [1]}
    assert (second["name"], second["billing_email"]) == ("Renamed", "pay@example.com")
    assert answered(own.put(path, {"settings": {"b": 2}}))["settings"] == {"b": 2}
    assert answered(own.get(path))["settings"] == {"b": 2}


def test_fields_that_would_gain_a_privilege_are_ignored(free: Api, free_tenant: LiveTenant) -> None:
    path = f"/organizations/{free_tenant.organization_id}"
    before = answered(free.get(path))
    body = {
        "slug": "other",
        "plan_tier": "enterprise",
        "custom_limits": {"max_queues": 99},
        "stripe_customer_id": "cus_1",
        "is_active": False,
        "id": "other",
        "webhook_token": "mine",
        "logo_url": "https://example.com/logo.png",
    }
    after = answered(free.put(path, body))
    assert {**after, "updated_at": None} == {**before, "updated_at": None}


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("name", "ab", 400),
        ("name", "  a  ", 400),
        ("name", "n" * 101, 400),
        ("billing_email", "a@", 400),
        ("description", "d" * 2_001, 400),
        ("settings", {"s": "x" * 65_536}, 400),
        ("name", 5, 422),
        ("billing_email", {}, 422),
        ("description", [], 422),
    ],
)
def test_a_broken_rule_is_named(own: Api, tenant: LiveTenant, field: str, value: object, status: int) -> None:
    response = own.put(f"/organizations/{tenant.organization_id}", {field: value})
    assert refused_fields(response, status) == {field}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"name": "Taken over"}),
        ("DELETE", "", None),
        ("GET", "/webhook-token", None),
        ("POST", "/webhook-token/regenerate", None),
        ("DELETE", "/webhook-token", None),
    ],
)
def test_another_organization_looks_like_one_that_does_not_exist(
    api: Api, own: Api, tenant: LiveTenant, method: str, path: str, body: object
) -> None:
    before = answered(own.get("/organizations")), answered(own.get("/organizations/webhook-token"))
    answers = [
        refused(api.call(method, f"/organizations/{organization}{path}", body), 404, "NOT_FOUND")
        for organization in (tenant.organization_id, UNKNOWN_ID, "default-org", "'; drop--", "%00", "..%2f")
    ]
    assert all(answer == answers[0] for answer in answers)
    assert before == (
        answered(own.get("/organizations")),
        answered(own.get("/organizations/webhook-token")),
    )


def test_a_restricted_key_reads_its_organization_and_administers_nothing(
    restricted: tuple[Api, str],
) -> None:
    api, organization_id = restricted
    path = f"/organizations/{organization_id}"
    assert answered(api.get(path))["id"] == organization_id
    assert [row["id"] for row in answered(api.get("/organizations"))] == [organization_id]
    for response in (
        api.put(path, {"name": "Widened"}),
        api.delete(path),
        api.get("/organizations/webhook-token"),
        api.post("/organizations/webhook-token/regenerate"),
        api.get(f"{path}/webhook-token"),
        api.post(f"{path}/webhook-token/regenerate"),
        api.post("/billing/portal", {"return_url": "https://example.com"}),
    ):
        refused(response, 403, "ACCESS_DENIED")


def test_an_organization_with_anything_active_is_not_deleted(own: Api, tenant: LiveTenant) -> None:
    path = f"/organizations/{tenant.organization_id}"
    queue = a_queue()
    own.enqueue(queue)
    own.enqueue(queue)
    assert "2" in refused(own.delete(path), 409, "CONFLICT")["message"]
    for job in own.claim(queue, limit=2):
        own.complete(job)
    worker = answered(own.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)["id"]
    assert "1" in refused(own.delete(path), 409, "CONFLICT")["message"]
    answered(own.post(f"/workers/{worker}/deregister"), 204)
    planned = {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": queue, "payload_template": 1}
    schedules = [answered(own.post("/schedules", planned), 201)["id"] for _ in range(3)]
    answered(own.post(f"/schedules/{schedules[0]}/pause"))
    assert "2 active schedules" in refused(own.delete(path), 409, "CONFLICT")["message"]
    for schedule in schedules[1:]:
        answered(own.delete(f"/schedules/{schedule}"), 204)
    answered(own.delete(path), 204)
    refused(own.get("/organizations"), 401)
    refused(own.delete(path), 401)


def test_the_worker_ids_and_the_slug_of_a_deleted_organization_are_free_again(
    admin: Administrator, make: Make, own: Api
) -> None:
    organization, api = make()
    worker = f"w-{organization['id']}"
    body = {"queue_name": "q", "hostname": "h", "worker_id": worker}
    answered(api.post("/workers/register", body), 201)
    answered(api.post(f"/workers/{worker}/deregister"), 204)
    answered(api.delete(f"/organizations/{organization['id']}"), 204)
    answered(own.post("/workers/register", body), 201)
    admin.make(slug=organization["slug"])


class TestWebhookToken:
    def test_it_exists_from_the_beginning_and_is_in_no_other_answer(
        self, own: Api, tenant: LiveTenant, server: LiveServer
    ) -> None:
        response = own.get("/organizations/webhook-token")
        shown = answered(response)
        assert response.headers["cache-control"] == "no-store"
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", shown["webhook_token"])
        assert shown["token"] == shown["webhook_token"]
        assert shown["webhook_url"] == f"{server.url}/api/v1/webhooks/{tenant.organization_id}/custom"
        organization = own.get(f"/organizations/{tenant.organization_id}")
        assert shown["webhook_token"] not in organization.text

    def test_a_new_one_takes_the_place_of_the_old_one(self, own: Api, tenant: LiveTenant) -> None:
        path = f"/organizations/{tenant.organization_id}/webhook-token"
        before = answered(own.get(path))
        for regenerate in ("/organizations/webhook-token/regenerate", f"{path}/regenerate"):
            for body in (None, {}):
                after = answered(own.post(regenerate, body))
                assert after["webhook_token"] != before["webhook_token"]
                assert after["webhook_url"] == before["webhook_url"]
                assert answered(own.get("/organizations/webhook-token")) == answered(own.get(path)) == after
                before = after

    def test_it_cannot_be_cleared(self, own: Api, tenant: LiveTenant) -> None:
        before = answered(own.get("/organizations/webhook-token"))
        for body in (None, {}, {"confirm": True}):
            refused(own.post("/organizations/webhook-token/clear", body), 404, "NOT_FOUND")
        refused(own.delete(f"/organizations/{tenant.organization_id}/webhook-token"), 404, "NOT_FOUND")
        assert answered(own.get("/organizations/webhook-token")) == before

    def test_changed_settings_leave_it_alone(self, own: Api, tenant: LiveTenant) -> None:
        before = answered(own.get("/organizations/webhook-token"))
        answered(own.put(f"/organizations/{tenant.organization_id}", {"settings": {"webhook_token": "mine"}}))
        assert answered(own.get("/organizations/webhook-token")) == before


class TestSlugs:
    def test_a_free_slug_is_available(self, anonymous: Api) -> None:
        for response in (
            anonymous.get("/organizations/check-slug", slug="quite-free"),
            anonymous.get("/organizations/check-slug/quite-free"),
        ):
            answer = answered(response)
            assert (answer["available"], answer["valid"], answer["error"]) == (True, True, None)
            assert (answer["suggestion"], answer["slug"]) == (None, "quite-free")
            assert answer["message"]

    def test_a_taken_slug_comes_with_a_free_one(
        self, anonymous: Api, admin: Administrator, make: Make
    ) -> None:
        slug = make()[0]["slug"]
        answer = answered(anonymous.get("/organizations/check-slug", slug=slug))
        assert (answer["available"], answer["valid"], answer["error"]) == (False, True, None)
        assert answer["suggestion"] == f"{slug}-2"
        admin.make(slug=f"{slug}-2")
        assert answered(anonymous.get(f"/organizations/check-slug/{slug}"))["suggestion"] == f"{slug}-3"

    @pytest.mark.parametrize(
        "slug", ["ab", "Abc", "1abc", "a--b", "admin", "s" * 51, "'; DROP TABLE tenants; --", "аbc", ""]
    )
    def test_an_invalid_slug_is_told_so(self, anonymous: Api, slug: str) -> None:
        answer = answered(anonymous.get("/organizations/check-slug", slug=slug))
        assert (answer["available"], answer["valid"], answer["suggestion"]) == (False, False, None)
        assert answer["error"]

    def test_a_slug_has_to_be_given(self, anonymous: Api) -> None:
        refused(anonymous.get("/organizations/check-slug"), 400, "BAD_REQUEST")

    def test_a_name_makes_a_slug_that_an_organization_can_have(
        self, anonymous: Api, admin: Administrator
    ) -> None:
        for name in ("Acme & Söhne 2000", "🚀", "a", "admin", "x" * 100):
            slug = answered(anonymous.post("/organizations/generate-slug", {"name": name}))["slug"]
            assert answered(anonymous.get("/organizations/check-slug", slug=slug))["available"] is True
        taken = admin.make()[0]["slug"]
        other = answered(anonymous.post("/organizations/generate-slug", {"name": taken}))["slug"]
        assert other == f"{taken}-2"

    def test_a_name_has_1_to_100_characters(self, anonymous: Api) -> None:
        for name in ("", "   ", "n" * 101):
            response = anonymous.post("/organizations/generate-slug", {"name": name})
            assert refused_fields(response, 400) == {"name"}
        assert refused_fields(anonymous.post("/organizations/generate-slug", {}), 422) == {"name"}


class TestBilling:
    def test_an_organization_without_a_subscription_has_only_its_plan(self, free: Api) -> None:
        assert answered(free.get("/billing/status")) == {
            "plan_tier": "free",
            "stripe_subscription_id": None,
            "stripe_subscription_status": None,
            "stripe_current_period_end": None,
            "stripe_cancel_at_period_end": None,
            "has_stripe_customer": False,
        }

    def test_what_the_administrator_noted_is_shown_to_its_organization_alone(
        self, admin: Administrator, make: Make, own: Api
    ) -> None:
        organization, api = make(plan_tier="pro")
        noted = {
            "stripe_customer_id": "cus_1",
            "stripe_subscription_id": "sub_1",
            "stripe_subscription_status": "past_due",
        }
        answered(admin.patch(f"/organizations/{organization['id']}", noted))
        status = answered(api.get("/billing/status"))
        assert (status["plan_tier"], status["has_stripe_customer"]) == ("pro", True)
        assert (status["stripe_subscription_id"], status["stripe_subscription_status"]) == (
            "sub_1",
            "past_due",
        )
        headers = {"X-Organization-ID": organization["id"]}
        assert answered(own.call("GET", "/billing/status", headers=headers))["has_stripe_customer"] is False

    def test_there_is_no_portal(self, own: Api) -> None:
        for url in ("https://example.com/account?tab=1", "http://localhost:3000"):
            refused(own.post("/billing/portal", {"return_url": url}), 400, "BAD_REQUEST")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "/account",
            "example.com",
            "//example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "https://",
            "https:///path",
            "https://exa mple.com",
            "https://example.com/\r\nX: y",
            "https://[bad",
            f"https://example.com/{'x' * 2048}",
        ],
    )
    def test_a_bad_return_url_is_named(self, own: Api, url: str) -> None:
        assert refused_fields(own.post("/billing/portal", {"return_url": url}), 400) == {"return_url"}
