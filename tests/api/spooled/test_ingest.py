"""Incoming webhooks and their log over HTTP. Contract: spooled-tenancy 11."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.api.spooled.objects import conforms, shape
from tests.api.spooled.webhook_sender import Sender, github_signature, stripe_event
from tests.api.spooled.wire import Api, LiveTenant, a_queue, answered, refused, refused_fields

ACCEPTED = shape(job_id="text", queue_name="text", status="text", created="boolean")
DELIVERY = shape(
    id="text",
    provider="text",
    event_type="text",
    matched_queue="text",
    job_id="text",
    status="text",
    created_at="time",
)


@pytest.fixture
def sender(http: httpx2.Client, tenant: LiveTenant) -> Sender:
    """A sender to an organization of the test's own, on the top plan."""
    return Sender(http, tenant)


@pytest.fixture
def free_sender(http: httpx2.Client, free_tenant: LiveTenant) -> Sender:
    return Sender(http, free_tenant)


def test_a_custom_webhook_becomes_a_job(sender: Sender) -> None:
    body = {
        "queue_name": "orders.new-2_x",
        "event_type": "order.paid",
        "payload": {"n": 12345678901234567890, "job_type": "paid"},
        "idempotency_key": "order-1",
        "priority": -7,
        "unknown": True,
    }
    accepted = conforms(answered(sender.custom(body)), ACCEPTED)
    assert accepted == {
        "job_id": accepted["job_id"],
        "queue_name": "orders.new-2_x",
        "status": "pending",
        "created": True,
    }
    [job] = sender.jobs()
    assert (job["id"], job["queue_name"], job["priority"]) == (accepted["job_id"], "orders.new-2_x", -7)
    assert (job["max_retries"], job["timeout_seconds"], job["idempotency_key"]) == (3, 300, "order-1")
    assert job["payload"] == body["payload"]
    [entry] = sender.log()
    conforms(entry, DELIVERY)
    assert (entry["provider"], entry["event_type"], entry["matched_queue"]) == (
        "custom",
        "order.paid",
        "orders.new-2_x",
    )
    assert (entry["job_id"], entry["status"]) == (job["id"], "created")
    assert "payload" not in entry


@pytest.mark.parametrize("payload", [None, 0, "text", [], {}, [1, {"a": None}]])
def test_any_json_is_a_payload_if_its_key_is_there(sender: Sender, payload: object) -> None:
    answered(sender.custom({"queue_name": "q", "payload": payload}))
    [job] = sender.jobs()
    assert (job["payload"], job["priority"]) == (payload, 0)
    assert sender.log()[0]["event_type"] == "custom"


def test_a_repeat_is_answered_with_the_same_job_as_it_stands(sender: Sender) -> None:
    body = {"queue_name": "q", "payload": 1, "idempotency_key": "k"}
    first = answered(sender.custom(body))
    again = answered(sender.custom({**body, "queue_name": "another", "payload": 2}))
    assert again == {**first, "created": False, "queue_name": "q"}
    answered(sender.call("DELETE", f"/jobs/{first['job_id']}"), 204)
    assert answered(sender.custom(body))["status"] == "cancelled"
    assert len(sender.jobs()) == 1
    assert [entry["status"] for entry in sender.log()] == ["duplicate", "duplicate", "created"]


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"event_type": "x" * 101}, "event_type"),
        ({"event_type": "a b"}, "event_type"),
        ({"event_type": "<script>"}, "event_type"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
        ({"priority": 101}, "priority"),
        ({"priority": -101}, "priority"),
        ({"queue_name": "x" * 256}, "queue_name"),
    ],
)
def test_a_field_beyond_its_rule_is_400(sender: Sender, fields: dict[str, Any], broken: str) -> None:
    assert refused_fields(sender.custom({"queue_name": "q", "payload": 1, **fields}), 400) == {broken}
    sender.assert_nothing_came_in()


def test_fields_at_their_bounds_are_accepted(sender: Sender) -> None:
    body = {
        "queue_name": "x" * 255,
        "event_type": "x" * 100,
        "payload": 1,
        "idempotency_key": "x" * 255,
        "priority": 100,
    }
    assert answered(sender.custom(body))["queue_name"] == "x" * 255
    assert [entry["matched_queue"] for entry in sender.log(queue_name="x" * 255)] == ["x" * 255]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"payload": 1}, {"queue_name"}),
        ({"queue_name": "q"}, {"payload"}),
        ({"queue_name": 1, "payload": 1, "priority": "1"}, {"queue_name", "priority"}),
        ({"queue_name": "q", "payload": 1, "priority": 5.0}, {"priority"}),
        ([], {"body"}),
    ],
)
def test_a_missing_or_mistyped_field_is_422(sender: Sender, body: object, fields: set[str]) -> None:
    assert refused_fields(sender.custom(body), 422) == fields


