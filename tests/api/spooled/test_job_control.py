"""Contract: spooled-jobs 3.4 to 3.6, 3.20; ruling R4."""

from __future__ import annotations

import pytest

from tests.api.spooled.objects import JOB, conforms
from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused, refused_fields


def in_status(api: Api, status: str) -> str:
    """A job of the given status."""
    match status:
        case "pending":
            return api.enqueue(a_queue())
        case "scheduled":
            return api.enqueue(a_queue(), scheduled_at="2999-01-01T00:00:00Z")
        case "processing":
            return api.running()["id"]
        case "completed":
            job = api.running()
            api.complete(job)
            return job["id"]
        case "deadletter":
            return api.dead()
        case "cancelled":
            job_id = api.enqueue(a_queue())
            answered(api.delete(f"/jobs/{job_id}"), 204)
            return job_id
        case _:
            raise AssertionError(status)


class TestCancel:
    @pytest.mark.parametrize("status", ["pending", "scheduled"])
    def test_a_waiting_job_is_cancelled_and_stays_readable(self, api: Api, status: str) -> None:
        job_id = in_status(api, status)
        answered(api.delete(f"/jobs/{job_id}"), 204)
        job = conforms(api.job(job_id), JOB)
        assert (job["status"], job["completed_at"]) == ("cancelled", None)
        assert api.claim(job["queue_name"]) == []
        assert api.history(job_id) == ["created", "cancelled"]

    @pytest.mark.parametrize("status", ["processing", "completed", "deadletter", "cancelled"])
    def test_any_other_status_is_409_and_unchanged(self, api: Api, status: str) -> None:
        job_id = in_status(api, status)
        before = api.job(job_id)
        refused(api.delete(f"/jobs/{job_id}"), 409, "CONFLICT")
        assert api.job(job_id) == before

    @pytest.mark.parametrize("job_id", [UNKNOWN_ID, "not-a-uuid"])
    def test_an_unknown_job_is_404(self, api: Api, job_id: str) -> None:
        refused(api.delete(f"/jobs/{job_id}"), 404, "NOT_FOUND")

    def test_a_job_waiting_for_its_retry_can_be_cancelled(self, api: Api) -> None:
        job = api.running()
        api.fail(job, retry_in_seconds=3600)
        answered(api.delete(f"/jobs/{job['id']}"), 204)
        assert api.status(job["id"]) == "cancelled"


class TestRetry:
    def test_a_dead_job_gets_exactly_one_more_attempt(self, api: Api) -> None:
        queue = a_queue()
        job_id = api.dead(queue, max_retries=0)
        job = conforms(answered(api.post(f"/jobs/{job_id}/retry")), JOB)
        assert (job["id"], job["status"], job["retry_count"]) == (job_id, "pending", 1)
        cleared = ("last_error", "scheduled_at", "assigned_worker_id", "lease_id", "lease_expires_at")
        assert [job[name] for name in cleared] == [None] * 5
        again = api.claim_one(queue)
        assert (again["id"], again["retry_count"]) == (job_id, 1)
        api.fail(again)
        assert api.status(job_id) == "deadletter"
        assert api.history(job_id) == [
            *("created", "claimed", "failed", "deadlettered", "retried"),
            *("claimed", "failed", "deadlettered"),
        ]

    @pytest.mark.parametrize("status", ["pending", "scheduled", "processing", "completed", "cancelled"])
    def test_any_other_status_is_409_and_unchanged(self, api: Api, status: str) -> None:
        job_id = in_status(api, status)
        before = api.job(job_id)
        refused(api.post(f"/jobs/{job_id}/retry"), 409, "CONFLICT")
        assert api.job(job_id) == before

    def test_unknown_and_foreign_jobs_are_409_with_one_body(self, api: Api, free: Api) -> None:
        foreign = api.dead()
        bodies = [
            refused(free.post(f"/jobs/{job_id}/retry"), 409, "CONFLICT")
            for job_id in (UNKNOWN_ID, "not-a-uuid", foreign)
        ]
        assert bodies[0] == bodies[1] == bodies[2]
        assert api.status(foreign) == "deadletter"


class TestPriority:
    @pytest.mark.parametrize("status", ["pending", "scheduled"])
    def test_a_waiting_job_takes_a_new_priority(self, api: Api, status: str) -> None:
        job_id = in_status(api, status)
        answer = answered(api.put(f"/jobs/{job_id}/priority", {"priority": 42}))
        assert answer == {"job_id": job_id, "old_priority": 0, "new_priority": 42}
        answer = answered(api.put(f"/jobs/{job_id}/priority", {"priority": -100}))
        assert (answer["old_priority"], answer["new_priority"]) == (42, -100)
        assert api.job(job_id)["priority"] == -100
        assert api.history(job_id) == ["created"]

    @pytest.mark.parametrize("status", ["processing", "completed", "deadletter", "cancelled"])
    def test_any_other_status_is_404(self, api: Api, status: str) -> None:
        job_id = in_status(api, status)
        refused(api.put(f"/jobs/{job_id}/priority", {"priority": 1}), 404, "NOT_FOUND")
        assert api.job(job_id)["priority"] == 0

    @pytest.mark.parametrize("priority", [101, -101, 1000])
    def test_out_of_range_is_400(self, api: Api, priority: int) -> None:
        job_id = api.enqueue(a_queue())
        assert refused_fields(api.put(f"/jobs/{job_id}/priority", {"priority": priority}), 400) == {
            "priority"
        }

    @pytest.mark.parametrize(
        "body", [{}, {"priority": None}, {"priority": "1"}, {"priority": 1.0}, {"priority": True}]
    )
    def test_missing_or_mistyped_is_422(self, api: Api, body: object) -> None:
        job_id = api.enqueue(a_queue())
        assert refused_fields(api.put(f"/jobs/{job_id}/priority", body), 422) == {"priority"}

    def test_the_new_priority_decides_the_next_claim(self, api: Api) -> None:
        queue = a_queue()
        first, second = api.enqueue(queue), api.enqueue(queue)
        answered(api.put(f"/jobs/{second}/priority", {"priority": 1}))
        assert [job["id"] for job in api.claim(queue, limit=2)] == [second, first]


class TestProgress:
    def test_an_existing_job_accepts_it_and_keeps_nothing(self, api: Api) -> None:
        job = api.running()
        before = api.job(job["id"])
        for body in ({"progress": 50}, {"progress": 12.5, "message": "half"}):
            assert answered(api.post(f"/jobs/{job['id']}/progress", body)) == {"success": True}
        assert api.job(job["id"]) == before

    @pytest.mark.parametrize("job_id", [UNKNOWN_ID, "not-a-uuid"])
    def test_an_unknown_job_is_404(self, api: Api, job_id: str) -> None:
        refused(api.post(f"/jobs/{job_id}/progress", {"progress": 1}), 404, "NOT_FOUND")
