"""Contract: spooled-jobs 1.2; spooled-tenancy 19.3."""

from __future__ import annotations

import pytest

from tests.api.spooled.wire import WORKER, Api, a_queue, answered, refused


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/jobs/{}", None),
        ("DELETE", "/jobs/{}", None),
        ("PUT", "/jobs/{}/priority", {"priority": 5}),
        ("GET", "/jobs/{}/history", None),
        ("POST", "/jobs/{}/complete", {"worker_id": WORKER}),
        ("POST", "/jobs/{}/fail", {"worker_id": WORKER, "error": "e"}),
        ("POST", "/jobs/{}/heartbeat", {"worker_id": WORKER}),
        ("POST", "/jobs/{}/progress", {"progress": 1}),
    ],
)
@pytest.mark.parametrize("status", ["pending", "processing", "deadletter", "completed"])
def test_a_foreign_job_is_a_missing_one(
    api: Api, own: Api, status: str, method: str, path: str, body: object
) -> None:
    queue = a_queue()
    job_id = api.enqueue(queue, max_retries=0)
    if status != "pending":
        job = api.claim_one(queue)
        if status == "deadletter":
            api.fail(job)
        elif status == "completed":
            api.complete(job)
    before = api.job(job_id)
    refused(own.call(method, path.format(job_id), body), 404, "NOT_FOUND")
    assert api.job(job_id) == before


def test_lists_counts_and_searches_show_own_rows_only(api: Api, own: Api) -> None:
    queue = a_queue()
    api.dead(queue)
    job_id = api.enqueue(queue)
    answered(api.put(f"/queues/{queue}/config", {"max_retries": 9}))
    answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)
    for path in (
        "/jobs",
        "/jobs/dlq",
        "/queues",
        "/workers",
        f"/jobs/status?ids={job_id}",
        f"/jobs?q={job_id}",
    ):
        assert answered(own.get(path)) == []
    assert answered(own.get("/jobs/stats"))["total"] == 0
    assert answered(own.get(f"/queues/{queue}/stats"))["pending_jobs"] == 0
    refused(own.get(f"/queues/{queue}"), 404, "NOT_FOUND")
    assert own.claim(queue) == []


def test_queues_of_one_name_are_apart(api: Api, own: Api) -> None:
    queue = a_queue()
    answered(api.put(f"/queues/{queue}/config", {"max_retries": 9}))
    theirs = api.enqueue(queue)
    mine = own.enqueue(queue)
    assert own.job(mine)["max_retries"] == 3
    answered(own.post(f"/queues/{queue}/pause", {"reason": "mine"}))
    assert answered(api.get(f"/queues/{queue}"))["enabled"] is True
    assert api.claim_one(queue)["id"] == theirs
    answered(own.delete(f"/queues/{queue}", delete_jobs="true"), 204)
    assert api.status(theirs) == "processing"
    assert answered(api.get(f"/queues/{queue}"))["max_retries"] == 9


def test_a_foreign_worker_is_a_missing_one(api: Api, own: Api) -> None:
    worker_id = answered(api.post("/workers/register", {"queue_name": "q", "hostname": "h"}), 201)["id"]
    before = answered(api.get(f"/workers/{worker_id}"))
    refused(own.get(f"/workers/{worker_id}"), 404, "NOT_FOUND")
    refused(own.post(f"/workers/{worker_id}/heartbeat", {"current_jobs": 9}), 404, "NOT_FOUND")
    refused(own.post(f"/workers/{worker_id}/deregister"), 404, "NOT_FOUND")
    refused(own.delete(f"/workers/{worker_id}"), 404, "NOT_FOUND")
    assert answered(api.get(f"/workers/{worker_id}")) == before


def test_naming_another_organization_changes_nothing(api: Api, own: Api) -> None:
    job_id = api.enqueue(a_queue())
    other = api.job(job_id)["organization_id"]
    response = own.call(
        "GET", f"/jobs/{job_id}", headers={"X-Organization-ID": other}, params={"organization_id": other}
    )
    refused(response, 404, "NOT_FOUND")
    made = own.enqueue("q", 1, organization_id=other)
    assert own.job(made)["organization_id"] != other
