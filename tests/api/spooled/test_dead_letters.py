"""Contract: spooled-jobs 3.16 to 3.18, 10.7; ruling R3."""

from __future__ import annotations

import uuid

import pytest

from tests.api.spooled.objects import JOB, JOB_SUMMARY, conforms
from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused, refused_fields

LATER = "2999-01-01T00:00:00Z"


def listed(api: Api, **params: str | int) -> list[str]:
    return [row["id"] for row in answered(api.get("/jobs/dlq", **params))]


class TestList:
    def test_an_organization_without_dead_letters_has_an_empty_list(self, own: Api) -> None:
        own.enqueue("alive")
        response = own.get("/jobs/dlq")
        assert answered(response) == []
        assert response.headers["x-has-more"] == "false"

    def test_dead_letters_come_newest_first_in_pages(self, api: Api) -> None:
        queue = a_queue()
        made = [api.dead(queue, {"job_type": "mail"}) for _ in range(3)]
        api.enqueue(queue)
        response = api.get("/jobs/dlq", queue_name=queue, limit=2)
        rows = answered(response)
        assert [row["id"] for row in rows] == made[:0:-1]
        assert response.headers["x-has-more"] == "true"
        for row in rows:
            conforms(row, JOB_SUMMARY)
            assert (row["status"], row["last_error"], row["job_type"]) == ("deadletter", "boom", "mail")
            assert (row["retry_count"], row["attempt"], row["max_retries"]) == (0, 0, 0)
        assert listed(api, queue_name=queue, limit=2, offset=2) == made[:1]
        assert listed(api, queue_name=queue, order_dir="asc") == made

    def test_the_filters_of_the_job_list_hold_but_for_status(self, api: Api) -> None:
        queue = a_queue()
        mail = api.dead(queue, {"job_type": "mail"}, tags=["urgent"])
        other = api.dead(queue, {"job_type": "other"})
        assert listed(api, queue_name=queue, status="pending") == [other, mail]
        assert listed(api, queue_name=queue, job_type="mail") == [mail]
        assert listed(api, queue_name=queue, tag="urgent") == [mail]
        assert listed(api, queue_name=queue, q=mail) == [mail]
        assert listed(api, queue_name=queue, created_after=api.job(other)["created_at"]) == [other]
        assert listed(api, queue_name=queue, created_before=api.job(other)["created_at"]) == [mail]
        refused(api.get("/jobs/dlq", created_after="soon"), 400)


class TestRetry:
    def test_a_retried_job_begins_anew(self, api: Api) -> None:
        queue = a_queue()
        job = api.running(queue, max_retries=1)
        api.fail(job, retry_in_seconds=0)
        api.fail(api.claim_one(queue))
        answer = answered(api.post("/jobs/dlq/retry", {"job_ids": [job["id"]]}))
        expected = {
            "retried_count": 1,
            "retried_jobs": [job["id"]],
            "skipped_jobs": [],
            "job_ids": [job["id"]],
        }
        assert {name: answer[name] for name in expected} == expected
        revived = conforms(api.job(job["id"]), JOB)
        assert (revived["status"], revived["retry_count"], revived["last_error"]) == ("pending", 0, None)
        cleared = ("scheduled_at", "assigned_worker_id", "lease_id", "lease_expires_at")
        assert [revived[name] for name in cleared] == [None] * 4
        assert api.history(job["id"])[-2:] == ["deadlettered", "retried"]
        assert listed(api, queue_name=queue) == []
        assert api.claim_one(queue)["id"] == job["id"]

    def test_by_queue_the_oldest_come_first_up_to_the_limit(self, api: Api) -> None:
        queue, other = a_queue(), a_queue()
        made = [api.dead(queue) for _ in range(3)]
        untouched = api.dead(other)
        answer = answered(api.post("/jobs/dlq/retry", {"queue_name": queue, "limit": 2}))
        assert (answer["retried_count"], set(answer["retried_jobs"])) == (2, set(made[:2]))
        assert listed(api, queue_name=queue) == made[2:]
        assert listed(api, queue_name=other) == [untouched]

    def test_an_empty_object_is_the_whole_organization(self, own: Api) -> None:
        made = {own.dead("a"), own.dead("b")}
        answer = answered(own.post("/jobs/dlq/retry", {}))
        assert (answer["retried_count"], set(answer["retried_jobs"])) == (2, made)
        again = answered(own.post("/jobs/dlq/retry", {}))
        assert (again["retried_count"], again["retried_jobs"], again["skipped_jobs"]) == (0, [], [])

    def test_ids_win_over_queue_and_limit(self, api: Api) -> None:
        made = [api.dead() for _ in range(3)]
        body = {"job_ids": made, "queue_name": "another", "limit": 1}
        assert answered(api.post("/jobs/dlq/retry", body))["retried_count"] == 3

    def test_ids_that_are_not_dead_letters_are_left_alone(self, api: Api, free: Api) -> None:
        alive, dead, foreign = api.enqueue(a_queue()), api.dead(), free.dead("q")
        ids = [alive, UNKNOWN_ID, "not-a-uuid", foreign, dead, dead]
        answer = answered(api.post("/jobs/dlq/retry", {"job_ids": ids}))
        assert (answer["retried_count"], answer["retried_jobs"]) == (1, [dead])
        assert api.job(alive)["retry_count"] == 0
        assert free.status(foreign) == "deadletter"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("limit", 0),
            ("limit", 101),
            ("limit", -1),
            ("queue_name", "q" * 101),
        ],
    )
    def test_out_of_range_is_400(self, api: Api, name: str, value: object) -> None:
        queue = a_queue()
        body = {"queue_name": queue, name: value}
        assert refused_fields(api.post("/jobs/dlq/retry", body), 400) == {name}

    def test_more_than_a_hundred_ids_are_400(self, api: Api) -> None:
        ids = [str(uuid.uuid4()) for _ in range(101)]
        assert answered(api.post("/jobs/dlq/retry", {"job_ids": ids[:100]}))["retried_count"] == 0
        refused(api.post("/jobs/dlq/retry", {"job_ids": ids}), 400)

    def test_children_of_a_retried_parent_wait_for_it(self, api: Api) -> None:
        queue, children = a_queue(), a_queue()
        parent = api.running(queue, max_retries=0)
        child = api.enqueue(children, parent_job_id=parent["id"])
        api.fail(parent)
        assert api.status(child) == "pending"
        answered(api.post("/jobs/dlq/retry", {"job_ids": [parent["id"]]}))
        assert api.job(child)["dependencies_met"] is False
        assert api.claim(children) == []
        api.complete(api.claim_one(queue))
        assert api.job(child)["dependencies_met"] is True
        assert api.claim_one(children)["id"] == child

    def test_children_that_wait_are_cancelled_when_the_parent_dies_again(self, api: Api) -> None:
        queue, children = a_queue(), a_queue()
        parent = api.running(queue, max_retries=0)
        child = api.enqueue(children, parent_job_id=parent["id"])
        api.fail(parent)
        answered(api.post("/jobs/dlq/retry", {"job_ids": [parent["id"]]}))
        api.fail(api.claim_one(queue))
        cancelled = api.job(child)
        assert cancelled["status"] == "cancelled"
        assert "parent" in cancelled["last_error"].lower()