@pytest.mark.parametrize("provider", ["custom", "github"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"NaN", b'{"a":1}x', b'{"a":"\\ud800"}', b"\xff", b"[" * 129 + b"]" * 129]
)
def test_a_body_that_is_no_json_is_400_after_its_sender_was_checked(
    sender: Sender, provider: str, content: bytes
) -> None:
    if provider == "custom":
        response = sender.post("custom", content, {"X-Webhook-Token": sender.tenant.webhook_token})
    else:
        response = sender.github(content)
    refused(response, 400, "INVALID_JSON")
    sender.assert_nothing_came_in()


def test_a_nul_character_is_400(sender: Sender) -> None:
    refused(sender.custom({"queue_name": "q", "payload": "a\0b"}), 400, "VALIDATION_ERROR")
    refused(sender.github(b'{"a":"\\u0000"}'), 400, "VALIDATION_ERROR")
    refused(sender.stripe(stripe_event("evt\0")), 400, "VALIDATION_ERROR")
    sender.assert_nothing_came_in()


def test_an_event_of_github_becomes_a_job_with_the_whole_body(sender: Sender) -> None:
    body = b' {"action": "opened", "number": 12345678901234567890, "repository": {"x": 1}, "sender": null}\n'
    accepted = answered(sender.github(body, X_GitHub_Event="pull_request", X_GitHub_Delivery="guid-1"))
    assert (accepted["queue_name"], accepted["status"], accepted["created"]) == (
        "github-pull_request",
        "pending",
        True,
    )
    [job] = sender.jobs()
    assert job["payload"] == json.loads(body)
    assert job["idempotency_key"] == "guid-1"
    [entry] = sender.log()
    assert (entry["provider"], entry["event_type"], entry["job_id"]) == ("github", "pull_request", job["id"])


def test_github_redelivers_without_a_second_job(sender: Sender) -> None:
    first = answered(sender.github(b"{}", X_GitHub_Delivery="guid"))
    again = answered(sender.github(b"{}", X_GitHub_Delivery="guid"))
    assert again == {**first, "created": False}
    # Without that header nothing tells a repeat.
    assert answered(sender.github(b"{}"))["created"] is True
    assert answered(sender.github(b"{}"))["created"] is True


def test_an_unnamed_event_of_github_is_unknown(sender: Sender) -> None:
    assert answered(sender.github(b"{}", X_GitHub_Event=None))["queue_name"] == "github-unknown"
    refused(sender.github(b"{}", X_GitHub_Delivery="x" * 256), 400, "VALIDATION_ERROR")
    refused(sender.github(b"[1]"), 422, "VALIDATION_ERROR")


def test_an_event_of_stripe_becomes_a_job_with_its_object(sender: Sender) -> None:
    accepted = answered(sender.stripe(stripe_event("evt_9", type="payment_intent.succeeded")))
    assert (accepted["queue_name"], accepted["created"]) == ("stripe-payment_intent-succeeded", True)
    [job] = sender.jobs()
    assert (job["payload"], job["idempotency_key"]) == ({"id": "ch_1", "amount": 5}, "evt_9")
    [entry] = sender.log()
    assert (entry["provider"], entry["event_type"]) == ("stripe", "payment_intent.succeeded")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None},
        {"id": ""},
        {"id": 5},
        {"id": "x" * 256},
        {"type": None},
        {"data": {}},
        {"data": 1},
        {"created": "1"},
        {"created": 1.5},
        {"created": 2**64},
    ],
)
def test_what_is_no_event_of_stripe_is_400(sender: Sender, fields: dict[str, Any]) -> None:
    refused(sender.stripe(stripe_event(**fields)), 400, "VALIDATION_ERROR")
    refused(sender.stripe(b"[]"), 400, "VALIDATION_ERROR")
    refused(sender.stripe(b"{"), 400, "INVALID_JSON")
    sender.assert_nothing_came_in()


