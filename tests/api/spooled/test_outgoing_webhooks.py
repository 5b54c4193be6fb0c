"""Outgoing webhooks over HTTP. Contract: spooled-tenancy 10, 19.3 (C3, C4), 19.8 (H1 to H4, H7, H8, H23)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psycopg
import pytest

from tests.api.spooled.objects import DELIVERY, WEBHOOK, conforms
from tests.api.spooled.test_plan_limits import over_quota
from tests.api.spooled.wire import (
    UNKNOWN_ID,
    Api,
    JsonObject,
    answered,
    eventually,
    refused,
    refused_fields,
)
from tests.conftest import LiveServer
from tests.domain.test_webhook_url import HOSTS_INSIDE, HOSTS_OUTSIDE
from tests.live_tenants import LiveTenant
from tests.receiver import Receiver, listening

PATH = "/outgoing-webhooks"
EVENTS = [
    *(
        "job.created",
        "job.started",
        "job.completed",
        "job.failed",
        "job.cancelled",
        "job.deadlettered",
        "job.retried",
    ),
    *("queue.paused", "queue.resumed", "worker.registered", "worker.deregistered", "schedule.triggered"),
    *("workflow.completed", "workflow.failed"),
]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as opened:
        yield opened


def create(api: Api, url: str, *events: str, **fields: object) -> JsonObject:
    body = {"name": "hook", "url": url, "events": list(events) or EVENTS, **fields}
    return answered(api.post(PATH, body), 201)


def settled(api: Api, webhook: JsonObject, count: int = 1) -> list[JsonObject]:
    """The webhook's deliveries once `count` of them are no longer pending."""
    rows = eventually(
        lambda: answered(api.get(f"{PATH}/{webhook['id']}/deliveries")),
        lambda rows: sum(row["status"] != "pending" for row in rows) >= count,
        seconds=30,
    )
    assert sum(row["status"] != "pending" for row in rows) >= count, rows
    return rows


def test_a_webhook_is_made_read_changed_and_deleted(own: Api, tenant: LiveTenant, receiver: Receiver) -> None:
    made = conforms(create(own, receiver.url, "job.completed", "job.failed", "job.completed"), WEBHOOK)
    expected = {
        "organization_id": tenant.organization_id,
        "name": "hook",
        "url": receiver.url,
        "events": ["job.completed", "job.failed"],
        "format": "json",
        "enabled": True,
        "failure_count": 0,
        "last_triggered_at": None,
        "last_status": None,
    }
    assert {name: made[name] for name in expected} == expected
    assert answered(own.get(f"{PATH}/{made['id']}")) == made
    second = create(own, "https://example.com/hook", "queue.paused", enabled=False, format="slack")
    assert [row["id"] for row in answered(own.get(PATH))] == [second["id"], made["id"]]
    body = {"name": "new", "events": ["job.created"], "format": "discord", "description": "ignored"}
    changed = answered(own.put(f"{PATH}/{made['id']}", body))
    assert changed == made | {
        "name": "new",
        "events": ["job.created"],
        "format": "discord",
        "updated_at": changed["updated_at"],
    }
    nothing = {"name": None, "url": None, "events": None, "enabled": None, "format": None}
    kept = answered(own.put(f"{PATH}/{made['id']}", nothing))
    assert kept == changed | {"updated_at": kept["updated_at"]}
    answered(own.delete(f"{PATH}/{made['id']}"), 204)
    refused(own.get(f"{PATH}/{made['id']}"), 404, "NOT_FOUND")
    refused(own.delete(f"{PATH}/{made['id']}"), 404, "NOT_FOUND")
    assert len(answered(own.get(PATH))) == 1


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_can_be_asked_for(own: Api, event: str) -> None:
    assert create(own, "https://example.com/hook", event, enabled=False)["events"] == [event]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"events": []}, "events"),
        ({"events": ["job.exploded"]}, "events"),
        ({"events": ["webhook.test"]}, "events"),
        ({"events": ["job.created"] * 101}, "events"),
        ({"secret": ""}, "secret"),
        ({"secret": "x" * 256}, "secret"),
        ({"format": "xml"}, "format"),
        ({"format": "JSON"}, "format"),
        ({"url": ""}, "url"),
        ({"url": "https://example.com/" + "x" * 2048}, "url"),
    ],
)
def test_a_broken_rule_is_400(own: Api, fields: JsonObject, field: str) -> None:
    good = {"name": "hook", "url": "https://example.com/hook", "events": ["job.created"], "enabled": False}
    assert refused_fields(own.post(PATH, {**good, **fields}), 400) == {field}
    made = answered(own.post(PATH, {**good, "name": "x" * 255, "secret": "x" * 255}), 201)
    assert refused_fields(own.put(f"{PATH}/{made['id']}", fields), 400) == {field}
    assert answered(own.get(PATH)) == [made]


