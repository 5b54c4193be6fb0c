"""Contract: spooled-jobs 1.5, 3.1, 10.2; spooled-tenancy 12.2; ruling R10, R24."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.spooled.objects import JOB, conforms
from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, dumps, refused, refused_fields

KIB = 1024
MIB = 1024 * KIB

BROKEN_RULES: list[tuple[str, Any]] = [
    ("queue_name", ""),
    ("queue_name", "q" * 101),
    ("queue_name", ".hidden"),
    ("queue_name", "-leading"),
    ("queue_name", "two words"),
    ("queue_name", "a/b"),
    ("queue_name", "a;b"),
    ("queue_name", "a\n"),
    ("queue_name", "очередь"),
    ("queue_name", "'; DROP TABLE jobs; --"),
    ("queue_name", "<script>"),
    ("queue_name", "../../etc/passwd"),
    ("priority", -101),
    ("priority", 101),
    ("max_retries", -1),
    ("max_retries", 101),
    ("timeout_seconds", 0),
    ("timeout_seconds", -1),
    ("timeout_seconds", 86_401),
    ("idempotency_key", "k" * 256),
    ("scheduled_at", "tomorrow"),
    ("scheduled_at", ""),
    ("scheduled_at", "2026-13-01T00:00:00Z"),
    ("scheduled_at", "2026-02-30T00:00:00Z"),
    ("expires_at", "2026-01-01T25:00:00Z"),
    ("expires_at", "1700000000"),
    ("completion_webhook", "not a url"),
    ("completion_webhook", "/relative"),
    ("completion_webhook", ""),
    ("completion_webhook_secret", "s" * 256),
    ("tags", "t" * (64 * KIB)),
]

WRONG_TYPES: list[tuple[str, Any]] = [
    *(("queue_name", value) for value in (5, True, [], {}, 1.5)),
    *(
        (name, value)
        for name in ("priority", "max_retries", "timeout_seconds")
        for value in ("1", True, 1.0, 1.5, [], {}, 2**63, 2**70, -(2**70))
    ),
    *((name, value) for name in ("scheduled_at", "expires_at") for value in (1_700_000_000, True, [], {})),
    *(
        (name, value)
        for name in ("idempotency_key", "parent_job_id", "completion_webhook", "completion_webhook_secret")
        for value in (7, False, [], {})
    ),
]


@pytest.mark.parametrize(("name", "value"), BROKEN_RULES, ids=lambda value: repr(value)[:40])
def test_a_broken_rule_is_400_and_names_the_field(api: Api, name: str, value: object) -> None:
    body = {"queue_name": "rules", "payload": {}, name: value}
    assert refused_fields(api.post("/jobs", body), 400) == {name}


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES, ids=lambda value: repr(value)[:40])
def test_a_wrong_type_is_422_and_names_the_field(api: Api, name: str, value: object) -> None:
    body = {"queue_name": "rules", "payload": {}, name: value}
    assert refused_fields(api.post("/jobs", body), 422) == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_name", "q" * 100),
        ("queue_name", "_Az09-._"),
        ("queue_name", "a..b"),
        ("queue_name", "0"),
        ("priority", -100),
        ("priority", 100),
        ("max_retries", 0),
        ("max_retries", 100),
        ("timeout_seconds", 1),
        ("timeout_seconds", 86_400),
        ("completion_webhook", "http://127.0.0.1:9/hook?x=1"),
        ("completion_webhook", "https://example.com/hook"),
        ("tags", "t" * (64 * KIB - 2)),
        ("tags", ["a", "b"]),
        ("tags", {"a": 1, "b": None}),
        ("tags", 7),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_at_the_edge_of_its_rule_is_stored(api: Api, name: str, value: object) -> None:
    made = answered(api.post("/jobs", {"queue_name": "edges", "payload": {}, name: value}), 201)
    assert made == {"id": made["id"], "created": True}
    assert api.job(made["id"])[name] == value


def test_a_job_of_defaults_has_every_field(api: Api) -> None:
    queue = a_queue()
    job = conforms(api.job(api.enqueue(queue, {"a": 1})), JOB)
    assert uuid.UUID(job["id"])
    assert job["queue_name"] == queue
    assert job["status"] == "pending"
    assert job["payload"] == {"a": 1}
    assert (job["priority"], job["max_retries"], job["timeout_seconds"], job["retry_count"]) == (0, 3, 300, 0)
    assert job["created_at"] == job["updated_at"]
    assert job["dependencies_met"] is not False
    unset = JOB.keys() - {
        *("id", "organization_id", "queue_name", "status", "payload", "retry_count", "max_retries"),
        *("created_at", "updated_at", "priority", "timeout_seconds", "dependency_mode", "dependencies_met"),
    }
    assert {name: job[name] for name in unset} == dict.fromkeys(unset)
    assert api.history(job["id"]) == ["created"]


def test_what_was_given_is_what_is_stored_and_the_secret_is_never_shown(api: Api) -> None:
    queue = a_queue()
    parent = api.enqueue(queue)
    fields = {
        "priority": 7,
        "max_retries": 5,
        "timeout_seconds": 60,
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "idempotency_key": uuid.uuid4().hex,
        "tags": {"team": "a", "n": [1, 2]},
        "parent_job_id": parent,
        "completion_webhook": "http://127.0.0.1:9/done",
    }
    response = api.get(f"/jobs/{api.enqueue(queue, [1], **fields, completion_webhook_secret='hush-hush')}")
    job = conforms(answered(response), JOB)
    assert {name: job[name] for name in fields} == fields
    assert "hush-hush" not in response.text
    assert "completion_webhook_secret" not in job


class TestPayloads:
    @pytest.mark.parametrize(
        "payload",
        [
            None,
            True,
            0,
            -1.5,
            "",
            "text",
            [],
            {},
            [[], {}, None],
            {"": ""},
            {"job_type": 5},
            {"nested": {"list": [1, [2, [3, {"deep": None}]]]}},
            {"Ключ": "значение", "emoji": "👩‍🚀🇺🇳", "rtl": "שלום", "combining": "e\u0301", "line": "\u2028"},
            {"control": "\u0001\t\n\r\u001f", "quote": '"\\/'},
            2**53,
            2**53 + 1,
            2**63,
            2**64 + 1,
            -(2**80),
            10**300,
            {"big": [2**100, {"x": -(2**63) - 1}]},
            1e308,
            5e-324,
            0.1,
            "x" * 10_000,
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_any_json_comes_back_equal(self, api: Api, payload: object) -> None:
        queue = a_queue()
        job_id = api.enqueue(queue, payload)
        assert api.job(job_id)["payload"] == payload
        assert api.claim_one(queue)["payload"] == payload

    def test_whitespace_and_escapes_in_the_text_do_not_change_the_value(self, api: Api) -> None:
        content = b' { "queue_name" : "q" ,\n\t"payload" : { "\\u0061\\ud83d\\ude00" : [ 1 , 2.50 ] } } '
        made = answered(api.call("POST", "/jobs", content=content), 201)
        assert api.job(made["id"])["payload"] == {"a😀": [1, 2.5]}

    def test_a_mebibyte_fits_and_one_byte_more_does_not(self, api: Api) -> None:
        queue = a_queue()
        job_id = api.enqueue(queue, "x" * (MIB - 2))
        assert len(api.job(job_id)["payload"]) == MIB - 2
        body = dumps({"queue_name": queue, "payload": "x" * (MIB - 1)})
        assert len(body) < 5 * MIB
        refused(api.call("POST", "/jobs", content=body), 413, "PAYLOAD_TOO_LARGE")
        assert len(answered(api.get("/jobs", queue_name=queue))) == 1


class TestTimes:
    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00.000000Z"),
            ("2999-01-01T02:30:00+02:30", "2999-01-01T00:00:00.000000Z"),
            ("2998-12-31T19:00:00-05:00", "2999-01-01T00:00:00.000000Z"),
            ("2999-01-01T00:00:00.1Z", "2999-01-01T00:00:00.100000Z"),
            ("2999-01-01T00:00:00.123Z", "2999-01-01T00:00:00.123000Z"),
            ("2999-01-01T00:00:00.123456Z", "2999-01-01T00:00:00.123456Z"),
            ("2999-01-01T00:00:00.123456000+00:00", "2999-01-01T00:00:00.123456Z"),
            ("2999-01-01T00:00:00", "2999-01-01T00:00:00.000000Z"),
            ("2999-01-01T00:00:00.5", "2999-01-01T00:00:00.500000Z"),
        ],
    )
    def test_any_offset_and_precision_is_read_and_utc_microseconds_are_written(
        self, api: Api, given: str, stored: str
    ) -> None:
        job = api.job(api.enqueue("times", 1, scheduled_at=given, expires_at=given))
        assert (job["scheduled_at"], job["expires_at"]) == (stored, stored)
        assert job["status"] == "scheduled"

    def test_nanoseconds_are_read(self, api: Api) -> None:
        job = api.job(api.enqueue("times", 1, scheduled_at="2999-01-01T00:00:00.123456789Z"))
        assert job["scheduled_at"][:25] == "2999-01-01T00:00:00.12345"

    def test_a_past_time_leaves_the_job_pending_and_is_kept(self, api: Api) -> None:
        queue = a_queue()
        job_id = api.enqueue(queue, 1, scheduled_at="2020-01-01T00:00:00Z")
        job = api.job(job_id)
        assert (job["status"], job["scheduled_at"]) == ("pending", "2020-01-01T00:00:00.000000Z")
        assert api.claim_one(queue)["id"] == job_id

    def test_a_scheduled_job_is_not_claimable(self, api: Api) -> None:
        queue = a_queue()
        job_id = api.enqueue(queue, 1, scheduled_at="2999-01-01T00:00:00Z")
        assert api.claim(queue) == []
        assert api.status(job_id) == "scheduled"

    def test_a_job_past_its_expiry_is_accepted_and_never_claimable(self, api: Api) -> None:
        queue = a_queue()
        api.enqueue(queue, 1, expires_at="2020-01-01T00:00:00Z")
        assert api.claim(queue) == []


class TestParents:
    @pytest.mark.parametrize("parent", [UNKNOWN_ID, "not-a-uuid"])
    def test_an_unknown_parent_is_400(self, api: Api, parent: str) -> None:
        queue = a_queue()
        response = api.post("/jobs", {"queue_name": queue, "payload": 1, "parent_job_id": parent})
        refused(response, 400)
        assert answered(api.get("/jobs", queue_name=queue)) == []

    def test_a_parent_of_another_organization_is_an_unknown_one(self, api: Api, free: Api) -> None:
        parent = api.enqueue(a_queue())
        response = free.post("/jobs", {"queue_name": "q", "payload": 1, "parent_job_id": parent})
        refused(response, 400, "BAD_REQUEST")

    def test_a_child_does_not_wait_for_its_parent(self, api: Api) -> None:
        queue = a_queue()
        child = api.enqueue(queue, 1, parent_job_id=api.enqueue(a_queue()))
        assert api.job(child)["dependencies_met"] is not False
        assert api.claim_one(queue)["id"] == child


class TestIdempotencyKeys:
    def test_a_hit_returns_the_first_job_unchanged(self, api: Api) -> None:
        queue, key = a_queue(), uuid.uuid4().hex
        first = answered(
            api.post("/jobs", {"queue_name": queue, "payload": "first", "idempotency_key": key}), 201
        )
        again = {"queue_name": a_queue(), "payload": "second", "priority": 50, "idempotency_key": key}
        assert answered(api.post("/jobs", again)) == {"id": first["id"], "created": False}
        job = api.job(first["id"])
        assert (job["queue_name"], job["payload"], job["priority"]) == (queue, "first", 0)
        assert api.history(first["id"]) == ["created"]

    @pytest.mark.parametrize("end", ["processing", "completed", "cancelled", "deadletter"])
    def test_a_hit_finds_the_job_whatever_became_of_it(self, api: Api, end: str) -> None:
        queue, key = a_queue(), uuid.uuid4().hex
        job_id = api.enqueue(queue, 1, idempotency_key=key, max_retries=0)
        if end == "cancelled":
            answered(api.delete(f"/jobs/{job_id}"), 204)
        else:
            job = api.claim_one(queue)
            if end == "completed":
                api.complete(job)
            elif end == "deadletter":
                api.fail(job)
        again = api.post("/jobs", {"queue_name": queue, "payload": 2, "idempotency_key": key})
        assert answered(again) == {"id": job_id, "created": False}
        assert api.status(job_id) == end

    def test_purging_the_job_frees_its_key(self, api: Api) -> None:
        queue, key = a_queue(), uuid.uuid4().hex
        first = api.dead(queue, 1, idempotency_key=key)
        answered(api.post("/jobs/dlq/purge", {"confirm": True, "queue_name": queue}))
        assert api.enqueue(queue, 2, idempotency_key=key) != first

    def test_deleting_the_queue_with_its_jobs_frees_its_keys(self, api: Api) -> None:
        queue, key = a_queue(), uuid.uuid4().hex
        first = api.enqueue(queue, 1, idempotency_key=key)
        answered(api.delete(f"/queues/{queue}", delete_jobs="true"), 204)
        assert api.enqueue(queue, 2, idempotency_key=key) != first

    def test_the_header_serves_when_the_body_has_none(self, api: Api) -> None:
        queue, key, other = a_queue(), uuid.uuid4().hex, uuid.uuid4().hex
        body = {"queue_name": queue, "payload": 1}
        first = answered(api.post("/jobs", body, **{"Idempotency-Key": key}), 201)["id"]
        assert answered(api.post("/jobs", body, **{"Idempotency-Key": key}))["id"] == first
        assert api.job(first)["idempotency_key"] == key
        answered(api.post("/jobs", {**body, "idempotency_key": other}, **{"Idempotency-Key": key}), 201)

    def test_two_organizations_may_use_one_key(self, api: Api, free: Api) -> None:
        key = uuid.uuid4().hex
        assert api.enqueue("q", 1, idempotency_key=key) != free.enqueue("q", 1, idempotency_key=key)

    def test_of_many_at_once_exactly_one_creates(self, api: Api) -> None:
        queue, key = a_queue(), uuid.uuid4().hex
        body = {"queue_name": queue, "payload": 1, "idempotency_key": key}
        with ThreadPoolExecutor(12) as pool:
            made = [call.result() for call in [pool.submit(api.post, "/jobs", body) for _ in range(12)]]
        assert sorted(response.status_code for response in made) == [200] * 11 + [201]
        assert len({response.json()["id"] for response in made}) == 1
        assert len(answered(api.get("/jobs", queue_name=queue))) == 1


def test_defaults_come_from_the_queue_and_explicit_values_win(api: Api) -> None:
    queue = a_queue()
    answered(api.put(f"/queues/{queue}/config", {"max_retries": 9, "default_timeout": 77}))
    job = api.job(api.enqueue(queue))
    assert (job["max_retries"], job["timeout_seconds"]) == (9, 77)
    job = api.job(api.enqueue(queue, max_retries=0))
    assert (job["max_retries"], job["timeout_seconds"]) == (0, 77)
    job = api.job(api.enqueue(queue, max_retries=None, timeout_seconds=5))
    assert (job["max_retries"], job["timeout_seconds"]) == (9, 5)


def test_enqueueing_makes_no_queue_row(api: Api) -> None:
    queue = a_queue()
    api.enqueue(queue)
    refused(api.get(f"/queues/{queue}"), 404, "NOT_FOUND")
