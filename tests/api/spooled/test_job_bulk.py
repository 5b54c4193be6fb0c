"""Contract: spooled-jobs 3.9."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.spooled.wire import Api, JsonObject, a_queue, answered, refused, refused_fields


def bulk(api: Api, queue: str, jobs: list[JsonObject], **fields: object) -> JsonObject:
    return answered(api.post("/jobs/bulk", {"queue_name": queue, "jobs": jobs, **fields}))


def test_each_job_is_created_at_its_index(api: Api) -> None:
    queue = a_queue()
    answer = bulk(api, queue, [{"payload": n} for n in range(3)])
    assert set(answer) >= {"succeeded", "failed", "total", "success_count", "failure_count"}
    assert (answer["total"], answer["success_count"], answer["failure_count"]) == (3, 3, 0)
    assert answer["failed"] == []
    assert [(item["index"], item["created"]) for item in answer["succeeded"]] == [
        (0, True),
        (1, True),
        (2, True),
    ]
    jobs = [api.job(item["job_id"]) for item in answer["succeeded"]]
    assert [job["payload"] for job in jobs] == [0, 1, 2]
    assert [(job["priority"], job["max_retries"], job["timeout_seconds"]) for job in jobs] == [
        (0, 3, 300)
    ] * 3
    assert [job["payload"] for job in api.claim(queue, limit=3)] == [0, 1, 2]
    assert api.history(jobs[0]["id"]) == ["created", "claimed"]


def test_defaults_of_the_request_win_over_the_queue_and_items_over_both(api: Api) -> None:
    queue = a_queue()
    answered(api.put(f"/queues/{queue}/config", {"max_retries": 9, "default_timeout": 77}))
    items = [{"payload": 1}, {"payload": 2, "priority": -3}]
    plain = [api.job(item["job_id"]) for item in bulk(api, queue, items)["succeeded"]]
    assert [(job["priority"], job["max_retries"], job["timeout_seconds"]) for job in plain] == [
        (0, 9, 77),
        (-3, 9, 77),
    ]
    answer = bulk(api, queue, items, default_priority=5, default_max_retries=1, default_timeout_seconds=6)
    given = [api.job(item["job_id"]) for item in answer["succeeded"]]
    assert [(job["priority"], job["max_retries"], job["timeout_seconds"]) for job in given] == [
        (5, 1, 6),
        (-3, 1, 6),
    ]


def test_items_may_be_scheduled(api: Api) -> None:
    queue = a_queue()
    items = [{"payload": 1, "scheduled_at": "2999-01-01T00:00:00Z"}, {"payload": 2}]
    later, now = (api.job(item["job_id"]) for item in bulk(api, queue, items)["succeeded"])
    assert (later["status"], now["status"]) == ("scheduled", "pending")
    assert later["scheduled_at"] == "2999-01-01T00:00:00.000000Z"


def test_two_items_with_one_key_are_one_job(api: Api) -> None:
    queue, key = a_queue(), uuid.uuid4().hex
    items = [{"payload": 1, "idempotency_key": key}, {"payload": 2, "idempotency_key": key}]
    first, second = bulk(api, queue, items)["succeeded"]
    assert (first["created"], second["created"]) == (True, False)
    assert first["job_id"] == second["job_id"]
    assert api.job(first["job_id"])["payload"] == 1
    (again,) = bulk(api, queue, items[:1])["succeeded"]
    assert again == {"index": 0, "job_id": first["job_id"], "created": False}


def test_an_item_that_breaks_a_rule_fails_alone(api: Api) -> None:
    queue = a_queue()
    items: list[JsonObject] = [
        {"payload": 0},
        {"payload": 1, "priority": 101},
        {"payload": 2, "idempotency_key": "k" * 256},
        {"payload": 3, "scheduled_at": "never"},
        {"payload": "x" * (1024 * 1024)},
        {"payload": 5},
    ]
    answer = bulk(api, queue, items)
    assert (answer["total"], answer["success_count"], answer["failure_count"]) == (6, 2, 4)
    assert [item["index"] for item in answer["succeeded"]] == [0, 5]
    assert [item["index"] for item in answer["failed"]] == [1, 2, 3, 4]
    assert all(isinstance(item["error"], str) and item["error"] for item in answer["failed"])
    assert len(answered(api.get("/jobs", queue_name=queue))) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_name", ""),
        ("queue_name", "q" * 101),
        ("jobs", []),
        ("jobs", [{"payload": 1}] * 101),
        ("default_priority", 101),
        ("default_priority", -101),
        ("default_max_retries", -1),
        ("default_max_retries", 101),
        ("default_timeout_seconds", 0),
        ("default_timeout_seconds", 86_401),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_broken_rule_of_the_request_is_400_and_nothing_is_written(
    api: Api, name: str, value: object
) -> None:
    queue = a_queue()
    body: dict[str, Any] = {"queue_name": queue, "jobs": [{"payload": 1}], name: value}
    assert refused_fields(api.post("/jobs/bulk", body), 400) == {name}
    assert answered(api.get("/jobs", queue_name=queue)) == []


@pytest.mark.parametrize(
    "item", [5, "text", None, [], {}, {"priority": 1}, {"payload": 1, "priority": "high"}]
)
def test_an_item_of_the_wrong_shape_is_422(api: Api, item: object) -> None:
    queue = a_queue()
    body = {"queue_name": queue, "jobs": [{"payload": 1}, item]}
    refused(api.post("/jobs/bulk", body), 422, "VALIDATION_ERROR")
    assert answered(api.get("/jobs", queue_name=queue)) == []


@pytest.mark.slow
def test_a_hundred_items_fit(api: Api) -> None:
    queue = a_queue()
    answer = bulk(api, queue, [{"payload": n} for n in range(100)])
    assert answer["success_count"] == 100
    assert [job["payload"] for job in api.claim(queue, limit=100)] == list(range(100))
