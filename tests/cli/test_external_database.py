"""A database that is not ours: migrated on request, checked at start, never printed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.cli.server_process import ServerProcess, run_command

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def address(server: ServerProcess) -> Iterator[str]:
    """An empty database beside the server's own, reached as any other would be."""
    done = run_command("db", "url", "--data-dir", str(server.data_dir))
    url = done.stdout.strip()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create database outside")
    yield url.replace("/millstream?", "/outside?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop database outside with (force)")


@pytest.mark.slow
def test_from_an_empty_database_to_an_answer(address: str, start: Start, place: Path) -> None:
    environment = {"DATABASE_URL": address}

    refused = run_command("serve", "--database-url", address, "--port", "0", "--metrics-port", "0")
    assert refused.returncode == 1
    assert "millstream db migrate" in refused.stderr
    assert "schema" in {
        finding["check"]
        for finding in json.loads(run_command("doctor", "--json", environment=environment).stdout)
        if finding["level"] == "fail"
    }

    first = json.loads(run_command("db", "migrate", "--json", environment=environment).stdout)
    assert first["applied"]
    assert first["credentials"]["admin_key"] is None
    again = json.loads(run_command("db", "migrate", "--json", environment=environment).stdout)
    assert again == {"applied": [], "credentials": None}

    server = start("--database-url", address)
    assert server.ready["credentials_path"] is None
    assert not (place / "data").exists()
    headers = {"authorization": f"Bearer {first['credentials']['api_key']}"}
    assert httpx2.get(f"{server.url}/api/v1/jobs", headers=headers).json() == []


def test_the_shell_goes_where_the_server_goes(address: str) -> None:
    done = run_command(
        *("db", "shell", "--json", "-c", "select current_database() as name"),
        environment={"DATABASE_URL": address},
    )
    assert json.loads(done.stdout) == [{"name": "outside"}]


def test_a_database_that_does_not_exist_is_one_finding(address: str) -> None:
    done = run_command(
        "doctor", "--json", environment={"DATABASE_URL": address.replace("/outside?", "/nowhere?")}
    )
    assert done.returncode == 1
    (finding,) = [finding for finding in json.loads(done.stdout) if finding["check"] == "database"]
    assert finding["level"] == "fail"
    assert "does not exist" in finding["message"]
