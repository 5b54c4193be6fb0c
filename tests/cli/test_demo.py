"""`millstream demo`, end to end."""

import json
import tempfile
from pathlib import Path

import pytest

from tests.cli.server_process import run_command


@pytest.mark.slow
def test_every_file_of_the_demo_is_accounted_for() -> None:
    before = {path.name for path in Path(tempfile.gettempdir()).glob("millstream-*")}
    done = run_command("demo", "--limit", "120", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert (report["jobs"], report["correct"]) == (120, 120)
    assert (report["retries"], report["retries_expected"]) == (3, 3)
    assert report["problems"] == []
    assert report["latency_p99_ms"] >= report["latency_p50_ms"] > 0
    assert {path.name for path in Path(tempfile.gettempdir()).glob("millstream-*")} <= before


@pytest.mark.slow
def test_the_demo_shows_a_table_to_people() -> None:
    done = run_command("demo", "--limit", "60")
    assert done.returncode == 0, done.stderr + done.stdout
    for word in ("jobs", "retries", "rate", "latency", "All accounted for."):
        assert word in done.stdout
