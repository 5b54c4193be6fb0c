"""Every operation in every status: what it makes of the job, or how it is refused.

Contract: spooled-jobs 10.1 (the table), 10.3, 12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import httpx2
import pytest

from tests.api.spooled.wire import WORKER, Api, JsonObject, a_queue, answered, refused

LATER = "2999-01-01T00:00:00Z"


def pending(api: Api, queue: str) -> JsonObject:
    return {"id": api.enqueue(queue, max_retries=0), "lease_id": None}


def waiting_for_retry(api: Api, queue: str) -> JsonObject:
    job = api.running(queue)
    api.fail(job, retry_in_seconds=3600)
    return {"id": job["id"], "lease_id": None}


def scheduled(api: Api, queue: str) -> JsonObject:
    return {"id": api.enqueue(queue, scheduled_at=LATER), "lease_id": None}


def processing(api: Api, queue: str) -> JsonObject:
    return api.running(queue, max_retries=1)


def last_attempt(api: Api, queue: str) -> JsonObject:
    return api.running(queue, max_retries=0)


def completed(api: Api, queue: str) -> JsonObject:
    job = api.running(queue)
    api.complete(job)
    return job


def deadletter(api: Api, queue: str) -> JsonObject:
    job = api.running(queue, max_retries=0)
    api.fail(job)
    return job


def cancelled(api: Api, queue: str) -> JsonObject:
    job = pending(api, queue)
    answered(api.delete(f"/jobs/{job['id']}"), 204)
    return job


Arrange: TypeAlias = Callable[[Api, str], JsonObject]
STATUSES: dict[str, Arrange] = {
    "pending": pending,
    "waiting for retry": waiting_for_retry,
    "scheduled": scheduled,
    "processing": processing,
    "last attempt": last_attempt,
    "completed": completed,
    "deadletter": deadletter,
    "cancelled": cancelled,
}
WIRE = {"waiting for retry": "pending", "last attempt": "processing"}


def settle(action: str, **fields: object) -> Callable[[Api, str, JsonObject], httpx2.Response]:
    def call(api: Api, _queue: str, job: JsonObject) -> httpx2.Response:
        body = {"worker_id": WORKER, "lease_id": job["lease_id"], **fields}
        return api.post(f"/jobs/{job['id']}/{action}", body)

    return call


OPERATIONS: dict[str, Callable[[Api, str, JsonObject], httpx2.Response]] = {
    "claim": lambda api, queue, _: api.post(
        "/jobs/claim", {"queue_name": queue, "worker_id": WORKER, "limit": 9}
    ),
    "complete": settle("complete"),
    "fail": settle("fail", error="boom", retry_in_seconds=0),
    "heartbeat": settle("heartbeat"),
    "cancel": lambda api, _, job: api.delete(f"/jobs/{job['id']}"),
    "retry": lambda api, _, job: api.post(f"/jobs/{job['id']}/retry"),
    "dlq retry": lambda api, _, job: api.post("/jobs/dlq/retry", {"job_ids": [job["id"]]}),
    "purge": lambda api, queue, _: api.post("/jobs/dlq/purge", {"confirm": True, "queue_name": queue}),
}

# The legal transitions: what the status becomes and the history events that tell of it. Every pair that is not
# here leaves the job exactly as it was.
LEGAL: dict[tuple[str, str], tuple[str | None, list[str]]] = {
    ("pending", "claim"): ("processing", ["claimed"]),
    ("pending", "cancel"): ("cancelled", ["cancelled"]),
    ("waiting for retry", "cancel"): ("cancelled", ["cancelled"]),
    ("scheduled", "cancel"): ("cancelled", ["cancelled"]),
    ("processing", "complete"): ("completed", ["completed"]),
    ("processing", "fail"): ("pending", ["failed"]),
    ("processing", "heartbeat"): ("processing", []),
    ("last attempt", "complete"): ("completed", ["completed"]),
    ("last attempt", "fail"): ("deadletter", ["failed", "deadlettered"]),
    ("last attempt", "heartbeat"): ("processing", []),
    ("deadletter", "retry"): ("pending", ["retried"]),
    ("deadletter", "dlq retry"): ("pending", ["retried"]),
    ("deadletter", "purge"): (None, []),
}
# These answer 200 whether they found something to do or not.
SETS = {"claim", "dlq retry", "purge"}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", STATUSES)
def test_each_operation_in_each_status(api: Api, status: str, operation: str) -> None:
    queue = a_queue()
    job = STATUSES[status](api, queue)
    before, history = api.job(job["id"]), api.history(job["id"])
    assert before["status"] == WIRE.get(status, status)
    response = OPERATIONS[operation](api, queue, job)
    legal = LEGAL.get((status, operation))
    if legal is None:
        if operation in SETS:
            answered(response)
        else:
            refused(response, 409, "CONFLICT")
        assert api.job(job["id"]) == before
        assert api.history(job["id"]) == history
        return
    assert response.is_success, response.text
    after, events = legal
    if after is None:
        refused(api.get(f"/jobs/{job['id']}"), 404, "NOT_FOUND")
        return
    assert api.status(job["id"]) == after
    assert api.history(job["id"]) == history + events
    holder = api.job(job["id"])["assigned_worker_id"]
    assert holder == (WORKER if after in ("processing", "completed") else None)


def test_an_expiry_that_passes_while_a_job_runs_does_not_touch_it(api: Api) -> None:
    queue = a_queue()
    job = api.running(queue, expires_at="2999-01-01T00:00:00Z")
    api.complete(job)
    assert api.job(job["id"])["expires_at"] == "2999-01-01T00:00:00.000000Z"


def test_a_due_scheduled_job_can_be_claimed(api: Api) -> None:
    queue = a_queue()
    created = api.job(api.enqueue(queue))["created_at"]
    api.claim_one(queue)
    job_id = api.enqueue(queue, scheduled_at=created)
    claimed = api.claim_one(queue)
    assert claimed["id"] == job_id
    assert api.job(job_id)["scheduled_at"] == created