def test_an_unknown_event_is_named(own: Api) -> None:
    body = {"name": "hook", "url": "https://example.com/hook", "events": ["job.exploded"]}
    assert "job.exploded" in refused(own.post(PATH, body), 400, "VALIDATION_ERROR")["message"]


def test_what_is_missing_is_422(own: Api) -> None:
    assert refused_fields(own.post(PATH, {}), 422) == {"name", "url", "events"}


def test_every_address_inside_is_refused_with_the_same_words(api: Api) -> None:
    texts = [f"https://{host}/x" for host in HOSTS_INSIDE]
    texts += [f"http://{host}/x" for host in HOSTS_INSIDE if host not in {"localhost", "127.0.0.1"}]
    texts += [f"http://{host}/x" for host in HOSTS_OUTSIDE]
    texts += ["ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)"]
    texts += ["https://user@example.com/", "https://u:p@example.com/", "http://u@localhost/", "example.com"]
    body = {"name": "hook", "events": ["schedule.triggered"]}
    answers = {
        text: refused(api.post(PATH, {**body, "url": text}), 400, "VALIDATION_ERROR") for text in texts
    }
    assert {answer["message"] for answer in answers.values()} == {"url: Invalid webhook URL"}


@pytest.mark.parametrize("host", [*HOSTS_OUTSIDE, "172.200.0.1", "172.32.255.255"])
def test_public_addresses_are_accepted(own: Api, host: str) -> None:
    create(own, f"https://{host}/x", "schedule.triggered")


def test_an_address_cannot_be_switched_to_one_inside(own: Api, receiver: Receiver) -> None:
    made = create(own, receiver.url, enabled=False)
    body = refused(own.put(f"{PATH}/{made['id']}", {"url": "https://10.0.0.1/"}), 400, "VALIDATION_ERROR")
    assert "Invalid webhook URL" in body["message"]
    assert answered(own.get(f"{PATH}/{made['id']}"))["url"] == receiver.url
    assert receiver.received == []


def test_a_delivery_is_sent_signed_and_listed(own: Api, receiver: Receiver) -> None:
    made = create(own, receiver.url, "job.created", secret="a sécret")
    job_id = own.enqueue("mail", {"n": 1})
    [request] = receiver.wait(1)
    assert request.is_signed_with("a sécret")
    assert (request.event, request.attempt) == ("job.created", 1)
    envelope = request.json
    assert envelope["id"] == request.delivery_id
    assert (envelope["event"], envelope["data"]["job_id"]) == ("job.created", job_id)
    [row] = settled(own, made)
    conforms(row, DELIVERY)
    assert row["payload"] == envelope
    expected = {
        "id": request.delivery_id,
        "webhook_id": made["id"],
        "event": "job.created",
        "status": "success",
        "status_code": 200,
        "response_body": "thanks",
        "error": None,
        "attempts": 1,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["delivered_at"] >= row["created_at"]
    after = answered(own.get(f"{PATH}/{made['id']}"))
    assert (after["last_status"], after["failure_count"]) == ("success", 0)
    assert after["last_triggered_at"]


def test_a_secret_is_kept_cleared_or_replaced(own: Api, receiver: Receiver) -> None:
    made = create(own, receiver.url, "job.created", secret="first")
    path = f"{PATH}/{made['id']}"
    for number, (change, secret) in enumerate(
        [({}, "first"), ({"secret": "second"}, "second"), ({"secret": None}, None)], start=1
    ):
        answered(own.put(path, change))
        own.enqueue("q")
        request = receiver.wait(number)[-1]
        if secret is None:
            assert "x-spooled-signature" not in request.headers
        else:
            assert request.is_signed_with(secret)


@pytest.mark.parametrize(
    ("chosen", "keys"),
    [("slack", {"text"}), ("discord", {"content"}), ("teams", {"type", "attachments"})],
)
def test_chats_get_messages(own: Api, receiver: Receiver, chosen: str, keys: set[str]) -> None:
    create(own, receiver.url, "job.created", format=chosen, secret="s")
    job_id = own.enqueue("q")
    [request] = receiver.wait(1)
    assert set(request.json) == keys
    assert job_id in request.body.decode()
    assert request.is_signed_with("s")


def test_the_secret_is_nowhere_to_be_read(own: Api, server: LiveServer, receiver: Receiver) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    receiver.status = 500
    made = create(own, receiver.url, "job.created", secret=secret)
    path = f"{PATH}/{made['id']}"
    own.enqueue("q")
    [request] = receiver.wait(1)
    delivery = eventually(
        lambda: answered(own.get(f"{path}/deliveries"))[0], lambda row: row["attempts"] >= 1, seconds=30
    )
    answers = [
        *(own.get(PATH), own.get(path), own.get(f"{path}/deliveries"), own.post(f"{path}/test")),
        *(own.put(path, {"secret": secret}), own.post(f"{path}/retry/{delivery['id']}")),
    ]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer for answer in answers if secret in answer.text] == []
    assert secret not in request.body.decode()
    assert secret not in (server.data_dir / "serve.log").read_text()


