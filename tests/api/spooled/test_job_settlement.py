"""Contract: spooled-jobs 3.12 to 3.15, 10.3, 10.5; ruling R5 to R7; the extension `retry_in_seconds`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeAlias

import httpx2
import pytest

from tests.api.spooled.objects import JOB, conforms
from tests.api.spooled.wire import (
    UNKNOWN_ID,
    UTC_MICROSECONDS,
    WORKER,
    Api,
    JsonObject,
    a_queue,
    answered,
    eventually,
    refused,
    refused_fields,
)

Settle: TypeAlias = Callable[..., httpx2.Response]
EXTRA = {"complete": {}, "fail": {"error": "boom"}, "heartbeat": {}}
MIB = 1024 * 1024


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def delay_after(api: Api, queue: str, failures: int) -> float:
    """The seconds that a job waits when it fails after so many failures."""
    job_id = api.enqueue(queue, max_retries=100)
    for _ in range(failures):
        api.fail(api.claim_one(queue), retry_in_seconds=0)
    claimed = api.claim_one(queue)
    assert (claimed["id"], claimed["retry_count"]) == (job_id, failures)
    api.fail(claimed)
    job = api.job(job_id)
    assert job["retry_count"] == failures + 1
    return seconds_between(job["updated_at"], job["scheduled_at"])


@pytest.fixture(params=EXTRA)
def settle(request: pytest.FixtureRequest, api: Api) -> Settle:
    """Complete, fail and heartbeat in turn: the three fenced calls."""
    action: str = request.param

    def call(job_id: str, **fields: object) -> httpx2.Response:
        return api.post(f"/jobs/{job_id}/{action}", {"worker_id": WORKER, **EXTRA[action], **fields})

    return call


class TestFence:
    def test_an_unknown_job_is_404(self, settle: Settle) -> None:
        refused(settle(UNKNOWN_ID), 404, "NOT_FOUND")
        refused(settle("not-a-uuid"), 404, "NOT_FOUND")
        refused(settle(UNKNOWN_ID, lease_id=str(uuid.uuid4())), 404, "NOT_FOUND")

    @pytest.mark.parametrize("lease", ["right", "wrong", "none"])
    @pytest.mark.parametrize("end", ["completed", "deadletter", "cancelled"])
    def test_a_finished_job_is_409_before_any_look_at_the_lease(
        self, api: Api, settle: Settle, end: str, lease: str
    ) -> None:
        job = api.running(max_retries=0)
        if end == "completed":
            api.complete(job)
        elif end == "deadletter":
            api.fail(job)
        else:
            job = {"id": api.enqueue(a_queue()), "lease_id": str(uuid.uuid4())}
            answered(api.delete(f"/jobs/{job['id']}"), 204)
        presented = {"right": job["lease_id"], "wrong": str(uuid.uuid4()), "none": None}[lease]
        before = api.job(job["id"])
        body = refused(settle(job["id"], lease_id=presented), 409, "CONFLICT")
        assert ("already completed" if end == "completed" else end) in body["message"].lower()
        assert api.job(job["id"]) == before

    @pytest.mark.parametrize("lease", [UNKNOWN_ID, "not-a-uuid", " ", "'; select 1; --", "x" * 1000])
    def test_another_lease_is_lease_expired(self, api: Api, settle: Settle, lease: str) -> None:
        job = api.running()
        refused(settle(job["id"], lease_id=lease), 409, "LEASE_EXPIRED")
        assert api.status(job["id"]) == "processing"

    def test_a_lease_on_a_waiting_job_is_lease_expired(self, api: Api, settle: Settle) -> None:
        job_id = api.enqueue(a_queue())
        refused(settle(job_id, lease_id=str(uuid.uuid4())), 409, "LEASE_EXPIRED")
        assert api.status(job_id) == "pending"

    def test_the_lease_of_an_earlier_attempt_is_lease_expired(self, api: Api, settle: Settle) -> None:
        queue = a_queue()
        job = api.running(queue)
        api.fail(job, retry_in_seconds=0)
        refused(settle(job["id"], lease_id=job["lease_id"]), 409, "LEASE_EXPIRED")
        again = api.claim_one(queue)
        refused(settle(job["id"], lease_id=job["lease_id"]), 409, "LEASE_EXPIRED")
        assert api.job(job["id"])["lease_id"] == again["lease_id"]

    @pytest.mark.parametrize("lease", [None, ""])
    def test_a_waiting_job_without_a_lease_is_a_conflict(
        self, api: Api, settle: Settle, lease: str | None
    ) -> None:
        job_id = api.enqueue(a_queue())
        refused(settle(job_id, lease_id=lease), 409, "CONFLICT")
        assert api.status(job_id) == "pending"

    @pytest.mark.parametrize("with_lease", [True, False])
    def test_another_worker_is_a_conflict(self, api: Api, settle: Settle, with_lease: bool) -> None:
        job = api.running(worker="someone-else")
        lease = job["lease_id"] if with_lease else None
        refused(settle(job["id"], lease_id=lease), 409, "CONFLICT")
        assert api.status(job["id"]) == "processing"

    @pytest.mark.parametrize("lease", ["absent", None, ""])
    def test_without_a_lease_the_worker_id_is_the_fence(
        self, api: Api, settle: Settle, lease: str | None
    ) -> None:
        job = api.running()
        fields = {} if lease == "absent" else {"lease_id": lease}
        assert answered(settle(job["id"], **fields))["success"] is True

    def test_the_right_lease_and_worker_pass(self, api: Api, settle: Settle) -> None:
        job = api.running()
        assert answered(settle(job["id"], lease_id=job["lease_id"]))["success"] is True

    def test_a_job_of_another_organization_is_404(self, free: Api, settle: Settle) -> None:
        job = free.running("q")
        refused(settle(job["id"], lease_id=job["lease_id"]), 404, "NOT_FOUND")
        refused(settle(job["id"]), 404, "NOT_FOUND")
        assert free.status(job["id"]) == "processing"

    def test_wrong_types_are_422(self, api: Api, settle: Settle) -> None:
        job = api.running()
        for fields in ({"worker_id": 5}, {"worker_id": None}, {"lease_id": 5}, {"lease_id": []}):
            refused(settle(job["id"], **fields), 422, "VALIDATION_ERROR")
        assert api.status(job["id"]) == "processing"


class TestComplete:
    @pytest.mark.parametrize(
        "result", [{"ok": True}, [1, 2], "text", 5, False, 0, "", {}, [], 2**80, {"big": 2**53 + 1}, "😀"]
    )
    def test_the_result_is_any_json(self, api: Api, result: object) -> None:
        job = api.running()
        api.complete(job, result=result)
        assert api.job(job["id"])["result"] == result

    @pytest.mark.parametrize("fields", [{}, {"result": None}])
    def test_the_result_may_be_left_out(self, api: Api, fields: JsonObject) -> None:
        job = api.running()
        api.complete(job, **fields)
        assert api.job(job["id"])["result"] is None

    def test_a_completed_job_keeps_who_did_it(self, api: Api) -> None:
        job = api.running()
        held = api.job(job["id"])
        api.complete(job, result={"n": 1})
        done = conforms(api.job(job["id"]), JOB)
        assert done["status"] == "completed"
        assert (done["assigned_worker_id"], done["lease_id"]) == (WORKER, job["lease_id"])
        assert done["lease_expires_at"] == held["lease_expires_at"]
        assert done["started_at"] == held["started_at"]
        assert done["created_at"] == held["created_at"]
        assert held["started_at"] <= done["completed_at"] <= done["updated_at"]
        assert done["last_error"] is None
        assert api.history(job["id"]) == ["created", "claimed", "completed"]

    def test_a_result_of_more_than_a_mebibyte_is_413_and_the_job_runs_on(self, api: Api) -> None:
        job = api.running()
        body = {"worker_id": WORKER, "lease_id": job["lease_id"], "result": "x" * (MIB - 1)}
        refused(api.post(f"/jobs/{job['id']}/complete", body), 413, "PAYLOAD_TOO_LARGE")
        assert api.status(job["id"]) == "processing"
        api.complete(job, result="x" * (MIB - 2))

    def test_a_replayed_completion_is_told_that_it_had_landed(self, api: Api) -> None:
        job = api.running()
        api.complete(job, result=1)
        again = {"worker_id": WORKER, "lease_id": job["lease_id"], "result": 2}
        body = refused(api.post(f"/jobs/{job['id']}/complete", again), 409, "CONFLICT")
        assert "already completed" in body["message"]
        assert api.job(job["id"])["result"] == 1

    def test_of_many_concurrent_completions_exactly_one_counts(self, api: Api) -> None:
        job = api.running()

        def complete(n: int) -> int:
            body = {"worker_id": WORKER, "lease_id": job["lease_id"], "result": n}
            return api.post(f"/jobs/{job['id']}/complete", body).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(complete, range(8)))
        assert sorted(statuses) == [200] + [409] * 7
        assert api.job(job["id"])["result"] == statuses.index(200)
        assert api.history(job["id"]).count("completed") == 1

    def test_of_a_concurrent_completion_and_failure_exactly_one_counts(self, api: Api) -> None:
        for _ in range(5):
            job = api.running(max_retries=0)
            body = {"worker_id": WORKER, "lease_id": job["lease_id"], "error": "boom"}
            with ThreadPoolExecutor(2) as pool:
                calls = [
                    pool.submit(api.post, f"/jobs/{job['id']}/{action}", body)
                    for action in ("complete", "fail")
                ]
                completed, failed = (call.result().status_code for call in calls)
            assert sorted([completed, failed]) == [200, 409]
            assert api.status(job["id"]) == ("completed" if completed == 200 else "deadletter")


class TestFail:
    def test_with_retries_left_the_job_is_pending_again(self, api: Api) -> None:
        job = api.running()
        api.fail(job, error="no route to host")
        failed = conforms(api.job(job["id"]), JOB)
        assert (failed["status"], failed["retry_count"], failed["last_error"]) == (
            "pending",
            1,
            "no route to host",
        )
        cleared = ("assigned_worker_id", "lease_id", "lease_expires_at", "completed_at", "result")
        assert [failed[name] for name in cleared] == [None] * 5
        assert failed["scheduled_at"] is not None
        assert api.history(job["id"]) == ["created", "claimed", "failed"]
        (event,) = answered(api.get(f"/jobs/{job['id']}/history", order_dir="desc", limit=1))
        assert event["worker_id"] == WORKER

    def test_without_retries_left_the_job_is_dead(self, api: Api) -> None:
        queue = a_queue()
        job = api.running(queue, max_retries=1)
        api.fail(job, error="first", retry_in_seconds=0)
        api.fail(api.claim_one(queue), error="second")
        dead = conforms(api.job(job["id"]), JOB)
        assert (dead["status"], dead["retry_count"], dead["last_error"]) == ("deadletter", 1, "second")
        cleared = ("assigned_worker_id", "lease_id", "lease_expires_at", "completed_at")
        assert [dead[name] for name in cleared] == [None] * 4
        assert api.history(job["id"]) == ["created", "claimed", "failed", "claimed", "failed", "deadlettered"]
        assert api.claim(queue) == []

    def test_the_first_failure_buries_a_job_without_retries(self, api: Api) -> None:
        job = api.running(max_retries=0)
        api.fail(job)
        dead = api.job(job["id"])
        assert (dead["status"], dead["retry_count"]) == ("deadletter", 0)

    @pytest.mark.parametrize(
        ("count", "delay"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (9, 60)]
    )
    def test_the_delay_doubles_from_one_second_to_a_minute(self, api: Api, count: int, delay: int) -> None:
        assert delay_after(api, a_queue(), count) == pytest.approx(delay, abs=0.5)

    @pytest.mark.parametrize("error", ["x", "x" * 2048, "ünïcödé 😀", "two\nlines"])
    def test_the_error_text_is_kept(self, api: Api, error: str) -> None:
        job = api.running()
        api.fail(job, error=error)
        assert api.job(job["id"])["last_error"] == error

    @pytest.mark.parametrize("error", ["", "x" * 2049])
    def test_an_empty_or_long_error_is_400_and_the_job_runs_on(self, api: Api, error: str) -> None:
        job = api.running()
        body = {"worker_id": WORKER, "lease_id": job["lease_id"], "error": error}
        assert refused_fields(api.post(f"/jobs/{job['id']}/fail", body), 400) == {"error"}
        assert api.status(job["id"]) == "processing"

    def test_old_names_of_the_fields_do_not_count(self, api: Api) -> None:
        job = api.running()
        body = {"worker_id": WORKER, "reason": "old name", "no_retry": True}
        assert refused_fields(api.post(f"/jobs/{job['id']}/fail", body), 422) == {"error"}


class TestRetryInSeconds:
    def test_zero_is_claimable_at_once(self, api: Api) -> None:
        queue = a_queue()
        job = api.running(queue)
        api.fail(job, retry_in_seconds=0)
        assert api.status(job["id"]) == "pending"
        (again,) = api.claim(queue)
        assert (again["id"], again["retry_count"]) == (job["id"], 1)

    @pytest.mark.parametrize("delay", [5, 3600, 86_400])
    def test_it_replaces_the_delay(self, api: Api, delay: int) -> None:
        job = api.running()
        api.fail(job, retry_in_seconds=delay)
        failed = api.job(job["id"])
        assert failed["status"] == "pending"
        assert seconds_between(failed["updated_at"], failed["scheduled_at"]) == pytest.approx(delay, abs=0.5)

    def test_it_gives_no_attempt_beyond_the_limit(self, api: Api) -> None:
        job = api.running(max_retries=0)
        api.fail(job, retry_in_seconds=0)
        assert api.status(job["id"]) == "deadletter"

    @pytest.mark.parametrize(
        ("value", "status"), [(-1, 400), (86_401, 400), ("5", 422), (1.5, 422), (True, 422)]
    )
    def test_anything_else_is_refused(self, api: Api, value: object, status: int) -> None:
        job = api.running()
        body = {"worker_id": WORKER, "lease_id": job["lease_id"], "error": "e", "retry_in_seconds": value}
        assert refused_fields(api.post(f"/jobs/{job['id']}/fail", body), status) == {"retry_in_seconds"}
        assert api.status(job["id"]) == "processing"

    def test_a_queue_may_have_a_back_off_of_its_own(self, api: Api) -> None:
        queue = a_queue()
        back_off = {"retry_initial_seconds": 10, "retry_factor": 3, "retry_max_seconds": 60}
        config = answered(api.put(f"/queues/{queue}/config", back_off))
        assert {name: config[name] for name in back_off} == back_off
        for count, delay in enumerate((10, 30, 60, 60)):
            assert delay_after(api, queue, count) == pytest.approx(delay, abs=0.5)


class TestHeartbeat:
    def test_the_lease_ends_later_and_stays_the_same_lease(self, api: Api) -> None:
        job = api.running()
        body = {"worker_id": WORKER, "lease_id": job["lease_id"], "lease_duration_secs": 600}
        answer = answered(api.post(f"/jobs/{job['id']}/heartbeat", body))
        assert answer["success"] is True
        assert UTC_MICROSECONDS.fullmatch(answer["lease_expires_at"])
        renewed = api.job(job["id"])
        assert renewed["lease_expires_at"] == answer["lease_expires_at"]
        assert renewed["lease_id"] == job["lease_id"]
        assert seconds_between(job["lease_expires_at"], answer["lease_expires_at"]) > 500
        assert api.history(job["id"]) == ["created", "claimed"]

    def test_the_lease_may_end_earlier(self, api: Api) -> None:
        queue = a_queue()
        api.enqueue(queue)
        (job,) = api.claim(queue, lease_duration_secs=3600)
        body = {"worker_id": WORKER, "lease_id": job["lease_id"], "lease_duration_secs": 5}
        answer = answered(api.post(f"/jobs/{job['id']}/heartbeat", body))
        assert answer["lease_expires_at"] < job["lease_expires_at"]

    def test_the_default_is_thirty_seconds(self, api: Api) -> None:
        queue = a_queue()
        api.enqueue(queue)
        (job,) = api.claim(queue, lease_duration_secs=3600)
        answer = answered(api.post(f"/jobs/{job['id']}/heartbeat", {"worker_id": WORKER}))
        started = api.job(job["id"])["started_at"]
        assert 30 <= seconds_between(started, answer["lease_expires_at"]) < 90

    @pytest.mark.parametrize("seconds", [4, 0, -1, 3601])
    def test_out_of_range_is_400_and_the_lease_stays(self, api: Api, seconds: int) -> None:
        job = api.running()
        body = {"worker_id": WORKER, "lease_duration_secs": seconds}
        assert refused_fields(api.post(f"/jobs/{job['id']}/heartbeat", body), 400) == {"lease_duration_secs"}
        assert api.job(job["id"])["lease_expires_at"] == job["lease_expires_at"]


def test_a_worker_is_credited_with_what_it_did(api: Api) -> None:
    queue = a_queue()
    worker = answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)["id"]
    api.complete(api.running(queue, worker), worker)
    api.complete(api.running(queue, worker), worker)
    api.fail(api.running(queue, worker), worker, retry_in_seconds=3600)
    api.fail(api.running(queue, worker, max_retries=0), worker)
    seen = eventually(
        lambda: answered(api.get(f"/workers/{worker}")),
        lambda found: (found["jobs_processed"], found["jobs_failed"]) == (2, 2),
    )
    assert (seen["jobs_processed"], seen["jobs_failed"]) == (2, 2)