class TestPurge:
    def test_a_purged_job_is_gone_with_its_history(self, api: Api) -> None:
        queue = a_queue()
        dead, alive = api.dead(queue), api.enqueue(queue)
        answer = answered(api.post("/jobs/dlq/purge", {"confirm": True, "queue_name": queue}))
        assert answer["purged_count"] == 1
        refused(api.get(f"/jobs/{dead}"), 404, "NOT_FOUND")
        refused(api.get(f"/jobs/{dead}/history"), 404, "NOT_FOUND")
        assert api.status(alive) == "pending"
        assert (
            answered(api.post("/jobs/dlq/purge", {"confirm": True, "queue_name": queue}))["purged_count"] == 0
        )

    def test_children_by_parent_go_with_it(self, api: Api) -> None:
        queue = a_queue()
        parent = api.dead(queue)
        child = api.enqueue(a_queue(), parent_job_id=parent)
        answered(api.post("/jobs/dlq/purge", {"confirm": True, "queue_name": queue}))
        refused(api.get(f"/jobs/{child}"), 404, "NOT_FOUND")

    def test_it_must_be_confirmed(self, api: Api) -> None:
        queue = a_queue()
        dead = api.dead(queue)
        assert refused_fields(api.post("/jobs/dlq/purge", {"queue_name": queue}), 422) == {"confirm"}
        refused(api.post("/jobs/dlq/purge", {"confirm": None, "queue_name": queue}), 422, "VALIDATION_ERROR")
        refused(
            api.post("/jobs/dlq/purge", {"confirm": "true", "queue_name": queue}), 422, "VALIDATION_ERROR"
        )
        refused(api.post("/jobs/dlq/purge", {"confirm": False, "queue_name": queue}), 400, "BAD_REQUEST")
        assert api.status(dead) == "deadletter"

    def test_the_oldest_go_first_up_to_the_limit(self, api: Api) -> None:
        queue = a_queue()
        made = [api.dead(queue) for _ in range(3)]
        body = {"confirm": True, "queue_name": queue, "limit": 2}
        assert answered(api.post("/jobs/dlq/purge", body))["purged_count"] == 2
        assert listed(api, queue_name=queue) == made[2:]

    def test_only_those_created_before_a_time(self, api: Api) -> None:
        queue = a_queue()
        made = [api.dead(queue) for _ in range(2)]
        older_than = api.job(made[1])["created_at"]
        body = {"confirm": True, "queue_name": queue, "older_than": older_than}
        assert answered(api.post("/jobs/dlq/purge", body))["purged_count"] == 1
        assert listed(api, queue_name=queue) == made[1:]
        assert answered(api.post("/jobs/dlq/purge", body | {"older_than": LATER}))["purged_count"] == 1

    def test_without_a_queue_the_whole_organization_is_purged_and_nobody_else(
        self, own: Api, free: Api
    ) -> None:
        own.dead("a")
        own.dead("b")
        foreign = free.dead("a")
        assert answered(own.post("/jobs/dlq/purge", {"confirm": True}))["purged_count"] == 2
        assert free.status(foreign) == "deadletter"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("limit", 0), ("limit", 10_001), ("queue_name", "q" * 101), ("older_than", "last week")],
    )
    def test_out_of_range_is_400(self, api: Api, name: str, value: object) -> None:
        body = {"confirm": True, "queue_name": a_queue(), name: value}
        assert refused_fields(api.post("/jobs/dlq/purge", body), 400) == {name}