def test_a_bearer_credential_is_ignored(sender: Sender, own: Api) -> None:
    for value in ("Bearer wrong", f"Bearer {own.api_key}", "Basic x"):
        answered(sender.custom({"queue_name": "q", "payload": 1}, Authorization=value))


def test_a_full_plan_takes_no_webhook(free_sender: Sender) -> None:
    body = {"queue_name": "q", "payload": 1}
    first = answered(free_sender.custom({**body, "idempotency_key": "k"}))
    for number in range(9):
        answered(free_sender.github(b"{}", X_GitHub_Delivery=f"guid-{number}"))
    problem = refused(free_sender.custom(body), 429, "QUOTA_EXCEEDED")
    assert (problem["resource"], problem["current"], problem["limit"]) == ("active_jobs", 10, 10)
    refused(free_sender.github(b"{}"), 429, "QUOTA_EXCEEDED")
    response = free_sender.stripe(stripe_event())
    refused(response, 429, "QUOTA_EXCEEDED")
    assert "retry-after" not in response.headers
    # A repeat costs nothing.
    assert answered(free_sender.custom({**body, "idempotency_key": "k"}))["job_id"] == first["job_id"]
    assert len(free_sender.jobs()) == 10
    assert len(free_sender.log()) == 11


def test_a_payload_beyond_the_plan_is_413(free_sender: Sender) -> None:
    problem = refused(free_sender.custom({"queue_name": "q", "payload": "x" * 65_535}), 413)
    assert (problem["current"], problem["limit"], problem["plan"]) == (65_537, 65_536, "free")
    refused(free_sender.github(b'{"a":"' + b"x" * 65_536 + b'"}'), 413, "PAYLOAD_TOO_LARGE")
    answered(free_sender.custom({"queue_name": "q", "payload": "x" * 65_534}))


def test_a_body_beyond_five_mebibytes_is_413(sender: Sender) -> None:
    body = b'{"a":"' + b"x" * (5 * 1024 * 1024) + b'"}'
    for provider in ("custom", "github", "stripe"):
        refused(sender.post(provider, body, {}), 413, "PAYLOAD_TOO_LARGE")


def test_the_log_is_filtered_and_paged(sender: Sender) -> None:
    body = {"queue_name": "q", "payload": 1, "idempotency_key": "k"}
    answered(sender.custom(body))
    answered(sender.github(b"{}"))
    answered(sender.custom(body))
    answered(sender.stripe(stripe_event()))
    log = sender.log()
    assert [entry["provider"] for entry in log] == ["stripe", "custom", "github", "custom"]
    assert sender.log(status="duplicate") == [log[1]]
    assert sender.log(queue_name="q") == [log[1], log[3]]
    assert sender.log(since=log[1]["created_at"]) == log[:2]
    assert sender.log(limit=2, offset=1) == log[1:3]
    assert sender.log(limit=0) == log[:1]
    assert sender.log(limit=10_000, offset=-5) == log
    assert sender.log(queue_name="'; drop table jobs; --") == []
    for params in ({"status": "failed"}, {"since": "yesterday"}, {"limit": "abc"}):
        refused(sender.call("GET", "/webhooks/deliveries", **params), 400, "BAD_REQUEST")


def test_the_log_is_for_unrestricted_keys(
    http: httpx2.Client, make_tenant: Callable[..., LiveTenant], anonymous: Api
) -> None:
    restricted = Sender(http, make_tenant(queues=("q",)))
    answered(restricted.custom({"queue_name": "q", "payload": 1}))
    refused(restricted.call("GET", "/webhooks/deliveries"), 403, "ACCESS_DENIED")
    refused(anonymous.get("/webhooks/deliveries"), 401, "UNAUTHORIZED")


def test_a_worker_gets_what_a_webhook_brought(http: httpx2.Client, tenant: LiveTenant) -> None:
    queue = a_queue()
    accepted = answered(Sender(http, tenant).custom({"queue_name": queue, "payload": {"n": 1}}))
    job = Api(http, tenant.url, tenant.api_key).claim_one(queue)
    assert (job["id"], job["payload"]) == (accepted["job_id"], {"n": 1})


def test_the_signature_is_of_the_raw_bytes(sender: Sender) -> None:
    spaced = b'{"a": 1,  "b": [ ]}'
    answered(sender.github(spaced))
    compact = json.dumps(json.loads(spaced), separators=(",", ":")).encode()
    refused(sender.github(spaced, github_signature(compact)), 401, "AUTHENTICATION_FAILED")