def test_a_failure_says_nothing_of_where_it_was(own: Api, receiver: Receiver) -> None:
    with listening() as gone:
        url = gone.url
    made = create(own, url, "job.created")
    own.enqueue("q")
    [row] = eventually(
        lambda: answered(own.get(f"{PATH}/{made['id']}/deliveries")),
        lambda rows: bool(rows and rows[0]["attempts"]),
        seconds=30,
    )
    assert (row["error"], row["status_code"], row["response_body"]) == ("Request failed", None, None)
    trial = answered(own.post(f"{PATH}/{made['id']}/test"))
    assert (trial["success"], trial["status_code"], trial["error"]) == (False, None, "Request failed")


def test_what_a_receiver_says_is_cleaned_and_cut(own: Api, receiver: Receiver) -> None:
    receiver.status, receiver.answer = 202, b"\x1b[31m\x00a\tb\r\n" + b"x" * 5_000_000
    made = create(own, receiver.url, "job.created")
    own.enqueue("q")
    [row] = settled(own, made)
    assert row["status_code"] == 202
    assert row["response_body"].startswith("[31ma\tb\r\nxxx")
    assert len(row["response_body"]) == 500


def test_a_test_is_one_attempt_that_leaves_no_trace(own: Api, tenant: LiveTenant, receiver: Receiver) -> None:
    made = create(own, receiver.url, "job.created", enabled=False, secret="s")
    path = f"{PATH}/{made['id']}"
    trial = answered(own.post(f"{path}/test"))
    assert (trial["success"], trial["status_code"], trial["error"]) == (True, 200, None)
    assert type(trial["response_time_ms"]) is int
    [request] = receiver.received
    assert request.is_signed_with("s")
    assert (request.event, request.json["event"]) == ("webhook.test", "webhook.test")
    data = request.json["data"]
    assert (data["webhook_id"], data["organization_id"]) == (made["id"], tenant.organization_id)
    assert data["test"] is True
    assert data["message"]
    assert data["timestamp"]
    receiver.status = 418
    trial = answered(own.post(f"{path}/test"))
    assert (trial["success"], trial["status_code"], trial["error"]) == (False, 418, "HTTP 418")
    assert len(receiver.received) == 2
    assert answered(own.get(f"{path}/deliveries")) == []
    assert answered(own.get(path)) == made


@pytest.mark.parametrize("alias", ["retry/{}", "deliveries/{}/retry"])
def test_a_delivery_is_sent_once_more_on_request(own: Api, receiver: Receiver, alias: str) -> None:
    made = create(own, receiver.url, "job.created")
    own.enqueue("q")
    [row] = settled(own, made)
    path = f"{PATH}/{made['id']}/{alias.format(row['id'])}"
    answer = answered(own.post(path))
    assert answer == {"success": True, "message": "Delivered", "delivery_id": row["id"], "status": "success"}
    assert [request.delivery_id for request in receiver.received] == [row["id"]] * 2
    receiver.status = 500
    answer = answered(own.post(path))
    assert (answer["success"], answer["message"]) == (False, "HTTP 500")


def test_deliveries_are_paged_and_filtered(own: Api, receiver: Receiver) -> None:
    made = create(own, receiver.url, "job.created")
    for _ in range(3):
        own.enqueue("q")
    rows = settled(own, made, 3)
    path = f"{PATH}/{made['id']}/deliveries"
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    assert answered(own.get(path, limit=1, offset=1)) == rows[1:2]
    assert answered(own.get(path, limit=0)) == rows[:1]
    assert answered(own.get(path, limit=1000)) == rows
    assert answered(own.get(path, status="success")) == rows
    assert answered(own.get(path, status="failed")) == []
    refused(own.get(path, status="lost"), 400, "BAD_REQUEST")


