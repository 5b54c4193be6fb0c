"""One server process, from its start to its end."""

import json
import os
import signal
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx2
import pytest

from tests.cli.deadline import wait_until
from tests.cli.server_process import ServerProcess, is_alive, run_command

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow

Start = Callable[..., ServerProcess]


def test_the_ready_line_names_urls_that_answer(server: ServerProcess) -> None:
    assert server.ready["event"] == "ready"
    assert server.ready["grpc_url"] is None
    assert httpx2.get(f"{server.url}/health").json()["status"] == "healthy"
    assert httpx2.get(f"{server.metrics_url}/health").text == "ok\n"
    assert httpx2.get(f"{server.metrics_url}/ready").text == "ready\n"


def test_the_credentials_file_is_private_and_complete(server: ServerProcess) -> None:
    path = server.data_dir / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    credentials = json.loads(path.read_text())
    assert set(credentials) == {"organization_id", "api_key", "admin_key", "url", "grpc_url", "metrics_url"}
    assert credentials["url"] == server.url
    assert credentials["metrics_url"] == server.metrics_url
    assert credentials["grpc_url"] is None
    assert credentials["api_key"].startswith("sk_")
    assert [entry.name for entry in server.data_dir.iterdir() if entry.name.startswith(".cred")] == []


def test_the_first_start_shows_the_keys_that_the_file_has(server: ServerProcess) -> None:
    for name in ("organization_id", "api_key", "admin_key"):
        assert server.ready["first_keys"][name] == server.credentials[name]


def test_the_first_key_opens_the_api(server: ServerProcess) -> None:
    assert httpx2.get(f"{server.url}/api/v1/jobs", headers=server.headers).status_code == 200
    assert httpx2.get(f"{server.url}/api/v1/jobs").status_code == 401


def test_the_server_does_not_say_what_it_is_made_of(server: ServerProcess) -> None:
    headers = httpx2.get(f"{server.url}/health").headers
    assert "server" not in headers
    assert "date" in headers


