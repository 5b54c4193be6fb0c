"""`millstream db`."""

import json
from pathlib import Path

import psycopg
import pytest

from millstream.embedded.postmaster import find_postmaster
from tests.cli.server_process import ServerProcess, run_command

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow


def test_the_url_of_a_running_database_can_be_connected_to(server: ServerProcess) -> None:
    done = run_command("db", "url", "--data-dir", str(server.data_dir))
    assert done.returncode == 0
    with psycopg.connect(done.stdout.strip()) as connection:
        row = connection.execute("select count(*) from millstream.tenants").fetchone()
    assert row == (1,)


def test_the_url_as_json(server: ServerProcess) -> None:
    done = run_command("db", "url", "--data-dir", str(server.data_dir), "--json")
    assert json.loads(done.stdout)["url"].startswith("postgresql://")


def test_the_url_of_a_database_that_does_not_run_is_refused_and_nothing_is_started(place: Path) -> None:
    done = run_command("db", "url", "--data-dir", str(place / "data"))
    assert done.returncode == 1
    assert "does not run" in done.stderr
    assert "millstream serve" in done.stderr
    assert not (place / "data").exists()


def test_the_url_of_an_external_database_is_not_printed(place: Path) -> None:
    done = run_command("db", "url", environment={"DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/d"})
    assert done.returncode == 1
    assert "hidden-word" not in done.stdout + done.stderr


def test_the_shell_runs_sql(server: ServerProcess) -> None:
    done = run_command(
        "db", "shell", "--json", "-c", "select 1 as one, 'a' as letter", "--data-dir", str(server.data_dir)
    )
    assert json.loads(done.stdout) == [{"one": "1", "letter": "a"}]


def test_the_shell_reads_standard_input(server: ServerProcess) -> None:
    done = run_command("db", "shell", "--data-dir", str(server.data_dir), stdin="select 6 * 7;\n")
    assert done.returncode == 0
    assert "42" in done.stdout


def test_the_shell_makes_no_database_where_there_is_none(place: Path) -> None:
    done = run_command("db", "shell", "-c", "select 1", "--data-dir", str(place / "data"))
    assert done.returncode == 1
    assert "there is no database in" in done.stderr
    assert not (place / "data").exists()


@pytest.mark.slow
def test_the_shell_starts_a_stopped_database_and_stops_it_again(place: Path) -> None:
    data_dir = str(place / "data")
    assert run_command("db", "migrate", "--data-dir", data_dir).returncode == 0
    done = run_command(
        *("db", "shell", "--json", "--data-dir", data_dir),
        *("-c", "select count(*) as tenants from millstream.tenants"),
    )
    assert json.loads(done.stdout) == [{"tenants": "1"}]
    assert find_postmaster(place / "data" / "postgres") is None


def test_broken_sql_is_a_failure(server: ServerProcess) -> None:
    done = run_command("db", "shell", "-c", "selekt", "--data-dir", str(server.data_dir))
    assert done.returncode == 1
    assert "syntax error" in done.stderr


@pytest.mark.slow
def test_migrate_starts_an_embedded_database_for_its_duration(place: Path) -> None:
    done = run_command("db", "migrate", "--data-dir", str(place / "data"), "--json")
    assert done.returncode == 0, done.stderr
    migrated = json.loads(done.stdout)
    assert migrated["applied"]
    assert find_postmaster(place / "data" / "postgres") is None
    again = json.loads(run_command("db", "migrate", "--data-dir", str(place / "data"), "--json").stdout)
    assert again["applied"] == []


def test_the_schema_is_printed_for_a_dba_without_a_database() -> None:
    done = run_command("db", "migrate", "--sql")
    assert done.returncode == 0
    assert done.stdout.startswith("begin;")
    assert "create table millstream.jobs" in done.stdout
    assert done.stdout.rstrip().endswith("commit;")