def test_a_foreign_webhook_is_a_missing_one(api: Api, own: Api, receiver: Receiver) -> None:
    theirs = create(own, receiver.url, "job.created")
    own.enqueue("q")
    [row] = settled(own, theirs)
    mine = create(api, "https://hooks.invalid/x", "schedule.triggered")
    for webhook_id in (theirs["id"], UNKNOWN_ID, "no-uuid", "%27%20OR%201=1"):
        path = f"{PATH}/{webhook_id}"
        for method, rest, body in (
            ("GET", "", None),
            ("PUT", "", {"name": "x"}),
            ("DELETE", "", None),
            ("POST", "/test", None),
            ("GET", "/deliveries", None),
            ("POST", f"/retry/{row['id']}", None),
            ("POST", f"/deliveries/{row['id']}/retry", None),
        ):
            refused(api.call(method, path + rest, body), 404, "NOT_FOUND")
    refused(api.post(f"{PATH}/{mine['id']}/retry/{row['id']}"), 404, "NOT_FOUND")
    assert len(receiver.received) == 1
    assert theirs["id"] not in {webhook["id"] for webhook in answered(api.get(PATH))}


def test_the_free_plan_has_one_enabled_webhook(free: Api) -> None:
    first = create(free, "https://example.com/a", "job.created")
    off = create(free, "https://example.com/b", "job.created", enabled=False)
    body = {"name": "c", "url": "https://example.com/c", "events": ["job.created"]}
    over_quota(free.post(PATH, body), "webhooks", 1, 1)
    over_quota(free.put(f"{PATH}/{off['id']}", {"enabled": True}), "webhooks", 1, 1)
    answered(free.put(f"{PATH}/{first['id']}", {"enabled": False}))
    with ThreadPoolExecutor(4) as pool:
        calls = [call.result() for call in [pool.submit(free.post, PATH, body) for _ in range(4)]]
    assert sorted(response.status_code for response in calls) == [201, 429, 429, 429]


def test_a_key_of_some_queues_may_not_touch_webhooks(
    http: httpx2.Client, make_tenant: Callable[..., LiveTenant]
) -> None:
    tenant = make_tenant(queues=("emails",))
    emails = Api(http, tenant.url, tenant.api_key)
    body = {"name": "c", "url": "https://example.com/c", "events": ["job.created"]}
    refused(emails.post(PATH, body), 403, "ACCESS_DENIED")
    for method, path in (
        ("GET", PATH),
        ("GET", f"{PATH}/{UNKNOWN_ID}"),
        ("DELETE", f"{PATH}/{UNKNOWN_ID}"),
        ("POST", f"{PATH}/{UNKNOWN_ID}/test"),
        ("GET", f"{PATH}/{UNKNOWN_ID}/deliveries"),
        ("POST", f"{PATH}/{UNKNOWN_ID}/retry/{UNKNOWN_ID}"),
    ):
        refused(emails.call(method, path), 403, "ACCESS_DENIED")


def test_a_completion_webhook_is_called_once_the_job_is_done(own: Api, receiver: Receiver) -> None:
    job = own.running("mail", completion_webhook=receiver.url, completion_webhook_secret="shh")
    own.complete(job, result={"sent": True})
    [request] = receiver.wait(1)
    assert request.is_signed_with("shh")
    assert request.json["event"] == "job.completed"
    assert request.json["job_id"] == job["id"]
    assert request.json["result"] == {"sent": True}
    assert request.json["completed_at"] == own.job(job["id"])["completed_at"]
    assert request.json["created_at"] == own.job(job["id"])["created_at"]
    assert own.job(job["id"])["completion_webhook"] == receiver.url


def test_deliveries_of_one_tenant_are_hidden_from_another_by_the_database(
    own: Api, tenant: LiveTenant, server: LiveServer, receiver: Receiver
) -> None:
    made = create(own, receiver.url, "job.created", secret="s")
    own.enqueue("q")
    settled(own, made)
    with psycopg.connect(server.dsn) as connection:
        connection.execute("set role millstream_tenant")
        for setting, rows in (("", 0), ("0", 0), (str(tenant.tenant_id), 1)):
            connection.execute("select set_config('millstream.tenant_id', %s, false)", [setting])
            for table in ("outgoing_webhooks", "outgoing_deliveries"):
                found = connection.execute(f"select count(*) from millstream.{table}").fetchone()
                assert found == (rows,), (table, setting)
