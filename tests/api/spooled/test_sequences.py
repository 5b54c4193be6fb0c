"""The sequences that must hold end to end. Contract: spooled-jobs 15, by number."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused


def test_1_create_get_list_reprioritise_cancel(api: Api) -> None:
    queue = a_queue()
    made = answered(api.post("/jobs", {"queue_name": queue, "payload": {}, "priority": 5}), 201)
    assert made["created"] is True
    job = api.job(made["id"])
    assert (job["status"], job["priority"]) == ("pending", 5)
    assert [row["id"] for row in answered(api.get("/jobs", queue_name=queue))] == [made["id"]]
    assert answered(api.put(f"/jobs/{made['id']}/priority", {"priority": 10}))["new_priority"] == 10
    assert api.job(made["id"])["priority"] == 10
    answered(api.delete(f"/jobs/{made['id']}"), 204)
    assert api.status(made["id"]) == "cancelled"


def test_2_a_list_of_pending_jobs_has_no_others(own: Api) -> None:
    own.running("a")
    own.dead("b")
    own.enqueue("c")
    assert [row["status"] for row in answered(own.get("/jobs", status="pending"))] == ["pending"]


def test_3_bulk_then_batch_status(api: Api) -> None:
    queue = a_queue()
    answer = answered(
        api.post("/jobs/bulk", {"queue_name": queue, "jobs": [{"payload": n} for n in range(3)]})
    )
    assert (answer["success_count"], answer["failure_count"]) == (3, 0)
    ids = [item["job_id"] for item in answer["succeeded"]]
    rows = answered(api.get("/jobs/status", ids=",".join(ids)))
    assert [(row["id"], row["status"]) for row in rows] == [(job_id, "pending") for job_id in ids]


def test_4_one_key_twice(api: Api) -> None:
    body = {"queue_name": a_queue(), "idempotency_key": uuid.uuid4().hex}
    first = answered(api.post("/jobs", {**body, "payload": 1}), 201)
    second = answered(api.post("/jobs", {**body, "payload": 2}))
    assert (first["id"], first["created"], second["created"]) == (second["id"], True, False)


def test_5_a_worker_that_knows_no_lease_ids(api: Api) -> None:
    queue = a_queue()
    worker = answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)["id"]
    job_id = api.enqueue(queue)
    assert [job["id"] for job in api.claim(queue, worker)] == [job_id]
    job = api.job(job_id)
    assert (job["status"], job["assigned_worker_id"]) == ("processing", worker)
    answered(api.post(f"/jobs/{job_id}/heartbeat", {"worker_id": worker}))
    answered(api.post(f"/jobs/{job_id}/complete", {"worker_id": worker, "result": {"ok": 1}}))
    job = api.job(job_id)
    assert (job["status"], job["result"]) == ("completed", {"ok": 1})
    assert job["completed_at"] is not None
    assert api.post(f"/workers/{worker}/deregister").is_success


def test_6_a_job_without_retries_dies_and_is_retried_by_hand(api: Api) -> None:
    queue = a_queue()
    job = api.running(queue, max_retries=0)
    answered(api.post(f"/jobs/{job['id']}/fail", {"worker_id": "worker-1", "error": "e"}))
    assert api.status(job["id"]) == "deadletter"
    assert answered(api.post(f"/jobs/{job['id']}/retry"))["status"] == "pending"


def test_7_a_failed_job_with_retries_is_pending_at_once(api: Api) -> None:
    job = api.running(max_retries=3)
    api.fail(job)
    found = api.job(job["id"])
    assert found["status"] == "pending"
    assert found["retry_count"] >= 1


def test_8_a_pending_job_cannot_be_completed(api: Api) -> None:
    job_id = api.enqueue(a_queue())
    refused(api.post(f"/jobs/{job_id}/complete", {"worker_id": str(uuid.uuid4())}), 409, "CONFLICT")
    assert api.status(job_id) == "pending"


def test_9_two_workers_claim_one_job(api: Api) -> None:
    queue = a_queue()
    api.enqueue(queue)
    with ThreadPoolExecutor(5) as pool:
        taken = list(pool.map(lambda n: len(api.claim(queue, f"w-{n}")), range(5)))
    assert sum(taken) == 1


def test_10_five_concurrent_completions(api: Api) -> None:
    job = api.running()
    body = {"worker_id": "worker-1", "lease_id": job["lease_id"]}
    with ThreadPoolExecutor(5) as pool:
        calls = list(pool.map(lambda _: api.post(f"/jobs/{job['id']}/complete", body).status_code, range(5)))
    assert calls.count(200) == 1
    assert api.status(job["id"]) == "completed"


def test_11_to_13_a_queue_that_has_only_jobs(api: Api) -> None:
    queue = a_queue()
    api.enqueue(queue)
    paused = answered(api.post(f"/queues/{queue}/pause", {"reason": "deploy"}))
    assert (paused["queue_name"], paused["paused"], paused["reason"]) == (queue, True, "deploy")
    assert answered(api.post(f"/queues/{queue}/resume"))["resumed"] is True
    assert answered(api.get(f"/queues/{queue}/stats"))["pending_jobs"] == 1
    assert answered(api.put(f"/queues/{queue}/config", {"max_retries": 5}))["max_retries"] == 5


def test_14_a_worker_registers_and_reports(api: Api) -> None:
    made = answered(api.post("/workers/register", {"queue_name": "q", "hostname": "host-14"}), 201)
    assert made["lease_duration_secs"] > 0
    assert made["heartbeat_interval_secs"] > 0
    first = answered(api.get(f"/workers/{made['id']}"))
    assert (first["hostname"], first["status"]) == ("host-14", "healthy")
    assert made["id"] in [row["id"] for row in answered(api.get("/workers"))]
    answered(api.post(f"/workers/{made['id']}/heartbeat", {"current_jobs": 1}))
    assert answered(api.get(f"/workers/{made['id']}"))["last_heartbeat"] >= first["last_heartbeat"]


def test_20_and_21_times_are_kept(api: Api) -> None:
    later = "2999-06-01T12:00:00.000000Z"
    job_id = api.enqueue(a_queue(), scheduled_at=later, expires_at=later)
    job = api.job(job_id)
    assert (job["status"], job["expires_at"]) == ("scheduled", later)
    answered(api.delete(f"/jobs/{job_id}"), 204)


@pytest.mark.parametrize("payload", ["x" * 10_240, {"a": {"b": {"c": [1, {"d": None}]}}}, {}, {"語": "🚀 ñ"}])
def test_22_payloads_come_back_equal(api: Api, payload: object) -> None:
    assert api.job(api.enqueue(a_queue(), payload))["payload"] == payload


def test_23_and_24_queue_names(api: Api) -> None:
    queue = f"Aa0-_.{a_queue()}"
    assert api.job(api.enqueue(queue))["queue_name"] == queue
    refused(api.post("/jobs", {"queue_name": "", "payload": {}}), 400, "VALIDATION_ERROR")


def test_25_what_is_unknown_is_404(api: Api) -> None:
    refused(api.get(f"/jobs/{UNKNOWN_ID}"), 404, "NOT_FOUND")
    refused(api.get(f"/workers/{UNKNOWN_ID}"), 404, "NOT_FOUND")


def test_27_health(anonymous: Api) -> None:
    body = answered(anonymous.call("GET", "/health"))
    assert (body["status"], body["database"], body["cache"]) == ("healthy", True, True)


def test_28_and_29_nothing_is_an_empty_list_and_zero(own: Api) -> None:
    assert answered(own.get("/jobs/dlq")) == []
    assert answered(own.get("/queues")) == []
    assert answered(own.post("/jobs/dlq/retry", {}))["retried_count"] == 0
    assert answered(own.post("/jobs/dlq/retry", {"queue_name": "unused"}))["retried_count"] == 0


def test_30_ten_registrations_in_parallel(api: Api) -> None:
    body = {"queue_name": "q", "hostname": "h"}
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: answered(api.post("/workers/register", body), 201)["id"], range(10)))
    assert len(set(made)) == 10


def test_31_a_limit_of_200_gives_at_most_a_hundred(api: Api) -> None:
    assert len(answered(api.get("/jobs", limit=200))) <= 100
