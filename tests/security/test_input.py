"""Names, times and headers that lead astray. Contract: spooled-tenancy 19.3, 19.4, 19.5, 19.9 (I2)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.spooled.administrator import a_slug
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
from tests.receiver import Receiver


def test_a_restricted_key_does_not_widen_itself(own: Api) -> None:
    made = answered(own.post("/api-keys", {"name": "narrow", "queues": ["emails"]}), 201)
    narrow = Api(own.http, own.url, made["key"])
    path = f"/api-keys/{made['id']}"
    for body in ({"queues": []}, {"queues": ["*"]}, {"queues": ["emails", "other"]}, {"rate_limit": 10_000}):
        refused(narrow.put(path, body), 403, "ACCESS_DENIED")
        refused(narrow.post("/api-keys", {"name": "wide", **body}), 403, "ACCESS_DENIED")
    refused(narrow.post("/organizations/webhook-token/regenerate"), 403, "ACCESS_DENIED")
    refused(narrow.post("/jobs", {"queue_name": "other", "payload": 1}), 403, "ACCESS_DENIED")
    assert answered(own.get(path))["queues"] == ["emails"]
    token = answered(narrow.post("/auth/login", {"api_key": made["key"]}))["access_token"]
    refused(Api(own.http, own.url, token).put(path, {"queues": []}), 403, "ACCESS_DENIED")


def test_there_is_no_cursor_to_carry_to_another_organization(api: Api, own: Api) -> None:
    job_id = api.enqueue(a_queue())
    mine = own.enqueue(a_queue())
    for name in ("cursor", "page_token", "after", "next"):
        for value in (job_id, mine, "e30=", "'; DROP TABLE jobs; --"):
            assert [row["id"] for row in answered(own.get("/jobs", **{name: value}))] == [mine]
    assert not [name for name in own.get("/jobs").headers if "cursor" in name]


@pytest.mark.parametrize(
    "kind", ["jobs", "workers", "queues", "api-keys", "outgoing-webhooks", "organizations"]
)
def test_what_is_foreign_and_what_is_unknown_are_one_answer_to_the_byte(
    api: Api, own: Api, tenant: LiveTenant, kind: str
) -> None:
    queue = a_queue()
    foreign = {"jobs": own.enqueue(queue), "queues": queue, "organizations": tenant.organization_id}
    if kind == "workers":
        body = {"queue_name": queue, "hostname": "h"}
        foreign[kind] = answered(own.post("/workers/register", body), 201)["id"]
    elif kind == "queues":
        answered(own.put(f"/queues/{queue}/config", {}))
    elif kind == "api-keys":
        foreign[kind] = answered(own.get("/api-keys"))[0]["id"]
    elif kind == "outgoing-webhooks":
        body = {"name": "hook", "url": "https://example.com/", "events": ["schedule.triggered"]}
        foreign[kind] = answered(own.post("/outgoing-webhooks", body), 201)["id"]
    unknown = a_queue() if kind == "queues" else UNKNOWN_ID
    answered(own.get(f"/{kind}/{foreign[kind]}"))
    for method in ("GET", "DELETE"):
        answers = [
            api.call(method, f"/{kind}/{identifier}", headers={"X-Request-Id": "one"})
            for identifier in (foreign[kind], unknown)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
        heads = [
            [
                (name, value)
                for name, value in answer.headers.multi_items()
                if name != "date" and not name.startswith("x-ratelimit-")
            ]
            for answer in answers
        ]
        assert heads[0] == heads[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("0", "０").replace("1", "１"),
        lambda text: text.replace("a", "а").replace("e", "е").replace("c", "с"),
        lambda text: f"{text}\u200b",
        lambda text: f"\u202e{text}",
        lambda text: f"{text}/../{text}",
        lambda text: f"%7B{text}%7D",
    ],
    ids=["full-width digits", "Cyrillic letters", "zero width", "right to left", "two of them", "braces"],
)
def test_an_organization_is_not_found_by_what_only_looks_like_its_id(
    own: Api, tenant: LiveTenant, change: Callable[[str], str]
) -> None:
    looks_like = change(tenant.organization_id)
    assert looks_like != tenant.organization_id
    encoded = looks_like.replace("/", "%2F")
    refused(own.get(f"/organizations/{encoded}"), 404, "NOT_FOUND")
    refused(own.get(f"/organizations/{encoded}/usage"), 404, "NOT_FOUND")
    headers = {"X-Webhook-Token": tenant.webhook_token}
    response = own.post(f"/webhooks/{encoded}/custom", {"queue_name": "q", "payload": 1}, **headers)
    refused(response, 404, "NOT_FOUND")


def test_a_name_is_kept_in_the_normal_form_that_it_came_in(own: Api, tenant: LiveTenant) -> None:
    for name in ("Café", "Cafe\u0301", "שלום עולם", "株式会社 👩‍🚀", "<b>Co</b>"):
        response = own.put(f"/organizations/{tenant.organization_id}", {"name": name})
        assert answered(response)["name"] == name
        shown = own.get(f"/organizations/{tenant.organization_id}")
        assert answered(shown)["name"] == name
        assert shown.headers["x-content-type-options"] == "nosniff"


def test_a_key_ends_in_the_future_and_a_time_without_a_zone_is_utc(own: Api) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    for ended in (now.isoformat(), f"{now.isoformat()}Z"):
        body = {"name": "k", "expires_at": ended}
        assert refused_fields(own.post("/api-keys", body), 400) == {"expires_at"}
    later = (now + timedelta(hours=1)).replace(microsecond=5)
    # Four hours ahead of UTC this has passed; in UTC it has not.
    assert refused_fields(
        own.post("/api-keys", {"name": "k", "expires_at": f"{later.isoformat()}+04:00"}), 400
    ) == {"expires_at"}
    made = answered(own.post("/api-keys", {"name": "k", "expires_at": later.isoformat()}), 201)
    assert made["expires_at"] == f"{later.isoformat()}Z"


def test_an_organization_is_created_without_the_privileges_that_its_creator_names(
    anonymous: Api, api: Api, server: LiveServer
) -> None:
    mine = answered(api.get("/organizations"))[0]["id"]
    named = {
        "id": mine,
        "organization_id": mine,
        "tenant_id": 1,
        "plan_tier": "enterprise",
        "is_active": False,
        "custom_limits": {"max_queues": 99},
        "webhook_token": "mine",
        "secret": "mine",
        "api_key": {"key": "sk_test_mine", "queues": ["*"]},
        "stripe_customer_id": "cus_1",
    }
    body = {"name": "Example", "slug": a_slug(), **named}
    response = anonymous.call("POST", "/organizations", body, headers={"X-Admin-Key": server.admin_key})
    made = answered(response, 201)
    created = Api(anonymous.http, anonymous.url, made["api_key"]["key"])
    [organization] = answered(created.get("/organizations"))
    assert organization["id"] not in (mine, "")
    assert organization["plan_tier"] == "free"
    limits = answered(created.get("/organizations/usage"))["limits"]
    assert (limits["tier"], limits["max_queues"]) == ("free", 2)
    assert answered(created.get("/organizations/webhook-token"))["webhook_token"] != "mine"
    assert answered(created.get("/billing/status"))["has_stripe_customer"] is False


@pytest.mark.parametrize("field", ["name", "secret", "url", "events"])
@pytest.mark.parametrize("breaks", ["\r\n", "\n", "\r"])
def test_a_line_break_never_becomes_a_header_of_a_webhook(
    own: Api, receiver: Receiver, field: str, breaks: str
) -> None:
    injected = f"{breaks}X-Injected: 1"
    body = {"name": "hook", "secret": "s", "url": receiver.url, "events": ["job.created"], "enabled": False}
    value = [f"job.created{injected}"] if field == "events" else f"{body[field]}{injected}"
    response = own.post("/outgoing-webhooks", {**body, field: value})
    if field in ("url", "events"):
        assert refused_fields(response, 400) == {field}
        return
    # What is no part of a header may be any text.
    made = answered(response, 201)
    assert answered(own.post(f"/outgoing-webhooks/{made['id']}/test"))["success"] is True
    [request] = receiver.received
    assert "x-injected" not in request.headers
    assert request.is_signed_with("s" if field == "name" else str(value))


def test_a_line_break_in_an_event_of_a_sender_is_no_header_of_ours(own: Api, tenant: LiveTenant) -> None:
    headers = {"X-Webhook-Token": tenant.webhook_token}
    body = {"queue_name": "q", "payload": 1, "event_type": "a\r\nX-Injected: 1"}
    response = own.post(f"/webhooks/{tenant.organization_id}/custom", body, **headers)
    assert refused_fields(response, 400) == {"event_type"}
    assert "x-injected" not in response.headers


def test_markup_is_no_name_of_anything_that_has_rules(own: Api, tenant: LiveTenant) -> None:
    markup = "<script>alert(1)</script>"
    assert refused_fields(own.post("/api-keys", {"name": markup}), 400) == {"name"}
    assert refused_fields(own.post("/api-keys", {"name": "k", "queues": [markup]}), 400) == {"queues[0]"}
    headers = {"X-Webhook-Token": tenant.webhook_token}
    for field in ("queue_name", "event_type"):
        body = {"queue_name": "q", "payload": 1, field: markup}
        response = own.post(f"/webhooks/{tenant.organization_id}/custom", body, **headers)
        assert refused_fields(response, 400) == {field}
    assert answered(own.get("/organizations/check-slug", slug=markup))["valid"] is False
