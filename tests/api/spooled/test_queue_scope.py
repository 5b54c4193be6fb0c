"""A key that may touch some queues only. Contract: spooled-jobs 1.2; spooled-tenancy 4.2, 19.4; ruling R29."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import psycopg
import pytest

from tests.api.spooled.wire import (
    WORKER,
    Api,
    JsonObject,
    LiveServer,
    LiveTenant,
    answered,
    eventually,
    refused,
)


@pytest.fixture
def emails(http: httpx2.Client, make_tenant: Callable[..., LiveTenant]) -> Api:
    """A caller whose key names the queue `emails` alone."""
    tenant = make_tenant(queues=("emails",))
    return Api(http, tenant.url, tenant.api_key)


@dataclass
class Narrowed:
    """A caller whose key was narrowed to `emails` after objects of other queues had been made."""

    api: Api
    mine: str
    other: str
    running: list[JsonObject]
    dead: str
    worker: str


@pytest.fixture
def narrowed(http: httpx2.Client, server: LiveServer, tenant: LiveTenant) -> Narrowed:
    api = Api(http, tenant.url, tenant.api_key)
    answered(api.put("/queues/admin/config", {}))
    answered(api.put("/queues/emails/config", {}))
    dead = api.dead("admin")
    running = [api.running("admin") for _ in range(4)]
    other = api.enqueue("admin")
    mine = api.enqueue("emails")
    worker = answered(api.post("/workers/register", {"queue_name": "admin", "hostname": "h"}), 201)["id"]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            "update millstream.api_keys set queues = '{emails}', updated_at = now() where tenant_id ="
            " (select id from millstream.tenants where public_id = %s)",
            [tenant.organization_id],
        )
    # Every process reads changed credentials within a second (ruling R25).
    assert eventually(lambda: api.get("/queues/admin").status_code, lambda status: status == 403) == 403
    return Narrowed(api, mine, other, running, dead, worker)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/jobs", {"queue_name": "admin", "payload": 1}),
        ("POST", "/jobs/bulk", {"queue_name": "admin", "jobs": [{"payload": 1}]}),
        ("POST", "/jobs/claim", {"queue_name": "admin", "worker_id": "w"}),
        ("POST", "/jobs/dlq/retry", {"queue_name": "admin"}),
        ("POST", "/jobs/dlq/purge", {"queue_name": "admin", "confirm": True}),
        ("GET", "/queues/admin", None),
        ("GET", "/queues/admin/stats", None),
        ("PUT", "/queues/admin/config", {"max_retries": 1}),
        ("POST", "/queues/admin/pause", {}),
        ("POST", "/queues/admin/resume", None),
        ("DELETE", "/queues/admin", None),
        ("POST", "/workers/register", {"queue_name": "admin", "hostname": "h"}),
    ],
)
def test_naming_another_queue_is_403(emails: Api, method: str, path: str, body: object) -> None:
    refused(emails.call(method, path, body), 403, "ACCESS_DENIED")
    for similar in ("Emails", "emails2", "email"):
        named = {**body, "queue_name": similar} if isinstance(body, dict) and "queue_name" in body else body
        refused(emails.call(method, path.replace("admin", similar), named), 403, "ACCESS_DENIED")


def test_the_own_queue_is_open(emails: Api) -> None:
    emails.complete(emails.running("emails"))
    answered(emails.put("/queues/emails/config", {}))
    answered(emails.get("/queues/emails/stats"))
    answered(emails.post("/workers/register", {"queue_name": "emails", "hostname": "h"}), 201)


def test_a_pattern_is_a_name_and_matches_nothing_else(
    http: httpx2.Client, make_tenant: Callable[..., LiveTenant]
) -> None:
    tenant = make_tenant(queues=("email*",))
    response = Api(http, tenant.url, tenant.api_key).post("/jobs", {"queue_name": "emails", "payload": 1})
    refused(response, 403, "ACCESS_DENIED")


@pytest.mark.parametrize("queues", [(), ("a", "*")])
def test_no_names_or_a_star_are_all_queues(
    http: httpx2.Client, make_tenant: Callable[..., LiveTenant], queues: tuple[str, ...]
) -> None:
    tenant = make_tenant(queues=queues)
    Api(http, tenant.url, tenant.api_key).enqueue("anything")


def test_objects_of_other_queues_are_missing(narrowed: Narrowed) -> None:
    api, other, dead = narrowed.api, narrowed.other, narrowed.dead
    completed, failed, renewed, settled = (job["id"] for job in narrowed.running)
    answers = {
        (method, path): api.call(method, path, body)
        for method, path, body in (
            ("GET", f"/jobs/{other}", None),
            ("GET", f"/jobs/{other}/history", None),
            ("DELETE", f"/jobs/{other}", None),
            ("PUT", f"/jobs/{other}/priority", {"priority": 1}),
            ("POST", f"/jobs/{other}/progress", {"progress": 1}),
            ("GET", f"/jobs/{dead}", None),
            ("POST", f"/jobs/{completed}/complete", {"worker_id": WORKER}),
            ("POST", f"/jobs/{failed}/fail", {"worker_id": WORKER, "error": "e"}),
            ("POST", f"/jobs/{renewed}/heartbeat", {"worker_id": WORKER}),
            ("GET", f"/workers/{narrowed.worker}", None),
            ("POST", f"/workers/{narrowed.worker}/heartbeat", {"current_jobs": 0}),
            ("POST", f"/workers/{narrowed.worker}/deregister", None),
            ("DELETE", f"/workers/{narrowed.worker}", None),
        )
    }
    assert {call: answer.status_code for call, answer in answers.items() if answer.status_code != 404} == {}
    for answer in answers.values():
        refused(answer, 404, "NOT_FOUND")
    refused(api.post(f"/jobs/{dead}/retry"), 409, "CONFLICT")
    items = [{"job_id": settled, "action": "complete"}]
    batch = answered(api.post("/jobs/settle", {"worker_id": WORKER, "items": items}))
    assert [(result["success"], result.get("code")) for result in batch["results"]] == [(False, "NOT_FOUND")]


def test_lists_counts_and_sets_leave_other_queues_out(narrowed: Narrowed) -> None:
    api = narrowed.api
    assert [row["id"] for row in answered(api.get("/jobs"))] == [narrowed.mine]
    assert answered(api.get("/jobs/stats"))["total"] == 1
    assert answered(api.get("/jobs/dlq")) == []
    asked = answered(api.get("/jobs/status", ids=f"{narrowed.other},{narrowed.mine},{narrowed.dead}"))
    assert [row["id"] for row in asked] == [narrowed.mine]
    assert [row["queue_name"] for row in answered(api.get("/queues"))] == ["emails"]
    assert answered(api.get("/workers")) == []
    assert answered(api.post("/jobs/dlq/retry", {}))["retried_count"] == 0
    assert answered(api.post("/jobs/dlq/retry", {"job_ids": [narrowed.dead]}))["retried_count"] == 0
    assert answered(api.post("/jobs/dlq/purge", {"confirm": True}))["purged_count"] == 0
