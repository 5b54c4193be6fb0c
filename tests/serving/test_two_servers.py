"""Two real servers on one database tell each other what happens. DESIGN 5."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from millstream.engine.hints import Ready, parse_message
from tests.cli.deadline import wait_until
from tests.cli.server_process import ServerProcess
from tests.serving.database_of import dsn_of

Start = Callable[..., ServerProcess]
LINES = "select count(*) from pg_stat_activity where application_name = 'millstream relay'"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers on one data directory; those that still run in the end are stopped."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made, ExitStack() as stack:
        place = Path(made)
        # PostgreSQL's account must be able to enter.
        place.chmod(0o711)

        def start_one(*arguments: str) -> ServerProcess:
            server = ServerProcess(place / "data", place / "log", arguments)
            stack.callback(server.stop)
            return server.wait_ready()

        yield start_one


def enqueue(server: ServerProcess, queue: str) -> str:
    answer = httpx2.post(
        f"{server.url}/api/v1/jobs", headers=server.headers, json={"queue_name": queue, "payload": {}}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def claim(url: str, headers: dict[str, str], queue: str) -> list[dict[str, Any]]:
    body = {"queue_name": queue, "worker_id": "w", "wait_seconds": 20}
    return httpx2.post(f"{url}/api/v1/jobs/claim", headers=headers, json=body, timeout=40).json()["jobs"]


def lines(connection: psycopg.Connection) -> int:
    row = connection.execute(LINES).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.slow
def test_a_job_enqueued_at_one_server_is_hinted_to_a_claim_that_waits_at_the_other(start: Start) -> None:
    first = start()
    first_url = first.url
    with (
        psycopg.connect(dsn_of(first), autocommit=True) as connection,
        ThreadPoolExecutor(1) as executor,
    ):
        # A server alone has no line.
        assert lines(connection) == 0
        second = start()
        wait_until(lambda: lines(connection) == 2)
        connection.execute("listen millstream_relay")
        waiting = executor.submit(claim, first_url, second.headers, "hinted")
        said = ""
        deadline = time.monotonic() + 20
        while "hinted" not in said and time.monotonic() < deadline:
            # The claim's server has announced its queue.
            said += "".join(heard.payload for heard in connection.notifies(timeout=1, stop_after=1))
        assert "hinted" in said
        job_id = enqueue(second, "hinted")
        assert [job["id"] for job in waiting.result(40)] == [job_id]
        messages = [parse_message(heard.payload) for heard in connection.notifies(timeout=1)]
        hints = [hint for message in messages if message is not None for hint in message.hints]
        assert [hint.queue for hint in hints if isinstance(hint, Ready)] == ["hinted"]


@pytest.mark.slow
def test_a_server_whose_fellow_was_killed_goes_on_and_is_alone_in_the_end(start: Start) -> None:
    first, second = start(), start()
    with psycopg.connect(dsn_of(first), autocommit=True) as connection:
        wait_until(lambda: lines(connection) == 2)
        second.signal(signal.SIGKILL)
        job_id = enqueue(first, "alone")
        assert [job["id"] for job in claim(first.url, first.headers, "alone")] == [job_id]
        wait_until(lambda: lines(connection) == 0)
    assert first.is_healthy()


@pytest.mark.slow
def test_processes_of_one_server_hold_a_line_each(start: Start) -> None:
    server = start("--processes", "2")
    with psycopg.connect(dsn_of(server), autocommit=True) as connection:
        wait_until(lambda: lines(connection) == 2)
        row = connection.execute("select count(*) from millstream.processes").fetchone()
        assert row == (2,)
    assert server.stop() == 0
