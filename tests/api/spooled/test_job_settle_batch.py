"""The extension `POST /jobs/settle`: many completions and failures in one request, each judged by itself."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.spooled.wire import UNKNOWN_ID, WORKER, Api, JsonObject, a_queue, answered, refused


def settle(api: Api, items: list[JsonObject], worker: str | None = WORKER) -> JsonObject:
    answer = answered(api.post("/jobs/settle", {"worker_id": worker, "items": items}))
    assert [result["job_id"] for result in answer["results"]] == [item["job_id"] for item in items]
    succeeded = sum(result["success"] for result in answer["results"])
    assert (answer["success_count"], answer["failure_count"]) == (succeeded, len(items) - succeeded)
    return answer


def item(job: JsonObject, action: str, **fields: object) -> JsonObject:
    return {"job_id": job["id"], "lease_id": job["lease_id"], "action": action, **fields}


def test_completions_and_failures_mix_and_answers_follow_the_request(api: Api) -> None:
    queue = a_queue()
    jobs = [api.running(queue, max_retries=retries) for retries in (3, 3, 0, 3)]
    answer = settle(
        api,
        [
            item(jobs[0], "complete", result={"n": 1}),
            item(jobs[1], "fail", error="later", retry_in_seconds=3600),
            item(jobs[2], "fail", error="never"),
            item(jobs[3], "complete"),
        ],
    )
    assert answer["results"] == [{"job_id": job["id"], "success": True} for job in jobs]
    found = [api.job(job["id"]) for job in jobs]
    assert [job["status"] for job in found] == ["completed", "pending", "deadletter", "completed"]
    assert [job["result"] for job in found] == [{"n": 1}, None, None, None]
    assert [job["last_error"] for job in found] == [None, "later", "never", None]
    assert [job["retry_count"] for job in found] == [0, 1, 0, 0]
    assert api.history(jobs[2]["id"]) == ["created", "claimed", "failed", "deadlettered"]


def test_each_item_passes_the_fence_of_the_single_calls(api: Api) -> None:
    good, stolen, done, others, waiting = (api.running() for _ in range(5))
    api.complete(done)
    others = api.running(worker="someone-else")
    waiting = {"id": api.enqueue(a_queue()), "lease_id": None}
    answer = settle(
        api,
        [
            {"job_id": UNKNOWN_ID, "lease_id": str(uuid.uuid4()), "action": "complete"},
            item({**stolen, "lease_id": str(uuid.uuid4())}, "complete"),
            item({**stolen, "lease_id": "not-a-uuid"}, "fail", error="e"),
            item(done, "complete"),
            item(others, "complete"),
            item(waiting, "complete"),
            {"job_id": "not-a-uuid", "action": "complete"},
            item(good, "complete"),
        ],
    )
    failures = [(result["success"], result.get("code")) for result in answer["results"]]
    assert failures == [
        (False, "NOT_FOUND"),
        (False, "LEASE_EXPIRED"),
        (False, "LEASE_EXPIRED"),
        (False, "CONFLICT"),
        (False, "CONFLICT"),
        (False, "CONFLICT"),
        (False, "NOT_FOUND"),
        (True, None),
    ]
    assert all(result["message"] for result in answer["results"][:7])
    assert "already completed" in answer["results"][3]["message"]
    assert api.status(stolen["id"]) == "processing"
    assert api.status(others["id"]) == "processing"
    assert api.status(good["id"]) == "completed"


@pytest.mark.parametrize("lease", ["absent", None, ""])
def test_without_a_lease_the_worker_id_is_the_fence(api: Api, lease: str | None) -> None:
    job = api.running()
    fields: JsonObject = {} if lease == "absent" else {"lease_id": lease}
    assert settle(api, [{"job_id": job["id"], "action": "complete", **fields}])["success_count"] == 1


def test_an_item_may_name_its_own_worker(api: Api) -> None:
    mine, others = api.running(), api.running(worker="w-2")
    items = [item(mine, "complete", worker_id=WORKER), item(others, "complete", worker_id="w-2")]
    assert settle(api, items, worker=None)["success_count"] == 2


def test_of_two_items_for_one_job_one_counts(api: Api) -> None:
    job = api.running()
    answer = settle(api, [item(job, "complete", result=1), item(job, "complete", result=2)])
    assert sorted(result["success"] for result in answer["results"]) == [False, True]
    winner = next(n for n, result in enumerate(answer["results"], start=1) if result["success"])
    assert api.job(job["id"])["result"] == winner
    assert api.history(job["id"]).count("completed") == 1


def test_overlapping_batches_settle_each_job_once(api: Api) -> None:
    queue = a_queue()
    answered(api.post("/jobs/bulk", {"queue_name": queue, "jobs": [{"payload": n} for n in range(40)]}))
    jobs = api.claim(queue, limit=40)
    batches = [jobs, jobs[::-1], jobs[10:] + jobs[:10], jobs[::2] + jobs[1::2]]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(settle, api, [item(job, "complete") for job in batch]) for batch in batches]
        results = [result for call in calls for result in call.result()["results"]]
    won = [result["job_id"] for result in results if result["success"]]
    assert sorted(won) == sorted(job["id"] for job in jobs)
    assert {result["code"] for result in results if not result["success"]} == {"CONFLICT"}


def test_a_job_of_another_organization_is_not_found(api: Api, free: Api) -> None:
    job = api.running()
    answer = settle(free, [item(job, "complete")])
    assert answer["results"][0]["code"] == "NOT_FOUND"
    assert api.status(job["id"]) == "processing"


def test_a_thousand_items_fit_and_one_more_or_none_does_not(api: Api) -> None:
    items: list[JsonObject] = [{"job_id": str(uuid.uuid4()), "action": "complete"} for _ in range(1001)]
    assert settle(api, items[:1000])["failure_count"] == 1000
    for broken in (items, []):
        refused(api.post("/jobs/settle", {"worker_id": WORKER, "items": broken}), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"action": None}, 422),
        ({"action": 5}, 422),
        ({"job_id": 5}, 422),
        ({"job_id": None}, 422),
        ({"lease_id": 5}, 422),
        ({"action": "fail"}, 422),
        ({"action": "fail", "error": 5}, 422),
        ({"action": "fail", "error": "e", "retry_in_seconds": "5"}, 422),
    ],
    ids=repr,
)
def test_a_wrong_shape_is_422_and_settles_nothing(api: Api, fields: JsonObject, status: int) -> None:
    good, bad = api.running(), api.running()
    items = [item(good, "complete"), item(bad, "complete") | fields]
    refused(api.post("/jobs/settle", {"worker_id": WORKER, "items": items}), status, "VALIDATION_ERROR")
    assert api.status(good["id"]) == "processing"


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "explode"},
        {"action": "fail", "error": ""},
        {"action": "fail", "error": "e" * 2049},
        {"action": "fail", "error": "e", "retry_in_seconds": 86_401},
        {"action": "fail", "error": "e", "retry_in_seconds": -1},
    ],
    ids=lambda fields: repr(fields)[:50],
)
def test_a_broken_rule_does_not_settle_its_item(api: Api, fields: JsonObject) -> None:
    bad = api.running()
    response = api.post("/jobs/settle", {"worker_id": WORKER, "items": [item(bad, "complete") | fields]})
    if response.status_code == 200:
        assert response.json()["results"][0]["code"] == "VALIDATION_ERROR"
    else:
        assert response.status_code in (400, 422)
        refused(response, response.status_code, "VALIDATION_ERROR")
    assert api.status(bad["id"]) == "processing"


def test_an_item_nobody_works_for_is_refused(api: Api) -> None:
    job = api.running()
    response = api.post("/jobs/settle", {"items": [item(job, "complete")]})
    assert response.status_code in (400, 422)
    refused(response, response.status_code, "VALIDATION_ERROR")
    assert api.status(job["id"]) == "processing"


def test_a_released_job_is_claimable_at_once_and_has_used_no_retry(api: Api) -> None:
    queue = a_queue()
    job = api.running(queue, max_retries=0)
    answer = settle(api, [item(job, "release"), item({**job, "lease_id": str(uuid.uuid4())}, "release")])
    assert [result["success"] for result in answer["results"]] == [True, False]
    assert answer["results"][1]["code"] == "LEASE_EXPIRED"
    found = api.job(job["id"])
    assert (found["status"], found["retry_count"], found["last_error"]) == ("pending", 0, None)
    assert (found["assigned_worker_id"], found["lease_id"]) == (None, None)
    [again] = answered(api.post("/jobs/claim", {"queue_name": queue, "worker_id": WORKER}))["jobs"]
    assert (again["id"], again["retry_count"]) == (job["id"], 0)