def test_metrics_count_requests(server: ServerProcess) -> None:
    httpx2.get(f"{server.url}/api/v1/jobs", headers=server.headers)
    answer = httpx2.get(f"{server.metrics_url}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    counted = [line for line in answer.text.splitlines() if line.startswith("spooled_api_requests_total")]
    assert float(counted[0].split()[1]) >= 1


def test_a_second_start_keeps_keys_and_refreshes_urls(start: Start) -> None:
    first = start()
    before = first.credentials
    assert first.stop() == 0
    assert first.postmaster_pid() is None

    second = start()
    after = second.credentials
    assert second.ready["first_keys"] is None
    assert {name: after[name] for name in ("organization_id", "api_key", "admin_key")} == {
        name: before[name] for name in ("organization_id", "api_key", "admin_key")
    }
    assert after["url"] == second.url
    assert httpx2.get(f"{second.url}/api/v1/jobs", headers=second.headers).status_code == 200


@pytest.mark.slow
def test_keys_of_a_start_that_was_killed_before_it_answered_are_not_lost(start: Start) -> None:
    first = start()
    keys = first.credentials
    first.stop()
    # What a server leaves that died between making its keys and answering.
    published = first.data_dir / "credentials.json"
    published.rename(first.data_dir / ".credentials.kept.json")

    second = start()
    assert second.credentials["api_key"] == keys["api_key"]


@pytest.mark.slow
def test_two_servers_share_one_database_and_the_last_one_out_stops_it(start: Start) -> None:
    first, second = start(), start()
    database = first.postmaster_pid()
    assert database is not None
    created = httpx2.post(
        f"{first.url}/api/v1/jobs", headers=first.headers, json={"queue_name": "shared", "payload": {}}
    )
    assert created.status_code == 201
    seen = httpx2.get(f"{second.url}/api/v1/jobs/{created.json()['id']}", headers=first.headers)
    assert seen.status_code == 200

    assert first.stop() == 0
    assert second.postmaster_pid() == database
    assert second.is_healthy()
    assert second.stop() == 0
    assert not is_alive(database)


def test_requests_in_flight_at_sigterm_are_answered(start: Start) -> None:
    server = start()
    answers: list[int] = []
    began = threading.Event()

    def create() -> None:
        with httpx2.Client(base_url=server.url, headers=server.headers) as client:
            try:
                while True:
                    answers.append(
                        client.post("/api/v1/jobs", json={"queue_name": "q", "payload": {}}).status_code
                    )
                    if len(answers) > 20:
                        began.set()
            except httpx2.TransportError as error:
                # Refused, or told that this connection is closed: never cut off in the middle of an answer.
                lost.append(error)

    lost: list[httpx2.TransportError] = []
    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert began.wait(30)
    assert server.stop() == 0
    for thread in threads:
        thread.join(30)
    assert set(answers) == {201}
    assert len(lost) == 8

    again = start()
    stats = httpx2.get(f"{again.url}/api/v1/jobs/stats", headers=again.headers).json()
    # What was sent just as the connection closed may have been stored without an answer, nothing else.
    assert len(answers) <= stats["pending"] <= len(answers) + len(lost)


@pytest.mark.slow
def test_a_worker_waiting_for_jobs_does_not_hold_up_the_shutdown(start: Start) -> None:
    server = start()
    with _waiting_claim(server) as answers:
        server.signal(signal.SIGTERM)
    # An empty list, or the request to come back: not cut off, and not after the whole wait.
    assert answers in ([200], [503])
    assert server.process.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_requests(start: Start) -> None:
    server = start()
    with _waiting_claim(server):
        server.signal(signal.SIGTERM)
        wait_until(lambda: "shutting down" in server.log.read_text())
        server.signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 1
    # Forced or not, the last one out stops the database.
    assert server.postmaster_pid() is None


@contextmanager
def _waiting_claim(server: ServerProcess) -> Generator[list[int]]:
    """Hold a request that waits for jobs; on leaving, its end is awaited and its status is in the list."""
    headers = server.headers
    answers: list[int] = []
    worker = {"queue_name": "idle", "hostname": "here"}
    registered = httpx2.post(f"{server.url}/api/v1/workers/register", headers=headers, json=worker).json()

    def claim() -> None:
        body = {"queue_name": "idle", "worker_id": registered["id"], "wait_seconds": 25}
        try:
            answer = httpx2.post(f"{server.url}/api/v1/jobs/claim", headers=headers, json=body, timeout=40)
        except httpx2.TransportError:
            return
        answers.append(answer.status_code)

    waiting = threading.Thread(target=claim)
    waiting.start()
    wait_until(lambda: _claims_looked_for(server) >= 1)
    yield answers
    waiting.join(60)


def _claims_looked_for(server: ServerProcess) -> float:
    text = httpx2.get(f"{server.metrics_url}/metrics").text
    name = 'millstream_batch_rows_count{operation="claim"} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


@pytest.mark.slow
def test_a_killed_database_comes_back_by_itself(start: Start) -> None:
    server = start()
    killed = server.postmaster_pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: server.postmaster_pid() not in {None, killed})
    wait_until(server.is_healthy)
    answer = httpx2.get(f"{server.url}/api/v1/jobs", headers=server.headers)
    assert answer.status_code == 200


def test_a_taken_port_is_said_in_a_line(server: ServerProcess) -> None:
    port = server.url.rpartition(":")[2]
    done = run_command("serve", "--isolated", "--data-dir", str(server.data_dir), "--port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "70000"], "--port must be"),
        (["--processes", "0"], "--processes must be"),
        (["--host", "not a host"], "--host must be"),
    ],
)
def test_settings_that_cannot_be_used_are_named(arguments: list[str], reason: str) -> None:
    done = run_command("serve", "--isolated", *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
