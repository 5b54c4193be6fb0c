"""`millstream doctor`."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.server_process import ServerProcess, run_command

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow


def _examine(data_dir: Path, environment: Mapping[str, str] | None = None) -> tuple[int, dict[str, dict]]:
    done = run_command(
        "doctor", "--data-dir", str(data_dir), "--json", environment={**FREE_PORTS, **(environment or {})}
    )
    assert "Traceback" not in done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


FREE_PORTS = {name: _free_port() for name in ("PORT", "METRICS_PORT", "GRPC_PORT")}


def test_a_fresh_place_is_fine(place: Path) -> None:
    code, findings = _examine(place / "data")
    assert [finding for finding in findings.values() if finding["level"] == "fail"] == []
    assert code == 0
    assert {"python", "packages", "settings", "postgresql", "account", "data directory", "http port"} <= set(
        findings
    )
    assert not (place / "data").exists()


def test_a_running_server_is_examined_to_its_settings(server: ServerProcess) -> None:
    port, metrics_port = server.url.rpartition(":")[2], server.metrics_url.rpartition(":")[2]
    code, findings = _examine(server.data_dir, {"PORT": port, "METRICS_PORT": metrics_port})
    assert [finding for finding in findings.values() if finding["level"] != "ok"] == []
    assert code == 0
    assert findings["fsync"]["message"] == "on"
    assert findings["autovacuum_naptime"]["message"] == "5s"
    assert "own server" in findings["http port"]["message"]
    assert {"database version", "max_connections", "synchronous_commit", "schema", "clock"} <= set(findings)


def test_a_taken_port_fails(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, findings = _examine(place / "data", {"PORT": str(taken.getsockname()[1])})
    assert code == 1
    assert findings["http port"]["level"] == "fail"
    assert findings["http port"]["remedy"]


def test_a_file_in_the_place_of_the_directory_fails(place: Path) -> None:
    (place / "data").write_text("not a directory")
    code, findings = _examine(place / "data")
    assert code == 1
    assert findings["data directory"]["level"] == "fail"


def test_a_directory_of_another_major_version_fails_with_the_way_out(place: Path) -> None:
    cluster = place / "data" / "postgres"
    cluster.mkdir(parents=True)
    for directory in (cluster, cluster.parent):
        directory.chmod(0o755)
    (cluster / "PG_VERSION").write_text("13\n")
    code, findings = _examine(place / "data")
    assert code == 1
    assert findings["data directory"]["level"] == "fail"
    assert "13" in findings["data directory"]["message"]


def test_others_who_may_write_or_read_secrets_are_found(place: Path) -> None:
    data_dir = place / "data"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    (data_dir / "credentials.json").write_text("{}")
    (data_dir / "credentials.json").chmod(0o644)
    code, findings = _examine(data_dir)
    assert code == 1
    assert findings["data directory mode"]["level"] == "fail"
    assert findings["credentials"]["remedy"] == f"chmod 600 {data_dir / 'credentials.json'}"


def test_broken_settings_are_one_finding_among_others(place: Path) -> None:
    code, findings = _examine(place / "data", {"DATABASE_MAX_CONNECTIONS": "many"})
    assert code == 1
    assert "DATABASE_MAX_CONNECTIONS" in findings["settings"]["message"]
    assert findings["postgresql"]["level"] == "ok"


def test_an_external_database_that_is_away_fails_without_showing_its_address() -> None:
    done = run_command(
        "doctor",
        "--json",
        environment={**FREE_PORTS, "DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/d"},
    )
    assert done.returncode == 1
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert findings["database"]["level"] == "fail"
    assert "hidden-word" not in done.stdout + done.stderr


def test_the_report_for_people_says_what_to_do(place: Path) -> None:
    (place / "data").write_text("not a directory")
    done = run_command("doctor", "--data-dir", str(place / "data"), environment=FREE_PORTS)
    assert done.returncode == 1
    assert "fail data directory" in done.stdout
    assert "Choose another --data-dir" in done.stdout
