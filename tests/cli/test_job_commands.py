"""`millstream job`, `queue`, `schedule` and `worker` against a running server."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from millstream.cli.main import main
from millstream.client import Client
from tests.cli.server_process import ServerProcess

# What a command prints is as varied as the commands are.
Ask = Callable[..., Any]


@pytest.fixture
def ask(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command with --json on the module's server; returns what it printed."""

    def run(*arguments: str, code: int = 0) -> object:
        capsys.readouterr()
        assert main([*arguments, "--data-dir", str(server.data_dir), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def show(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command as people do; returns the text."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main([*arguments, "--data-dir", str(server.data_dir)]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid4().hex[:8]}"


def test_a_job_is_enqueued_listed_and_shown(ask: Ask, queue: str) -> None:
    enqueued = ask("job", "enqueue", queue, '{"to": "ada"}', "--priority", "7")
    assert enqueued["created"] is True
    (listed,) = ask("job", "list", "--queue", queue)
    assert listed["id"] == enqueued["id"]
    assert (listed["status"], listed["priority"]) == ("pending", 7)
    shown = ask("job", "get", enqueued["id"])
    assert shown["payload"] == {"to": "ada"}
    assert shown["queue_name"] == queue


def test_an_idempotency_key_is_told_apart_for_people(show: Callable[..., str], queue: str) -> None:
    key = uuid4().hex
    first = show("job", "enqueue", queue, "1", "--idempotency-key", key).strip()
    second = show("job", "enqueue", queue, "1", "--idempotency-key", key).strip()
    assert second == f"{first} (the key was used before)"


def test_lists_filter_by_several_states(ask: Ask, queue: str) -> None:
    waiting = ask("job", "enqueue", queue, "{}")["id"]
    cancelled = ask("job", "enqueue", queue, "{}")["id"]
    assert ask("job", "cancel", cancelled) == {"id": cancelled, "status": "cancelled"}
    both = ask("job", "list", "--queue", queue, "--status", "pending", "--status", "cancelled")
    assert {job["id"] for job in both} == {waiting, cancelled}
    assert [job["id"] for job in ask("job", "list", "--queue", queue, "--status", "pending")] == [waiting]


def test_a_dead_letter_is_retried_and_its_history_told(ask: Ask, server: ServerProcess, queue: str) -> None:
    with Client(server.url, server.credentials["api_key"]) as client:
        job_id = client.jobs.enqueue(queue, {}, max_retries=0).id
        worker = client.workers.register(queue, hostname="here")
        (claimed,) = client.jobs.claim(queue, worker_id=worker.id)
        client.jobs.fail(claimed.id, lease_id=claimed.lease_id, worker_id=worker.id, error="broken")
    assert ask("job", "get", job_id)["status"] == "deadletter"
    assert ask("job", "retry", job_id)["status"] == "pending"
    events = [event["event_type"] for event in ask("job", "history", job_id)]
    assert events[0] == "created"
    assert len(events) >= 3
    assert worker.id in {row["id"] for row in ask("worker", "list")}
    assert ask("worker", "get", worker.id)["hostname"] == "here"


def test_stats_count_by_status(ask: Ask, queue: str) -> None:
    before = ask("job", "stats")
    ask("job", "enqueue", queue, "{}")
    after = ask("job", "stats")
    assert after["pending"] == before["pending"] + 1


def test_a_queue_is_configured_paused_resumed_and_deleted(ask: Ask, queue: str) -> None:
    configured = ask("queue", "configure", queue, "--max-retries", "5", "--retry-initial-seconds", "2")
    assert (configured["max_retries"], configured["retry_initial_seconds"]) == (5, 2)
    assert queue in {row["queue_name"] for row in ask("queue", "list")}
    assert ask("queue", "pause", queue, "--reason", "lunch")["reason"] == "lunch"
    assert ask("queue", "resume", queue)["queue_name"] == queue
    assert ask("queue", "configure", queue, "--disabled")["enabled"] is False
    assert ask("queue", "get", queue)["max_retries"] == 5
    assert ask("queue", "stats", queue)["pending_jobs"] == 0
    assert ask("queue", "delete", queue) == {"queue_name": queue, "deleted": True}
    assert "error" in ask("queue", "get", queue, code=1)


def test_deleting_jobs_with_their_queue_wants_a_yes(ask: Ask, queue: str) -> None:
    ask("queue", "configure", queue, "--max-retries", "1")
    job_id = ask("job", "enqueue", queue, "{}")["id"]
    assert "for good" in ask("queue", "delete", queue, "--delete-jobs", code=1)["error"]
    assert ask("job", "get", job_id)["status"] == "pending"
    ask("queue", "delete", queue, "--delete-jobs", "--yes")
    assert "error" in ask("job", "get", job_id, code=1)


def test_a_schedule_is_created_paused_resumed_triggered_and_deleted(
    ask: Ask, show: Callable[..., str], queue: str
) -> None:
    made = ask("schedule", "create", "nightly", "30 2 * * *", queue, '{"n": 1}', "--timezone", "Asia/Tokyo")
    schedule = made["id"]
    assert (made["cron_expression"], made["timezone"]) == ("30 2 * * *", "Asia/Tokyo")
    assert ask("schedule", "pause", schedule)["is_active"] is False
    assert [row["id"] for row in ask("schedule", "list", "--queue", queue, "--paused")] == [schedule]
    assert ask("schedule", "list", "--queue", queue, "--active") == []
    job = ask("schedule", "trigger", schedule)["job_id"]
    assert ask("job", "get", job)["payload"] == {"n": 1}
    assert [run["job_id"] for run in ask("schedule", "history", schedule)] == [job]
    assert ask("schedule", "resume", schedule)["is_active"] is True
    assert ask("schedule", "show", schedule)["run_count"] == 1
    assert "runs next at" in show("schedule", "resume", schedule)
    assert "is paused" in show("schedule", "pause", schedule)
    assert "nightly" in show("schedule", "list", "--queue", queue)
    assert "Asia/Tokyo" in show("schedule", "show", schedule)
    assert job in show("schedule", "history", schedule)
    assert ask("schedule", "delete", schedule) == {"id": schedule, "deleted": True}
    assert "error" in ask("schedule", "show", schedule, code=1)
    assert "cron_expression" in ask("schedule", "create", "s", "* * *", queue, "1", code=1)["error"]


def test_tables_are_for_people(show: Callable[..., str], queue: str) -> None:
    show("queue", "configure", queue, "--max-retries", "1")
    job_id = show("job", "enqueue", queue, "{}").strip()
    assert job_id in show("job", "list", "--queue", queue)
    assert queue in show("queue", "list")
    assert "No jobs." in show("job", "list", "--queue", f"{queue}-other")
    assert job_id in show("job", "get", job_id)


def test_a_payload_that_is_no_json_is_refused_before_it_is_sent(ask: Ask, queue: str) -> None:
    assert "not valid JSON" in ask("job", "enqueue", queue, "{broken", code=1)["error"]


def test_address_and_key_may_come_from_the_environment(
    server: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLSTREAM_URL", server.url)
    monkeypatch.setenv("MILLSTREAM_API_KEY", server.credentials["api_key"])
    assert main(["job", "stats", "--json"]) == 0
    assert "pending" in json.loads(capsys.readouterr().out)


def test_a_key_is_not_sent_to_another_server_than_its_own(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    other_name = server.url.replace("127.0.0.1", "localhost")
    assert main(["job", "stats", "--url", other_name, "--data-dir", str(server.data_dir)]) == 1
    assert "refused the API key" in capsys.readouterr().err


def test_a_wrong_key_is_said_so(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "stats", "--url", server.url, "--api-key", "sk_live_wrong"]) == 1
    assert "refused the API key" in capsys.readouterr().err
