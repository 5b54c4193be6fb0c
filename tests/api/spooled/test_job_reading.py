"""Contract: spooled-jobs 1.7, 2.2, 2.4, 3.2, 3.3, 3.7, 3.8, 3.10; spooled-tenancy 19.5."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.api.spooled.objects import BATCH_STATUS, HISTORY_EVENT, JOB_STATS, JOB_SUMMARY, conforms
from tests.api.spooled.wire import UNKNOWN_ID, WORKER, Api, JsonObject, a_queue, answered, refused


def ids(response: httpx2.Response) -> list[str]:
    return [row["id"] for row in answered(response)]


class TestPages:
    @pytest.fixture
    def queue(self, api: Api) -> str:
        queue = a_queue()
        body = {"queue_name": queue, "jobs": [{"payload": n} for n in range(100)]}
        answered(api.post("/jobs/bulk", body))
        api.enqueue(queue, 100)
        return queue

    def test_a_page_is_fifty_rows_and_limits_are_clamped_to_a_hundred(self, api: Api, queue: str) -> None:
        for limit, rows in (
            (None, 50),
            (1, 1),
            (0, 1),
            (-5, 1),
            (100, 100),
            (101, 100),
            (200, 100),
            (10_000, 100),
        ):
            params = {} if limit is None else {"limit": limit}
            response = api.get("/jobs", queue_name=queue, **params)
            assert len(answered(response)) == rows, limit
            assert response.headers["x-has-more"] == "true"

    def test_has_more_tells_the_last_page(self, api: Api, queue: str) -> None:
        for limit, offset, rows, more in (
            (100, 0, 100, "true"),
            (100, 1, 100, "false"),
            (50, 51, 50, "false"),
            (50, 50, 50, "true"),
            (10, 100, 1, "false"),
            (10, 101, 0, "false"),
            (10, 5000, 0, "false"),
            (100, -1, 100, "true"),
        ):
            response = api.get("/jobs", queue_name=queue, limit=limit, offset=offset)
            assert (len(answered(response)), response.headers["x-has-more"]) == (rows, more), (limit, offset)

    def test_pages_neither_repeat_nor_miss_a_row(self, api: Api, queue: str) -> None:
        for order in ("created_at", "priority", "status", "retry_count", "scheduled_at"):
            pages = [
                ids(api.get("/jobs", queue_name=queue, limit=17, offset=offset, order_by=order))
                for offset in range(0, 102, 17)
            ]
            assert len({job_id for page in pages for job_id in page}) == 101
            assert sum(map(len, pages)) == 101

    @pytest.mark.parametrize("path", ["/jobs", "/jobs/dlq", "/jobs/{id}/history"])
    @pytest.mark.parametrize("name", ["limit", "offset"])
    def test_what_is_not_an_integer_is_400(self, api: Api, path: str, name: str) -> None:
        path = path.format(id=api.enqueue(a_queue()))
        for value in ("abc", "1.5", "1e3", "0x10", "true", "１"):
            refused(api.get(path, **{name: value}), 400, "BAD_REQUEST")

    @pytest.mark.parametrize("path", ["/jobs", "/jobs/dlq", "/jobs/{id}/history"])
    @pytest.mark.parametrize("name", ["limit", "offset"])
    def test_a_number_of_any_size_is_clamped(self, api: Api, path: str, name: str) -> None:
        path = path.format(id=api.enqueue(a_queue()))
        for value in (2**31, 2**63, 2**64, 10**30, 10**300, -(2**63), -(10**300)):
            assert api.get(path, **{name: value}).status_code == 200

    def test_lists_without_pages_do_not_claim_to_have_more(self, api: Api) -> None:
        for path in ("/queues", "/workers"):
            response = api.get(path)
            assert isinstance(answered(response), list)
            assert "x-has-more" not in response.headers


class TestFilters:
    def test_queue_name_is_exact_and_an_impossible_one_is_ignored(self, own: Api) -> None:
        one, other = own.enqueue("one"), own.enqueue("one.more")
        assert ids(own.get("/jobs", queue_name="one")) == [one]
        assert ids(own.get("/jobs", queue_name="on")) == []
        for impossible in ("a b", "x" * 256, "'; drop table jobs; --"):
            assert set(ids(own.get("/jobs", queue_name=impossible))) == {one, other}

    def test_status_takes_one_or_several_and_drops_unknown_words(self, api: Api) -> None:
        queue = a_queue()
        done = api.running(queue)
        api.complete(done)
        dead = api.dead(queue)
        running = api.running(queue)["id"]
        pending = api.enqueue(queue)
        later = api.enqueue(queue, scheduled_at="2999-01-01T00:00:00Z")
        gone = api.enqueue(queue)
        answered(api.delete(f"/jobs/{gone}"), 204)
        by_status = {
            "pending": {pending},
            "scheduled": {later},
            "processing": {running},
            "completed": {done["id"]},
            "deadletter": {dead},
            "cancelled": {gone},
            "failed": set[str](),
        }
        everything: set[str] = set().union(*by_status.values())
        for status, expected in by_status.items():
            assert set(ids(api.get("/jobs", queue_name=queue, status=status))) == expected
        for status, expected in {
            "pending,scheduled": {pending, later},
            "completed, deadletter": {done["id"], dead},
            "pending,nonsense": {pending},
            "nonsense": everything,
            "": everything,
            ",": everything,
            ",".join(by_status): everything,
            "1 OR 1=1": everything,
        }.items():
            assert set(ids(api.get("/jobs", queue_name=queue, status=status))) == expected, status

    def test_q_searches_id_queue_and_job_type(self, own: Api) -> None:
        by_queue = own.enqueue("Alpha-queue", {"job_type": "x"})
        by_type = own.enqueue("other", {"job_type": "send-ALPHA-mail"})
        neither = own.enqueue("other", {"job_type": 5, "note": "alpha"})
        assert set(ids(own.get("/jobs", q="alpha"))) == {by_queue, by_type}
        assert set(ids(own.get("/jobs", q="LPHA-"))) == {by_queue, by_type}
        assert ids(own.get("/jobs", q=neither.upper())) == [neither]
        assert ids(own.get("/jobs", q=neither[1:])) == []
        assert set(ids(own.get("/jobs", q="alpha", queue_name="other"))) == {by_type}

    def test_q_takes_wildcards_literally(self, own: Api) -> None:
        percent = own.enqueue("plain", {"job_type": "100%"})
        underscore = own.enqueue("with_line", {"job_type": "back\\slash"})
        assert ids(own.get("/jobs", q="%")) == [percent]
        assert ids(own.get("/jobs", q="_")) == [underscore]
        assert ids(own.get("/jobs", q="\\")) == [underscore]
        assert ids(own.get("/jobs", q="'")) == []

    def test_job_type_is_exact(self, api: Api) -> None:
        queue = a_queue()
        mail = api.enqueue(queue, {"job_type": "mail"})
        api.enqueue(queue, {"job_type": "mail2"})
        api.enqueue(queue, {"job_type": 5})
        api.enqueue(queue, "mail")
        assert ids(api.get("/jobs", queue_name=queue, job_type="mail")) == [mail]
        assert ids(api.get("/jobs", queue_name=queue, job_type="MAIL")) == []
        assert ids(api.get("/jobs", queue_name=queue, job_type="5")) == []

    def test_the_creation_window_includes_its_start_and_excludes_its_end(self, api: Api) -> None:
        queue = a_queue()
        jobs = [api.job(api.enqueue(queue)) for _ in range(3)]
        first, second, third = (job["created_at"] for job in jobs)
        assert first < second < third

        def window(**bounds: str) -> list[str]:
            return ids(api.get("/jobs", queue_name=queue, order_dir="asc", **bounds))

        everyone = [job["id"] for job in jobs]
        assert window(created_after=second) == everyone[1:]
        assert window(created_before=second) == everyone[:1]
        assert window(created_after=second, created_before=third) == everyone[1:2]
        assert window(created_after=first.replace("Z", "+00:00")) == everyone
        assert window(created_after=second.removesuffix("Z")) == everyone[1:]
        assert window(created_after="2999-01-01T01:00:00+01:00") == []

    @pytest.mark.parametrize("name", ["created_after", "created_before"])
    def test_a_time_that_cannot_be_read_is_400(self, api: Api, name: str) -> None:
        for value in ("yesterday", "", "2026-02-30T00:00:00Z", "12"):
            refused(api.get("/jobs", **{name: value}), 400)

    def test_tag_matches_a_list_item_an_object_key_or_the_text_itself(self, api: Api) -> None:
        queue = a_queue()
        item = api.enqueue(queue, tags=["urgent", "x"])
        key = api.enqueue(queue, tags={"urgent": False})
        text = api.enqueue(queue, tags="urgent")
        for other in (["urgently"], {"x": "urgent"}, {"x": {"urgent": 1}}, [["urgent"]], None, 5):
            api.enqueue(queue, tags=other)
        assert set(ids(api.get("/jobs", queue_name=queue, tag="urgent"))) == {item, key, text}
        assert ids(api.get("/jobs", queue_name=queue, tag="' or 1=1 --")) == []

    def test_a_tag_of_1024_characters_is_the_longest(self, api: Api) -> None:
        queue, tag = a_queue(), "t" * 1024
        tagged = api.enqueue(queue, tags=[tag])
        assert ids(api.get("/jobs", queue_name=queue, tag=tag)) == [tagged]

    def test_filters_combine(self, api: Api) -> None:
        queue = a_queue()
        wanted = api.enqueue(queue, {"job_type": "a"}, tags=["t"])
        api.enqueue(queue, {"job_type": "a"})
        api.enqueue(queue, {"job_type": "b"}, tags=["t"])
        params = {"queue_name": queue, "job_type": "a", "tag": "t", "status": "pending", "q": queue[:5]}
        assert ids(api.get("/jobs", **params)) == [wanted]


class TestOrder:
    @pytest.mark.parametrize(
        ("order_by", "key"),
        [
            ("created_at", lambda row: row["created_at"]),
            ("priority", lambda row: row["priority"]),
            ("queue_name", lambda row: row["queue_name"]),
            ("retry_count", lambda row: row["retry_count"]),
            ("nonsense; drop table jobs", lambda row: row["created_at"]),
        ],
    )
    def test_rows_come_in_the_order_asked_for(
        self, own: Api, order_by: str, key: Callable[[JsonObject], Any]
    ) -> None:
        own.enqueue("b", priority=5)
        own.enqueue("a", priority=-5)
        own.enqueue("c", priority=9)
        own.fail(own.claim_one("a"), retry_in_seconds=0)
        rows = answered(own.get("/jobs", order_by=order_by))
        assert [key(row) for row in rows] == sorted((key(row) for row in rows), reverse=True)
        rows = answered(own.get("/jobs", order_by=order_by, order_dir="asc"))
        assert [key(row) for row in rows] == sorted(key(row) for row in rows)

    def test_newest_first_unless_asked_otherwise(self, api: Api) -> None:
        queue = a_queue()
        made = [api.enqueue(queue) for _ in range(3)]
        assert ids(api.get("/jobs", queue_name=queue)) == made[::-1]
        assert ids(api.get("/jobs", queue_name=queue, order_dir="desc")) == made[::-1]
        assert ids(api.get("/jobs", queue_name=queue, order_dir="sideways")) == made[::-1]
        assert ids(api.get("/jobs", queue_name=queue, order_dir="asc")) == made


class TestSummaries:
    def test_a_row_has_every_field(self, api: Api) -> None:
        queue = a_queue()
        api.enqueue(queue, {"job_type": "mail"}, priority=3, max_retries=2)
        (row,) = answered(api.get("/jobs", queue_name=queue))
        conforms(row, JOB_SUMMARY)
        assert (row["queue_name"], row["status"], row["priority"], row["job_type"]) == (
            queue,
            "pending",
            3,
            "mail",
        )
        assert (row["retry_count"], row["attempt"], row["max_retries"], row["last_error"]) == (0, 0, 2, None)

    @pytest.mark.parametrize(
        "payload", [None, 5, "text", [], {}, {"job_type": None}, {"job_type": 5}, {"JOB_TYPE": "x"}]
    )
    def test_the_job_type_is_empty_text_where_there_is_none(self, api: Api, payload: object) -> None:
        queue = a_queue()
        api.enqueue(queue, payload)
        (row,) = answered(api.get("/jobs", queue_name=queue))
        assert row["job_type"] == ""

    def test_payload_result_and_tags_are_in_a_row_only_as_objects(self, api: Api) -> None:
        queue = a_queue()
        for value in (5, "text", [1], None, True):
            api.enqueue(queue, value, tags=value)
        job = api.claim_one(queue)
        api.complete(job, result=[1])
        for row in answered(api.get("/jobs", queue_name=queue)):
            conforms(row, JOB_SUMMARY)
            for name in ("payload", "result", "tags"):
                assert isinstance(row.get(name, {}), dict)

    def test_a_failed_attempt_shows_in_its_row(self, api: Api) -> None:
        queue = a_queue()
        api.fail(api.running(queue), error="no route", retry_in_seconds=3600)
        (row,) = answered(api.get("/jobs", queue_name=queue))
        assert (row["retry_count"], row["attempt"], row["last_error"]) == (1, 1, "no route")
        assert row["scheduled_at"] is not None


class TestStats:
    def test_an_organization_without_jobs_has_zeros(self, own: Api) -> None:
        stats = conforms(answered(own.get("/jobs/stats")), JOB_STATS)
        assert set(stats.values()) == {0}

    def test_each_status_is_counted_over_the_whole_organization(self, own: Api) -> None:
        own.complete(own.running("a"))
        own.dead("b")
        own.running("c")
        own.enqueue("d")
        own.enqueue("d", scheduled_at="2999-01-01T00:00:00Z")
        answered(own.delete(f"/jobs/{own.enqueue('e')}"), 204)
        expected = dict.fromkeys(JOB_STATS, 1) | {"failed": 0, "total": 6}
        stats = answered(own.get("/jobs/stats"))
        assert {name: stats[name] for name in expected} == expected


class TestBatchStatus:
    def test_rows_follow_the_request_each_once_and_unknown_ids_are_skipped(self, api: Api) -> None:
        queue = a_queue()
        pending, done = api.enqueue(queue), api.running(a_queue())
        api.complete(done)
        asked = f" {done['id']} ,,{UNKNOWN_ID},not-a-uuid,{pending},{done['id']},"
        rows = answered(api.get("/jobs/status", ids=asked))
        assert [row["id"] for row in rows] == [done["id"], pending]
        for row in rows:
            conforms(row, BATCH_STATUS)
            assert not {"attempt", "max_retries"} & row.keys()
        assert (rows[0]["status"], rows[1]["status"]) == ("completed", "pending")
        assert rows[0]["completed_at"] is not None
        assert rows[1]["queue_name"] == queue

    def test_a_hundred_ids_are_the_most(self, api: Api) -> None:
        many = [str(uuid.uuid4()) for _ in range(101)]
        assert answered(api.get("/jobs/status", ids=",".join(many[:100]))) == []
        refused(api.get("/jobs/status", ids=",".join(many)), 400, "BAD_REQUEST")

    def test_no_id_left_is_an_empty_list_and_no_parameter_is_400(self, api: Api) -> None:
        assert answered(api.get("/jobs/status", ids="")) == []
        assert answered(api.get("/jobs/status", ids=" , ,")) == []
        refused(api.get("/jobs/status"), 400)


class TestHistory:
    @pytest.fixture
    def job_id(self, api: Api) -> str:
        queue = a_queue()
        job = api.running(queue)
        api.fail(job, error="first", retry_in_seconds=0)
        api.complete(api.claim_one(queue), result={"ok": True})
        return job["id"]

    def test_events_come_oldest_first_with_every_field(self, api: Api, job_id: str) -> None:
        response = api.get(f"/jobs/{job_id}/history")
        events = answered(response)
        assert [event["event_type"] for event in events] == [
            "created",
            "claimed",
            "failed",
            "claimed",
            "completed",
        ]
        assert response.headers["x-has-more"] == "false"
        for event in events:
            conforms(event, HISTORY_EVENT)
            assert event["job_id"] == job_id
            assert event["details"] is not None
        times = [event["created_at"] for event in events]
        assert times == sorted(times)
        assert len({event["id"] for event in events}) == 5
        assert [event["worker_id"] for event in events if event["event_type"] == "claimed"] == [
            WORKER,
            WORKER,
        ]

    def test_reading_twice_gives_the_same_events(self, api: Api, job_id: str) -> None:
        assert answered(api.get(f"/jobs/{job_id}/history")) == answered(api.get(f"/jobs/{job_id}/history"))

    def test_pages_and_direction(self, api: Api, job_id: str) -> None:
        everything = answered(api.get(f"/jobs/{job_id}/history"))
        assert answered(api.get(f"/jobs/{job_id}/history", order_dir="desc")) == everything[::-1]
        page = api.get(f"/jobs/{job_id}/history", limit=2, offset=1)
        assert answered(page) == everything[1:3]
        assert page.headers["x-has-more"] == "true"
        last = api.get(f"/jobs/{job_id}/history", limit=2, offset=3)
        assert answered(last) == everything[3:]
        assert last.headers["x-has-more"] == "false"
        assert answered(api.get(f"/jobs/{job_id}/history", limit=0)) == everything[:1]
        assert answered(api.get(f"/jobs/{job_id}/history", limit=501, offset=-1)) == everything


@pytest.mark.parametrize("job_id", [UNKNOWN_ID, "nope", "1 OR 1=1", "' or ''='", "0" * 300])
def test_an_unknown_job_is_404_and_not_echoed(api: Api, job_id: str) -> None:
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/history"):
        body = refused(api.get(path), 404, "NOT_FOUND")
        assert job_id not in body["message"]
