"""`millstream demo`, end to end."""

import json
from pathlib import Path

import msgspec
import pytest

from millstream.cli.demo import FileFacts, Report, work
from tests.cli.server_process import run_command

GOOD = Report(
    jobs=100,
    correct=100,
    retries=2,
    retries_expected=2,
    seconds=1.0,
    rate_per_second=100.0,
    latency_p50_ms=1.0,
    latency_p99_ms=2.0,
    problems=[],
)


@pytest.mark.slow
def test_every_file_of_the_demo_is_accounted_for_and_nothing_is_left_behind(place: Path) -> None:
    done = run_command("demo", "--limit", "120", "--json", environment={"TMPDIR": str(place)})
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert (report["jobs"], report["correct"]) == (120, 120)
    assert (report["retries"], report["retries_expected"]) == (3, 3)
    assert report["problems"] == []
    assert report["latency_p99_ms"] >= report["latency_p50_ms"] > 0
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_the_demo_is_not_led_astray_by_the_settings_of_another_server() -> None:
    done = run_command(
        *("demo", "--limit", "60"), environment={"DATABASE_URL": "postgresql://127.0.0.1:1/x", "PORT": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    for word in ("jobs", "retries", "rate", "latency", "All accounted for."):
        assert word in done.stdout


def test_the_work_is_a_digest_and_two_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one two\nthree\n")
    assert work(path) == FileFacts(
        sha256="6481b98de00b3b8c0eccd56b3877aa72d7cbb9c2b97142fa35f7177f9456926d", lines=2, words=3
    )


@pytest.mark.parametrize(
    "wrong", [{"correct": 99}, {"retries": 1}, {"retries": 3}, {"problems": ["a file: the result is wrong"]}]
)
def test_one_job_that_is_not_accounted_for_spoils_the_whole(wrong: dict[str, object]) -> None:
    assert GOOD.is_accounted_for
    assert not msgspec.structs.replace(GOOD, **wrong).is_accounted_for
