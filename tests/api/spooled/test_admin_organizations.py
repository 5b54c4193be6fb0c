"""What the administrator does to organizations. Contract: spooled-tenancy 6.2 to 6.7, 7.4, 19.2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.spooled.administrator import Administrator, Make, a_slug
from tests.api.spooled.wire import (
    UNKNOWN_ID,
    Api,
    LiveTenant,
    a_queue,
    answered,
    refused,
    refused_fields,
)

USAGE = {"jobs_today", "active_jobs", "queues", "workers", "api_keys"}


def of(organization: dict[str, Any]) -> str:
    return f"/organizations/{organization['id']}"


class TestCreate:
    def test_it_has_what_was_given_and_a_key_that_works(self, admin: Administrator) -> None:
        body = {
            "name": "Acme",
            "slug": a_slug(),
            "plan_tier": "Enterprise",
            "billing_email": "pay@example.com",
            "settings": {"a": 1},
            "custom_limits": {"max_queues": 3, "unknown": 1, "max_workers": None},
        }
        response = admin.post("/organizations", body)
        made = answered(response, 201)
        assert response.headers["cache-control"] == "no-store"
        organization = made["organization"]
        assert (organization["plan_tier"], organization["settings"]) == ("enterprise", {"a": 1})
        assert organization["custom_limits"] == {"max_queues": 3}
        # The same fields, flat, for older clients.
        assert {name: made[name] for name in organization} == organization
        assert made["api_key"]["name"] == "Initial Admin Key"
        api = Api(admin.http, admin.url, made["api_key"]["key"])
        assert answered(api.get("/organizations"))[0]["id"] == organization["id"]

    def test_an_administrator_may_give_slugs_that_others_may_not(self, admin: Administrator) -> None:
        for slug in (f"1{a_slug()}", a_slug().replace("-", "--")):
            assert admin.make(slug=slug)[0]["slug"] == slug
        taken = admin.make(slug="support")[0] if _is_free(admin, "support") else None
        refused(admin.post("/organizations", {"name": "Again", "slug": "support"}), 409, "CONFLICT")
        if taken is not None:
            answered(admin.delete(of(taken), hard_delete="true"), 204)

    @pytest.mark.parametrize(
        ("field", "value", "status"),
        [
            ("name", "ab", 400),
            ("slug", "-abc", 400),
            ("slug", "Abc", 400),
            ("slug", "s" * 51, 400),
            ("plan_tier", "hacked", 400),
            ("plan_tier", "deleted", 400),
            ("billing_email", "a@", 400),
            ("settings", "x" * 65_536, 400),
            ("plan_tier", 5, 422),
            ("name", None, 422),
            ("custom_limits", [], 422),
        ],
    )
    def test_a_broken_rule_is_named(
        self, admin: Administrator, field: str, value: object, status: int
    ) -> None:
        body = {"name": "Example", "slug": a_slug(), field: value}
        assert refused_fields(admin.post("/organizations", body), status) == {field}


def _is_free(admin: Administrator, slug: str) -> bool:
    page = answered(admin.get("/organizations", search=slug, limit=100))
    return slug not in [row["slug"] for row in page["organizations"]]


class TestGet:
    def test_it_tells_everything(self, admin: Administrator, make: Make) -> None:
        organization, api = make(custom_limits={"max_active_jobs": 4, "max_api_keys": 0})
        queue = a_queue()
        for _ in range(3):
            api.enqueue(queue)
        found = answered(admin.get(of(organization)))
        assert {name: found[name] for name in organization} == organization
        assert set(found["usage"]) == USAGE
        assert (found["api_keys_count"], found["total_jobs"]) == (1, 3)
        info = found["usage_info"]
        assert (info["plan"], info["plan_display_name"]) == ("free", "Free")
        assert (info["limits"]["max_active_jobs"], info["limits"]["max_queues"]) == (4, 2)
        items = info["usage"]
        assert set(items) == {*USAGE, "schedules", "workflows", "webhooks"}
        assert items["active_jobs"] == {
            "current": 3,
            "limit": 4,
            "percentage": 75.0,
            "is_disabled": False,
        }
        assert items["workflows"] == {"current": 0, "limit": 0, "percentage": None, "is_disabled": True}
        assert items["api_keys"]["percentage"] is None
        assert info["warnings"] == [
            {"resource": "active_jobs", "message": "active jobs at 75% of limit", "severity": "warning"}
        ]
        api.enqueue(queue)
        warnings = answered(admin.get(of(organization)))["usage_info"]["warnings"]
        assert [(warning["message"], warning["severity"]) for warning in warnings] == [
            ("active jobs limit reached", "critical")
        ]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "Renamed"}),
        ("PUT", "", {"name": "Renamed"}),
        ("DELETE", "", None),
        ("DELETE", "?hard_delete=true", None),
        ("POST", "/api-keys", {"name": "key"}),
        ("POST", "/reset-usage", None),
    ],
)
def test_an_unknown_organization_is_404(admin: Administrator, method: str, path: str, body: object) -> None:
    for organization in (UNKNOWN_ID, "default-org", "'; drop--", "%00", "x" * 1000):
        refused(admin.call(method, f"/organizations/{organization}{path}", body), 404, "NOT_FOUND")


class TestUpdate:
    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    def test_what_is_given_changes_and_the_rest_stays(
        self, admin: Administrator, make: Make, method: str
    ) -> None:
        organization, _ = make(settings={"a": 1})
        body = {"name": "Renamed", "plan_tier": "PRO", "billing_email": "p@example.com"}
        after = answered(admin.call(method, of(organization), body))
        assert (after["name"], after["plan_tier"], after["billing_email"]) == (
            "Renamed",
            "pro",
            "p@example.com",
        )
        kept = answered(
            admin.call(
                method, of(organization), dict.fromkeys(("name", "plan_tier", "settings", "is_active"))
            )
        )
        assert {**kept, "updated_at": None} == {**after, "updated_at": None}
        assert kept["settings"] == {"a": 1}

    def test_limits_are_replaced_kept_and_reset(self, admin: Administrator, make: Make) -> None:
        organization, _ = make()
        path = of(organization)

        def change(**fields: object) -> object:
            return answered(admin.patch(path, fields))["custom_limits"]

        assert change(custom_limits={"max_queues": 7}) == {"max_queues": 7}
        assert change(name="Renamed") == {"max_queues": 7}
        assert change(custom_limits={"max_workers": 2}) == {"max_workers": 2}
        assert change(custom_limits=None) is None
        assert change(custom_limits={"max_workers": 2}) == {"max_workers": 2}
        assert change(custom_limits={}) is None

    @pytest.mark.parametrize("value", [-1, 2**31, 2**64, 1.5, "5", True])
    def test_limits_that_are_none_are_refused_and_nothing_changes(
        self, admin: Administrator, make: Make, value: object
    ) -> None:
        organization, _ = make(custom_limits={"max_queues": 7})
        response = admin.patch(of(organization), {"name": "Renamed", "custom_limits": {"max_queues": value}})
        assert refused_fields(response, 400) == {"custom_limits.max_queues"}
        found = answered(admin.get(of(organization)))
        assert (found["name"], found["custom_limits"]) == ("Test tenant", {"max_queues": 7})

    def test_references_to_a_subscription_are_kept_and_cleared(
        self, admin: Administrator, make: Make
    ) -> None:
        organization, _ = make()
        noted = {
            "stripe_customer_id": "cus_1",
            "stripe_subscription_id": "sub_1",
            "stripe_subscription_status": "trialing",
        }
        after = answered(admin.patch(of(organization), noted))
        assert {name: after[name] for name in noted} == noted
        after = answered(admin.patch(of(organization), {"stripe_subscription_id": None}))
        assert after["stripe_subscription_id"] is None
        assert (after["stripe_customer_id"], after["stripe_subscription_status"]) == ("cus_1", "trialing")

    @pytest.mark.parametrize(
        ("field", "value", "status"),
        [
            ("plan_tier", "hacked", 400),
            ("plan_tier", "deleted", 400),
            ("stripe_subscription_status", "great", 400),
            ("stripe_customer_id", "c" * 256, 400),
            ("settings", {"s": "x" * 65_536}, 400),
            ("name", "ab", 400),
            ("is_active", "true", 422),
            ("custom_limits", "none", 422),
            ("stripe_customer_id", 5, 422),
        ],
    )
    def test_a_broken_rule_is_named(
        self, admin: Administrator, tenant: LiveTenant, field: str, value: object, status: int
    ) -> None:
        response = admin.patch(f"/organizations/{tenant.organization_id}", {field: value})
        assert refused_fields(response, status) == {field}

    def test_an_inactive_organization_has_no_valid_credential(
        self, admin: Administrator, own: Api, tenant: LiveTenant
    ) -> None:
        path = f"/organizations/{tenant.organization_id}"
        answered(own.get("/jobs/stats"))
        assert answered(admin.patch(path, {"is_active": False}))["is_active"] is False
        body = refused(own.get("/jobs/stats"), 401)
        assert body == refused(Api(own.http, own.url, "sk_test_" + "x" * 43).get("/jobs/stats"), 401)
        assert answered(admin.patch(path, {"is_active": True}))["is_active"] is True
        answered(own.get("/jobs/stats"))


class TestDelete:
    def test_a_soft_deletion_ends_the_credentials_and_keeps_the_rest(
        self, admin: Administrator, make: Make
    ) -> None:
        organization, api = make()
        job_id = api.enqueue("q")
        for _ in range(2):
            answered(admin.delete(of(organization)), 204)
            refused(api.get("/jobs/stats"), 401)
        assert answered(admin.get(of(organization)))["plan_tier"] == "deleted"
        page = answered(admin.get("/organizations", plan_tier="DELETED", search=organization["slug"]))
        assert [row["id"] for row in page["organizations"]] == [organization["id"]]
        # Being active again is not enough: a plan brings it back.
        answered(admin.patch(of(organization), {"is_active": True}))
        refused(api.get("/jobs/stats"), 401)
        answered(admin.patch(of(organization), {"plan_tier": "free"}))
        assert api.status(job_id) == "pending"

    @pytest.mark.parametrize("word", ["hard_delete", "hard"])
    def test_a_hard_deletion_does_not_mind_what_is_active(
        self, admin: Administrator, make: Make, word: str
    ) -> None:
        organization, api = make()
        api.running()
        answered(admin.delete(of(organization), **{word: "true"}), 204)
        refused(api.get("/jobs/stats"), 401)
        refused(admin.get(of(organization)), 404)
        refused(admin.delete(of(organization), **{word: "true"}), 404)

    def test_a_word_that_is_neither_true_nor_false_is_refused(
        self, admin: Administrator, tenant: LiveTenant
    ) -> None:
        for word in ("hard_delete", "hard"):
            response = admin.delete(f"/organizations/{tenant.organization_id}", **{word: "maybe"})
            refused(response, 400, "BAD_REQUEST")
        assert answered(admin.get(f"/organizations/{tenant.organization_id}"))["plan_tier"] == "enterprise"


class TestKeys:
    def test_a_key_reaches_every_queue_unless_told_otherwise(self, admin: Administrator, make: Make) -> None:
        organization, _ = make()
        for queues, reaches in ((None, True), ([], True), (["emails"], False)):
            body = {"name": "Ключ (1.0)_-", "queues": queues, "rate_limit": 100}
            response = admin.post(f"{of(organization)}/api-keys", body)
            made = answered(response, 201)
            assert response.headers["cache-control"] == "no-store"
            assert made["name"] == "Ключ (1.0)_-"
            assert "expires_at" not in made
            api = Api(admin.http, admin.url, made["key"])
            answered(api.get("/queues/emails/stats"))
            assert (api.get("/queues/others/stats").status_code == 200) is reaches
        # Past the cap of the plan.
        assert answered(admin.get(of(organization)))["api_keys_count"] == 4

    def test_a_key_may_expire_in_the_future_only(self, admin: Administrator, make: Make) -> None:
        organization, _ = make()
        path = f"{of(organization)}/api-keys"
        now = datetime.now(UTC)
        later = (now + timedelta(hours=1)).isoformat()
        made = answered(admin.post(path, {"name": "later", "expires_at": later}), 201)
        assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(later)
        answered(Api(admin.http, admin.url, made["key"]).get("/jobs/stats"))
        for past in (now - timedelta(hours=1), now - timedelta(seconds=1)):
            response = admin.post(path, {"name": "past", "expires_at": past.isoformat()})
            assert refused_fields(response, 400) == {"expires_at"}

    @pytest.mark.parametrize(
        ("field", "value", "status"),
        [
            ("name", "", 400),
            ("name", "n" * 101, 400),
            ("name", "<script>", 400),
            ("name", "a\nb", 400),
            ("queues", ["q"] * 51, 400),
            ("queues", [""], 400),
            ("queues", ["q" * 256], 400),
            ("queues", ["a b"], 400),
            ("rate_limit", 0, 400),
            ("rate_limit", 10_001, 400),
            ("expires_at", "tomorrow", 400),
            ("name", None, 422),
            ("rate_limit", "5", 422),
        ],
    )
    def test_a_broken_rule_is_named(
        self, admin: Administrator, tenant: LiveTenant, field: str, value: object, status: int
    ) -> None:
        path = f"/organizations/{tenant.organization_id}/api-keys"
        [refused] = refused_fields(admin.post(path, {"name": "key", field: value}), status)
        # An entry of a list is named by its place.
        assert refused.partition("[")[0] == field


def test_a_reset_gives_the_day_back_and_keeps_the_total(admin: Administrator, make: Make) -> None:
    organization, api = make(custom_limits={})
    for _ in range(3):
        api.complete(api.running())
    for _ in range(2):
        answered(admin.post(f"{of(organization)}/reset-usage"), 204)
        found = answered(admin.get(of(organization)))
        assert (found["usage"]["jobs_today"], found["total_jobs"]) == (0, 3)
    api.enqueue("q")
    found = answered(admin.get(of(organization)))
    assert (found["usage"]["jobs_today"], found["total_jobs"]) == (1, 4)
