"""Servers that do not start, or lose their database. Contract: spooled-tenancy 19.9 (I1, I5)."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.deadline import wait_until
from tests.cli.server_process import ServerProcess, run_command
from tests.security.conftest import JWT_SECRET
from tests.serving.database_of import dsn_of


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"JWT_SECRET": "aB3$eF6&hJ9"}, "JWT_SECRET"),
        ({"JWT_SECRET": "abcabcabcabcabcabcabcabcabcabcabcabc"}, "JWT_SECRET"),
        ({"MILLSTREAM_ENV": "staging", "JWT_SECRET": f"{JWT_SECRET}-change-me"}, "JWT_SECRET"),
        ({"GITHUB_WEBHOOK_SECRET": "xK7qZp"}, "GITHUB_WEBHOOK_SECRET"),
        ({"JWT_EXPIRATION_HOURS": "8761"}, "JWT_EXPIRATION_HOURS"),
        ({"RATE_LIMIT_REQUESTS_PER_SECOND": "0"}, "RATE_LIMIT_REQUESTS_PER_SECOND"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_is_not_safe_stops_the_start_and_its_value_is_not_shown(
    environment: dict[str, str], variable: str
) -> None:
    safe = {"MILLSTREAM_ENV": "production", "JWT_SECRET": JWT_SECRET}
    with tempfile.TemporaryDirectory() as made:
        done = run_command("serve", "--data-dir", made, environment={**safe, **environment})
        assert list(Path(made).iterdir()) == []
    assert done.returncode != 0
    assert variable in done.stderr
    assert "Traceback" not in done.stderr
    if not environment[variable].isdigit():
        assert environment[variable] not in done.stdout + done.stderr


@pytest.fixture
def losing() -> Iterator[ServerProcess]:
    """A server whose database a test may end."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        running = ServerProcess(directory / "data", directory / "log")
        try:
            yield running.wait_ready()
        finally:
            running.stop()


@pytest.mark.slow
def test_without_its_database_a_server_says_no_more_than_that(losing: ServerProcess) -> None:
    dsn = dsn_of(losing)
    body = {"queue_name": "q", "payload": 1}
    answers: list[httpx2.Response] = []

    def ask() -> bool:
        for method, path, content in (("GET", "/jobs", None), ("POST", "/jobs", body)):
            url = f"{losing.url}/api/v1{path}"
            answer = httpx2.request(method, url, json=content, headers=losing.headers, timeout=30)
            if answer.status_code not in (200, 201):
                answers.append(answer)
        return bool(answers)

    ask()
    postmaster = losing.postmaster_pid()
    assert postmaster is not None
    os.kill(postmaster, signal.SIGKILL)
    wait_until(ask)
    for answer in answers:
        said = answer.json()
        assert (answer.status_code, said["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "1"
        for word in ("postgres", "select", "insert", "millstream.", "connection", "socket", "asyncpg", dsn):
            assert word not in answer.text.lower()
    health = httpx2.get(f"{losing.url}/health")
    assert health.status_code == 200
    assert health.json().get("version") is None
