"""Contract: spooled-jobs 2.3, 3.11, 10.4; the extension `wait_seconds`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tests.api.spooled.objects import CLAIMED_JOB, JOB, conforms
from tests.api.spooled.wire import Api, a_queue, answered, refused_fields


def test_a_claim_takes_the_job_and_a_lease(api: Api) -> None:
    queue = a_queue()
    job_id = api.enqueue(queue, {"n": 1}, max_retries=2, timeout_seconds=9)
    (claimed,) = api.claim(queue, "w-1", lease_duration_secs=60)
    conforms(claimed, CLAIMED_JOB)
    assert (claimed["id"], claimed["queue_name"], claimed["payload"]) == (job_id, queue, {"n": 1})
    assert (claimed["retry_count"], claimed["max_retries"], claimed["timeout_seconds"]) == (0, 2, 9)
    job = conforms(api.job(job_id), JOB)
    assert (job["status"], job["assigned_worker_id"]) == ("processing", "w-1")
    assert (job["lease_id"], job["lease_expires_at"]) == (claimed["lease_id"], claimed["lease_expires_at"])
    lease = datetime.fromisoformat(job["lease_expires_at"]) - datetime.fromisoformat(job["started_at"])
    assert lease == timedelta(seconds=60)
    assert api.history(job_id) == ["created", "claimed"]


def test_the_default_is_one_job_for_thirty_seconds(api: Api) -> None:
    queue = a_queue()
    api.enqueue(queue)
    api.enqueue(queue)
    (claimed,) = api.claim(queue)
    job = api.job(claimed["id"])
    lease = datetime.fromisoformat(job["lease_expires_at"]) - datetime.fromisoformat(job["started_at"])
    assert lease == timedelta(seconds=30)


def test_each_job_of_each_claim_has_a_lease_of_its_own(api: Api) -> None:
    queue = a_queue()
    for _ in range(3):
        api.enqueue(queue)
    first = api.claim(queue, limit=3)
    leases = {job["lease_id"] for job in first}
    assert len(leases) == 3
    api.fail(first[0], retry_in_seconds=0)
    (again,) = api.claim(queue)
    assert again["id"] == first[0]["id"]
    assert again["lease_id"] not in leases


def test_priority_then_age_decide_the_order(api: Api) -> None:
    queue = a_queue()
    made = {
        name: api.enqueue(queue, priority=priority)
        for name, priority in zip("abcdef", (0, 5, 0, -5, 5, 100), strict=True)
    }
    claimed = [job["id"] for job in api.claim(queue, limit=10)]
    assert claimed == [made[name] for name in "fbeacd"]


def test_jobs_of_one_request_keep_their_order(api: Api) -> None:
    queue = a_queue()
    answered(api.post("/jobs/bulk", {"queue_name": queue, "jobs": [{"payload": n} for n in range(40)]}))
    taken = [job["payload"] for _ in range(5) for job in api.claim(queue, limit=8)]
    assert taken == list(range(40))


def test_nothing_is_claimable_from_an_unseen_a_paused_or_a_disabled_queue(api: Api) -> None:
    assert answered(api.post("/jobs/claim", {"queue_name": a_queue(), "worker_id": "w"})) == {"jobs": []}
    paused, disabled = a_queue(), a_queue()
    answered(api.post(f"/queues/{paused}/pause", {}))
    answered(api.put(f"/queues/{disabled}/config", {"enabled": False}))
    for queue in (paused, disabled):
        api.enqueue(queue)
        assert api.claim(queue) == []
    answered(api.post(f"/queues/{paused}/resume"))
    answered(api.put(f"/queues/{disabled}/config", {"enabled": True}))
    for queue in (paused, disabled):
        assert len(api.claim(queue)) == 1


def test_a_claim_takes_from_its_own_queue_only(api: Api) -> None:
    one, other = a_queue(), a_queue()
    api.enqueue(one)
    assert api.claim(other, limit=100) == []
    assert len(api.claim(one, limit=100)) == 1


def test_the_worker_need_not_be_registered_and_its_id_is_any_text(api: Api) -> None:
    queue = a_queue()
    for worker in ("w", "ワーカー one/two", "w" * 255):
        api.enqueue(queue)
        assert api.job(api.claim_one(queue, worker)["id"])["assigned_worker_id"] == worker


def test_control_characters_are_removed_from_a_stored_worker_id(api: Api) -> None:
    queue = a_queue()
    api.enqueue(queue)
    (claimed,) = api.claim(queue, "w\u001b[31mred\u0007")
    events = answered(api.get(f"/jobs/{claimed['id']}/history"))
    assert events[1]["worker_id"] == "w[31mred"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_name", ""),
        ("queue_name", "q" * 101),
        ("queue_name", "a b"),
        ("worker_id", ""),
        ("worker_id", "w" * 256),
        ("limit", 0),
        ("limit", -1),
        ("limit", 101),
        ("lease_duration_secs", 4),
        ("lease_duration_secs", 0),
        ("lease_duration_secs", 3601),
        ("wait_seconds", -1),
        ("wait_seconds", 26),
    ],
)
def test_out_of_range_is_400_and_takes_nothing(api: Api, name: str, value: object) -> None:
    queue = a_queue()
    job_id = api.enqueue(queue)
    body = {"queue_name": queue, "worker_id": "w", name: value}
    assert refused_fields(api.post("/jobs/claim", body), 400) == {name}
    assert api.status(job_id) == "pending"


@pytest.mark.parametrize(("limit", "lease"), [(1, 5), (100, 3600)])
def test_the_edges_are_in_range(api: Api, limit: int, lease: int) -> None:
    queue = a_queue()
    api.enqueue(queue)
    assert len(api.claim(queue, limit=limit, lease_duration_secs=lease)) == 1


def test_of_many_concurrent_claims_each_job_goes_to_exactly_one(api: Api) -> None:
    queue = a_queue()
    answered(api.post("/jobs/bulk", {"queue_name": queue, "jobs": [{"payload": n} for n in range(50)]}))
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(api.claim, queue, f"w-{n}", limit=7) for n in range(12)]
    taken = [job["payload"] for call in calls for job in call.result()]
    assert sorted(taken) == list(range(50))


class TestWaiting:
    def test_what_is_there_is_answered_at_once(self, api: Api) -> None:
        queue = a_queue()
        api.enqueue(queue)
        assert len(api.claim(queue, limit=5, wait_seconds=25)) == 1

    def test_nothing_in_the_time_given_is_an_empty_list(self, api: Api) -> None:
        assert api.claim(a_queue(), wait_seconds=1) == []

    def test_a_held_claim_gets_the_job_that_arrives(self, api: Api) -> None:
        queue = a_queue()
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(api.claim, queue, wait_seconds=20)
            # An unheld claim on a queue without jobs would be answered long before these.
            for _ in range(30):
                answered(api.get(f"/queues/{queue}/stats"))
            assert not held.done()
            job_id = api.enqueue(queue)
            assert [job["id"] for job in held.result()] == [job_id]

    def test_a_held_claim_gets_a_job_that_becomes_due(self, api: Api) -> None:
        queue = a_queue()
        job = api.running(queue)
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(api.claim, queue, "other", wait_seconds=20)
            api.fail(job, retry_in_seconds=1)
            assert [taken["id"] for taken in held.result()] == [job["id"]]

    def test_a_held_claim_gets_the_jobs_of_a_resumed_queue(self, api: Api) -> None:
        queue = a_queue()
        answered(api.post(f"/queues/{queue}/pause", {}))
        job_id = api.enqueue(queue)
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(api.claim, queue, wait_seconds=20)
            answered(api.get(f"/queues/{queue}/stats"))
            answered(api.post(f"/queues/{queue}/resume"))
            assert [job["id"] for job in held.result()] == [job_id]

    def test_one_job_wakes_one_of_many_held_claims(self, api: Api) -> None:
        queue = a_queue()
        with ThreadPoolExecutor(4) as pool:
            held = [pool.submit(api.claim, queue, f"w-{n}", wait_seconds=2) for n in range(4)]
            answered(api.get(f"/queues/{queue}/stats"))
            job_id = api.enqueue(queue)
            assert [job["id"] for call in held for job in call.result()] == [job_id]
