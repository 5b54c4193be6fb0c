"""Contract: spooled-jobs 2.5, 2.6, 4."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.api.spooled.objects import QUEUE_CONFIG, QUEUE_STATS, QUEUE_SUMMARY, conforms
from tests.api.spooled.wire import UTC_MICROSECONDS, Api, a_queue, answered, refused, refused_fields

BAD_NAMES = ["a%20b", "-a", ".a", "q" * 101, "%C3%A9", "a;b", "a%2Fb", "a%00b", "a'b"]


class TestConfig:
    def test_a_new_row_has_the_defaults(self, api: Api) -> None:
        queue = a_queue()
        config = conforms(answered(api.put(f"/queues/{queue}/config", {})), QUEUE_CONFIG)
        expected = {
            "queue_name": queue,
            "max_retries": 3,
            "default_timeout": 300,
            "rate_limit": None,
            "enabled": True,
            "settings": {},
        }
        assert {name: config[name] for name in expected} == expected
        assert answered(api.get(f"/queues/{queue}")) == config

    def test_every_field_is_stored(self, api: Api) -> None:
        queue = a_queue()
        fields = {
            "max_retries": 7,
            "default_timeout": 60,
            "rate_limit": 5,
            "enabled": False,
            "settings": {"Любой": ["json", {"x": 2**70}]},
        }
        config = answered(api.put(f"/queues/{queue}/config", fields))
        assert {name: config[name] for name in fields} == fields
        assert answered(api.get(f"/queues/{queue}")) == config

    @pytest.mark.parametrize("settings", [[], [1], "text", 5, True, {}, {"a": {"b": None}}])
    def test_settings_are_any_json(self, api: Api, settings: object) -> None:
        queue = a_queue()
        assert answered(api.put(f"/queues/{queue}/config", {"settings": settings}))["settings"] == settings

    def test_absent_fields_are_kept(self, api: Api) -> None:
        queue = a_queue()
        full = {
            "max_retries": 7,
            "default_timeout": 60,
            "rate_limit": 5,
            "enabled": False,
            "settings": {"a": 1},
        }
        made = answered(api.put(f"/queues/{queue}/config", full))
        for change in (
            {"max_retries": 8},
            {"default_timeout": 61},
            {"rate_limit": 6},
            {"settings": {"b": 2}},
            {"enabled": True},
            {},
            dict.fromkeys(full),
        ):
            full |= {name: value for name, value in change.items() if value is not None}
            config = answered(api.put(f"/queues/{queue}/config", change))
            assert {name: config[name] for name in full} == full
            assert (config["id"], config["created_at"]) == (made["id"], made["created_at"])
            assert config["updated_at"] >= made["updated_at"]

    def test_the_path_decides_whatever_the_body_names(self, api: Api) -> None:
        queue, other = a_queue(), a_queue()
        body = {"queue_name": other, "max_retries": 1}
        assert answered(api.put(f"/queues/{queue}/config", body))["queue_name"] == queue
        refused(api.get(f"/queues/{other}"), 404, "NOT_FOUND")

    def test_the_short_path_is_the_same(self, api: Api) -> None:
        queue = a_queue()
        assert answered(api.put(f"/queues/{queue}", {"max_retries": 4}))["max_retries"] == 4
        assert answered(api.put(f"/queues/{queue}/config", {"rate_limit": 2}))["max_retries"] == 4

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_retries", -1),
            ("max_retries", 101),
            ("default_timeout", 0),
            ("default_timeout", 86_401),
            ("rate_limit", 0),
            ("rate_limit", 100_001),
            ("settings", {"x": "y" * 65_536}),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_out_of_range_is_400(self, api: Api, name: str, value: object) -> None:
        queue = a_queue()
        body: dict[str, Any] = {"max_retries": 1, name: value}
        assert refused_fields(api.put(f"/queues/{queue}/config", body), 400) == {name}
        refused(api.get(f"/queues/{queue}"), 404, "NOT_FOUND")

    def test_the_edges_are_in_range(self, api: Api) -> None:
        queue = a_queue()
        for fields in (
            {"max_retries": 0, "default_timeout": 1, "rate_limit": 1},
            {"max_retries": 100, "default_timeout": 86_400, "rate_limit": 100_000},
            {"settings": "s" * 65_534},
        ):
            config = answered(api.put(f"/queues/{queue}/config", fields))
            assert {name: config[name] for name in fields} == fields

    @pytest.mark.parametrize("name", BAD_NAMES)
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "/queues/{}/config", {}),
            ("PUT", "/queues/{}", {}),
            ("GET", "/queues/{}", None),
            ("GET", "/queues/{}/stats", None),
            ("POST", "/queues/{}/pause", {}),
            ("POST", "/queues/{}/resume", None),
            ("DELETE", "/queues/{}", None),
        ],
    )
    def test_a_bad_name_in_the_path_is_400(
        self, api: Api, name: str, method: str, path: str, body: object
    ) -> None:
        refused(api.call(method, path.format(name), body), 400, "BAD_REQUEST")


class TestList:
    def test_an_organization_without_rows_has_an_empty_list(self, own: Api) -> None:
        own.enqueue("only-jobs")
        assert answered(own.get("/queues")) == []

    def test_rows_come_by_name_with_every_field(self, own: Api) -> None:
        for name in ("b", "a.2", "C", "a"):
            answered(own.put(f"/queues/{name}/config", {"rate_limit": 3}))
        answered(own.post("/queues/paused/pause", {}))
        rows = answered(own.get("/queues"))
        assert sorted(row["queue_name"] for row in rows) == sorted(["a", "a.2", "b", "C", "paused"])
        lower_case = [row["queue_name"] for row in rows if row["queue_name"] != "C"]
        assert lower_case == ["a", "a.2", "b", "paused"]
        for row in rows:
            conforms(row, QUEUE_SUMMARY)
            assert row["enabled"] is (row["queue_name"] != "paused")

    def test_the_first_hundred_are_listed(self, own: Api) -> None:
        names = [f"q{n:03}" for n in range(103)]
        for name in reversed(names):
            answered(own.put(f"/queues/{name}/config", {}))
        assert [row["queue_name"] for row in answered(own.get("/queues"))] == names[:100]


def test_a_queue_without_a_row_is_404_whether_jobs_use_it_or_not(api: Api) -> None:
    queue = a_queue()
    refused(api.get(f"/queues/{queue}"), 404, "NOT_FOUND")
    api.enqueue(queue)
    assert queue not in refused(api.get(f"/queues/{queue}"), 404, "NOT_FOUND")["message"]


class TestStats:
    def test_an_unknown_queue_has_zeros(self, api: Api) -> None:
        queue = a_queue()
        stats = conforms(answered(api.get(f"/queues/{queue}/stats")), QUEUE_STATS)
        assert stats == {
            "queue_name": queue,
            "pending_jobs": 0,
            "processing_jobs": 0,
            "completed_jobs_24h": 0,
            "failed_jobs_24h": 0,
            "avg_processing_time_ms": None,
            "max_job_age_seconds": None,
            "active_workers": 0,
        }

    def test_jobs_and_workers_of_the_queue_are_counted(self, api: Api) -> None:
        queue = a_queue()
        for _ in range(2):
            api.complete(api.running(queue))
        api.dead(queue)
        api.running(queue)
        for _ in range(3):
            api.enqueue(queue)
        api.enqueue(queue, scheduled_at="2999-01-01T00:00:00Z")
        answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)
        gone = answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)["id"]
        answered(api.post(f"/workers/{gone}/deregister"), 204)
        stats = conforms(answered(api.get(f"/queues/{queue}/stats")), QUEUE_STATS)
        counts = (
            "pending_jobs",
            "processing_jobs",
            "completed_jobs_24h",
            "failed_jobs_24h",
            "active_workers",
        )
        assert [stats[name] for name in counts] == [3, 1, 2, 1, 1]
        assert float(stats["avg_processing_time_ms"]).is_integer()
        assert "." not in str(stats["avg_processing_time_ms"])
        assert stats["max_job_age_seconds"] >= 0


class TestPause:
    @pytest.mark.parametrize(
        ("body", "reason"),
        [(None, None), ({}, None), ({"reason": None}, None), ({"reason": "deploy"}, "deploy")],
    )
    def test_a_pause_is_told_and_shown(self, api: Api, body: object, reason: str | None) -> None:
        queue = a_queue()
        answer = answered(api.post(f"/queues/{queue}/pause", body))
        assert answer == {
            "queue_name": queue,
            "paused": True,
            "paused_at": answer["paused_at"],
            "reason": reason,
        }
        assert UTC_MICROSECONDS.fullmatch(answer["paused_at"])
        config = conforms(answered(api.get(f"/queues/{queue}")), QUEUE_CONFIG)
        assert (config["enabled"], config["max_retries"], config["default_timeout"]) == (False, 3, 300)
        paused_at = datetime.fromisoformat(config["settings"]["paused_at"])
        assert config["settings"] == {
            "paused": True,
            "paused_at": config["settings"]["paused_at"],
            "paused_reason": reason,
        }
        assert paused_at == datetime.fromisoformat(answer["paused_at"])

    def test_while_paused_all_but_claims_goes_on(self, api: Api) -> None:
        queue = a_queue()
        running = api.running(queue)
        answered(api.post(f"/queues/{queue}/pause", {}))
        waiting = api.enqueue(queue)
        assert api.claim(queue) == []
        api.complete(running)
        assert api.status(waiting) == "pending"
        answered(api.post(f"/queues/{queue}/resume"))
        assert api.claim_one(queue)["id"] == waiting

    def test_resuming_takes_the_marks_away_and_tells_how_long(self, api: Api) -> None:
        queue = a_queue()
        answered(api.put(f"/queues/{queue}/config", {"settings": {"mine": 1}, "max_retries": 8}))
        answered(api.post(f"/queues/{queue}/pause", {"reason": "r"}))
        assert answered(api.get(f"/queues/{queue}"))["settings"]["mine"] == 1
        answer = answered(api.post(f"/queues/{queue}/resume"))
        assert answer == {
            "queue_name": queue,
            "resumed": True,
            "paused_duration_secs": answer["paused_duration_secs"],
        }
        assert type(answer["paused_duration_secs"]) is int
        assert answer["paused_duration_secs"] >= 0
        config = answered(api.get(f"/queues/{queue}"))
        assert (config["enabled"], config["settings"], config["max_retries"]) == (True, {"mine": 1}, 8)
        assert answered(api.post(f"/queues/{queue}/resume"))["paused_duration_secs"] == 0

    def test_pausing_twice_starts_the_pause_anew(self, api: Api) -> None:
        queue = a_queue()
        first = answered(api.post(f"/queues/{queue}/pause", {"reason": "one"}))
        second = answered(api.post(f"/queues/{queue}/pause", {}))
        assert second["paused_at"] > first["paused_at"]
        assert second["reason"] is None

    def test_new_settings_leave_the_marks_of_a_pause(self, api: Api) -> None:
        queue = a_queue()
        answered(api.post(f"/queues/{queue}/pause", {"reason": "r"}))
        marks = answered(api.get(f"/queues/{queue}"))["settings"]
        config = answered(api.put(f"/queues/{queue}/config", {"settings": {"mine": 1}}))
        assert config["settings"] == {"mine": 1, **marks}
        assert config["enabled"] is False

    def test_resuming_without_a_row_is_404(self, api: Api) -> None:
        refused(api.post(f"/queues/{a_queue()}/resume"), 404, "NOT_FOUND")

    def test_a_reason_of_500_characters_is_the_longest(self, api: Api) -> None:
        queue = a_queue()
        assert answered(api.post(f"/queues/{queue}/pause", {"reason": "r" * 500}))["reason"] == "r" * 500
        assert refused_fields(api.post(f"/queues/{queue}/pause", {"reason": "r" * 501}), 400) == {"reason"}
        assert refused_fields(api.post(f"/queues/{queue}/pause", {"reason": 5}), 422) == {"reason"}


class TestDelete:
    def test_without_jobs_the_row_goes(self, api: Api) -> None:
        queue = a_queue()
        answered(api.put(f"/queues/{queue}/config", {}))
        answered(api.delete(f"/queues/{queue}"), 204)
        refused(api.get(f"/queues/{queue}"), 404, "NOT_FOUND")
        refused(api.delete(f"/queues/{queue}"), 404, "NOT_FOUND")

    @pytest.mark.parametrize("status", ["pending", "processing"])
    def test_jobs_in_work_are_a_conflict(self, api: Api, status: str) -> None:
        queue = a_queue()
        answered(api.put(f"/queues/{queue}/config", {}))
        api.enqueue(queue)
        if status == "processing":
            api.claim_one(queue)
        refused(api.delete(f"/queues/{queue}"), 409, "CONFLICT")
        assert answered(api.get(f"/queues/{queue}"))["queue_name"] == queue

    def test_other_jobs_do_not_block_and_stay(self, api: Api) -> None:
        queue = a_queue()
        answered(api.put(f"/queues/{queue}/config", {}))
        done = api.running(queue)
        api.complete(done)
        dead, later = api.dead(queue), api.enqueue(queue, scheduled_at="2999-01-01T00:00:00Z")
        answered(api.delete(f"/queues/{queue}"), 204)
        assert [api.status(job_id) for job_id in (done["id"], dead, later)] == [
            "completed",
            "deadletter",
            "scheduled",
        ]

    def test_with_delete_jobs_all_of_them_go_whatever_their_status(self, api: Api) -> None:
        queue = a_queue()
        answered(api.put(f"/queues/{queue}/config", {}))
        done = api.running(queue)
        api.complete(done)
        dead, running = api.dead(queue), api.running(queue)["id"]
        pending, later = api.enqueue(queue), api.enqueue(queue, scheduled_at="2999-01-01T00:00:00Z")
        neighbour = api.enqueue(a_queue())
        answered(api.delete(f"/queues/{queue}", delete_jobs="true"), 204)
        for job_id in (done["id"], dead, running, pending, later):
            refused(api.get(f"/jobs/{job_id}"), 404, "NOT_FOUND")
        refused(api.get(f"/queues/{queue}"), 404, "NOT_FOUND")
        assert api.status(neighbour) == "pending"

    def test_with_delete_jobs_a_row_or_a_job_must_have_existed(self, api: Api) -> None:
        queue = a_queue()
        refused(api.delete(f"/queues/{queue}", delete_jobs="true"), 404, "NOT_FOUND")
        api.enqueue(queue)
        answered(api.delete(f"/queues/{queue}", delete_jobs="true"), 204)

    def test_delete_jobs_false_is_the_plain_delete(self, api: Api) -> None:
        queue = a_queue()
        answered(api.put(f"/queues/{queue}/config", {}))
        api.enqueue(queue)
        refused(api.delete(f"/queues/{queue}", delete_jobs="false"), 409, "CONFLICT")
        refused(api.delete(f"/queues/{queue}", delete_jobs="maybe"), 400, "BAD_REQUEST")
