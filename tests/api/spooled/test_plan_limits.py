"""Contract: spooled-jobs 1.10; spooled-tenancy 7. The free plan: 10 active jobs, 2 queues, 1 worker, 64 KiB."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx2

from tests.api.spooled.wire import Api, JsonObject, a_queue, answered, refused

KIB = 1024


def over_quota(response: httpx2.Response, resource: str, current: int, limit: int) -> JsonObject:
    body = refused(response, 429, "QUOTA_EXCEEDED")
    expected = {
        "error": "limit_exceeded",
        "resource": resource,
        "current": current,
        "limit": limit,
        "plan": "free",
        "upgrade_to": "starter",
    }
    assert {name: body.get(name) for name in expected} == expected
    assert "limit reached" in body["message"]
    assert "retry-after" not in response.headers
    return body


def fill(api: Api, queue: str, jobs: int) -> list[str]:
    body = {"queue_name": queue, "jobs": [{"payload": n} for n in range(jobs)]}
    return [item["job_id"] for item in answered(api.post("/jobs/bulk", body))["succeeded"]]


def test_ten_jobs_may_be_active(free: Api) -> None:
    fill(free, "q", 8)
    free.enqueue("q", scheduled_at="2999-01-01T00:00:00Z")
    free.enqueue("q")
    running = free.claim_one("q")
    body = over_quota(free.post("/jobs", {"queue_name": "q", "payload": 1}), "active_jobs", 10, 10)
    assert "(10/10)" in body["message"]
    free.complete(running)
    free.enqueue("q")
    over_quota(free.post("/jobs", {"queue_name": "other", "payload": 1}), "active_jobs", 10, 10)


def test_a_known_key_is_answered_before_any_quota(free: Api) -> None:
    key = uuid.uuid4().hex
    job_id = free.enqueue("q", 1, idempotency_key=key)
    fill(free, "q", 9)
    again = free.post("/jobs", {"queue_name": "q", "payload": 2, "idempotency_key": key})
    assert answered(again) == {"id": job_id, "created": False}


def test_a_bulk_request_that_does_not_fit_is_refused_whole(free: Api) -> None:
    fill(free, "q", 8)
    response = free.post("/jobs/bulk", {"queue_name": "q", "jobs": [{"payload": n} for n in range(3)]})
    over_quota(response, "active_jobs", 8, 10)
    assert answered(free.get("/jobs/stats"))["total"] == 8
    fill(free, "q", 2)


def test_of_two_creates_at_the_edge_one_succeeds(free: Api) -> None:
    fill(free, "q", 9)
    with ThreadPoolExecutor(6) as pool:
        body = {"queue_name": "q", "payload": 1}
        calls = [call.result() for call in [pool.submit(free.post, "/jobs", body) for _ in range(6)]]
    assert sorted(response.status_code for response in calls) == [201] + [429] * 5
    assert answered(free.get("/jobs/stats"))["pending"] == 10


def test_dead_letters_that_do_not_fit_are_not_retried(free: Api) -> None:
    dead = [free.dead("q"), free.dead("q")]
    filled = fill(free, "other", 9)
    over_quota(free.post("/jobs/dlq/retry", {}), "active_jobs", 9, 10)
    assert [free.status(job_id) for job_id in dead] == ["deadletter"] * 2
    assert answered(free.post("/jobs/dlq/retry", {"queue_name": "none"}))["retried_count"] == 0
    answered(free.delete(f"/jobs/{filled[0]}"), 204)
    assert answered(free.post("/jobs/dlq/retry", {}))["retried_count"] == 2


def test_a_thousand_jobs_may_be_created_in_a_day(free: Api) -> None:
    for _ in range(100):
        fill(free, "q", 10)
        answered(free.delete("/queues/q", delete_jobs="true"), 204)
    body = over_quota(free.post("/jobs", {"queue_name": "q", "payload": 1}), "jobs_per_day", 1000, 1000)
    assert "Daily job limit reached" in body["message"]
    over_quota(
        free.post("/jobs/bulk", {"queue_name": "q", "jobs": [{"payload": 1}]}), "jobs_per_day", 1000, 1000
    )


def test_two_queues_may_have_a_row(free: Api) -> None:
    answered(free.put("/queues/a/config", {}))
    answered(free.post("/queues/b/pause", {}))
    over_quota(free.put("/queues/c/config", {}), "queues", 2, 2)
    body = over_quota(free.post("/queues/d/pause", {}), "queues", 2, 2)
    assert "queues limit reached (2/2)" in body["message"]
    answered(free.put("/queues/a/config", {"max_retries": 1}))
    answered(free.post("/queues/a/pause", {}))
    free.enqueue("e")
    answered(free.delete("/queues/b"), 204)
    answered(free.put("/queues/c/config", {}))


def test_one_worker_may_be_registered(free: Api) -> None:
    body = {"queue_name": "q", "hostname": "h"}
    worker_id = f"w-{uuid.uuid4().hex}"
    answered(free.post("/workers/register", {**body, "worker_id": worker_id}), 201)
    over_quota(free.post("/workers/register", body), "workers", 1, 1)
    answered(free.post("/workers/register", {**body, "worker_id": worker_id}), 201)
    answered(free.post(f"/workers/{worker_id}/deregister"), 204)
    answered(free.post("/workers/register", body), 201)


def test_a_payload_above_the_plan_is_413(free: Api) -> None:
    free.enqueue("q", "x" * (64 * KIB - 2))
    response = free.post("/jobs", {"queue_name": "q", "payload": "x" * (64 * KIB - 1)})
    body = refused(response, 413, "PAYLOAD_TOO_LARGE")
    expected = {"error": "payload_too_large", "limit": 64 * KIB, "plan": "free", "upgrade_to": "starter"}
    assert {name: body.get(name) for name in expected} == expected
    assert body["current"] == 64 * KIB + 1


def test_the_top_plan_has_no_cap_on_what_is_active(own: Api) -> None:
    queue = a_queue()
    fill(own, queue, 100)
    for n in range(4):
        answered(own.put(f"/queues/{queue}-{n}/config", {}))
        answered(own.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)


def test_a_broken_body_is_told_before_a_quota(free: Api) -> None:
    fill(free, "q", 10)
    refused(free.post("/jobs", {"queue_name": "q"}), 422, "VALIDATION_ERROR")
    refused(free.post("/jobs", {"queue_name": "", "payload": 1}), 400, "VALIDATION_ERROR")
