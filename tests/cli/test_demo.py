"""`millstream demo`, end to end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from millstream.cli.demo.files import FileFacts, facts_of
from millstream.cli.demo.jobs import JobsReport
from millstream.cli.demo.ledger import Killed, Ledger
from millstream.cli.demo.said import Acknowledged, Handled, Place, Taken
from millstream.cli.demo.topic import TopicReport
from tests.cli.server_process import is_alive, run_command

GOOD_JOBS = JobsReport(
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
GOOD_TOPIC = TopicReport(
    messages=100,
    correct=100,
    members=3,
    members_killed=1,
    publish_rate_per_second=100.0,
    handed_out_again=5,
    lag=0,
    seconds=1.0,
    problems=[],
)
MEMBER_MODULE = b"millstream.cli.demo.member"


@pytest.mark.slow
def test_every_file_of_the_demo_is_accounted_for_and_nothing_is_left_behind(place: Path) -> None:
    done = run_command("demo", "--limit", "120", "--json", environment={"TMPDIR": str(place)})
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert (report["jobs"], report["correct"]) == (120, 120)
    assert (report["retries"], report["retries_expected"]) == (3, 3)
    assert report["problems"] == []
    assert report["latency_p99_ms"] >= report["latency_p50_ms"] > 0
    topic = report["topic"]
    assert (topic["messages"], topic["correct"]) == (120, 120)
    assert (topic["members"], topic["members_killed"]) == (3, 1)
    assert (topic["lag"], topic["problems"]) == (0, [])
    assert 0 <= topic["handed_out_again"] <= 60
    assert topic["publish_rate_per_second"] > 0
    assert topic["seconds"] > 0
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_the_demo_is_not_led_astray_by_the_settings_of_another_server() -> None:
    done = run_command(
        *("demo", "--limit", "60"), environment={"DATABASE_URL": "postgresql://127.0.0.1:1/x", "PORT": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    for word in ("jobs", "retries", "rate", "latency", "messages", "members", "All accounted for."):
        assert word in done.stdout


@pytest.mark.slow
def test_a_member_that_dies_by_itself_fails_the_demo_and_nothing_is_left_behind(place: Path) -> None:
    with _demo_with_members(place) as (demo, members):
        os.kill(members[0], signal.SIGKILL)
        output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 1, errors
    assert json.loads(output)["error"] == "member-1 of the group ended by itself, with SIGKILL"
    assert [pid for pid in members if is_alive(pid)] == []
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_demo_leaves_no_member_behind(place: Path) -> None:
    with _demo_with_members(place) as (demo, members):
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130, errors
    assert [pid for pid in members if is_alive(pid)] == []
    assert list(place.iterdir()) == []


def test_the_work_is_a_digest_and_two_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one two\nthree\n")
    assert facts_of(path) == FileFacts(
        sha256="6481b98de00b3b8c0eccd56b3877aa72d7cbb9c2b97142fa35f7177f9456926d", lines=2, words=3
    )


@pytest.mark.parametrize(
    "wrong", [{"correct": 99}, {"retries": 1}, {"retries": 3}, {"problems": ["a file: the result is wrong"]}]
)
def test_one_job_that_is_not_accounted_for_spoils_the_whole(wrong: dict[str, object]) -> None:
    assert GOOD_JOBS.is_accounted_for
    assert not msgspec.structs.replace(GOOD_JOBS, **wrong).is_accounted_for


@pytest.mark.parametrize("wrong", [{"correct": 99}, {"lag": 1}, {"problems": ["a file: no result"]}])
def test_one_message_that_is_not_accounted_for_spoils_the_whole(wrong: dict[str, object]) -> None:
    assert GOOD_TOPIC.is_accounted_for
    assert not msgspec.structs.replace(GOOD_TOPIC, **wrong).is_accounted_for


FILE = Path("a-file")
FACTS = FileFacts(sha256="0a", lines=1, words=2)
# The killed member had partition 0.
HELD, FOREIGN = Place(0, 7), Place(1, 7)


def _handled(place: Place, *, delivery_count: int = 1, facts: FileFacts = FACTS) -> Handled:
    return Handled(place, delivery_count, facts)


LEDGERS: dict[str, tuple[list[tuple[str, Taken | Handled | Acknowledged]], str | None]] = {
    "handled once": ([("other", _handled(HELD))], None),
    "handed out again before the killed one had a result": (
        [("other", _handled(HELD, delivery_count=2))],
        None,
    ),
    "handed out again after the killed one had a result": (
        [("killed", _handled(HELD)), ("other", _handled(HELD, delivery_count=2))],
        None,
    ),
    "acknowledged by the killed one": ([("killed", _handled(HELD)), ("killed", Acknowledged([HELD]))], None),
    "taken, and no more": ([("other", Taken(1))], "no result"),
    "a wrong result": ([("other", _handled(HELD, facts=FileFacts("0b", 1, 2)))], "the result is"),
    "a wrong result of the killed one": (
        [
            ("killed", _handled(HELD, facts=FileFacts("0b", 1, 2))),
            ("other", _handled(HELD, delivery_count=2)),
        ],
        "the result is",
    ),
    "again after the killed one had acknowledged": (
        [("killed", _handled(HELD)), ("killed", Acknowledged([HELD])), ("other", _handled(HELD))],
        "not the killed member's",
    ),
    "again, of a partition of one that lives": (
        [("other", _handled(FOREIGN, delivery_count=2))],
        "not the killed member's",
    ),
    "twice by one member": ([("other", _handled(HELD)), ("other", _handled(HELD))], "one member twice"),
    "by two that live": ([("other", _handled(HELD)), ("third", _handled(HELD))], "two members that live"),
}


@pytest.mark.parametrize(("said", "problem"), LEDGERS.values(), ids=LEDGERS.keys())
def test_a_message_counts_only_with_one_right_result_or_one_more_for_what_the_killed_member_held(
    said: list[tuple[str, Taken | Handled | Acknowledged]], problem: str | None
) -> None:
    ledger = Ledger()
    for client_id, one in said:
        ledger.enter(client_id, one)
    place = FOREIGN if any(isinstance(one, Handled) and one.place == FOREIGN for _, one in said) else HELD
    problems = list(ledger.problems({place: FILE}, {FILE: FACTS}, Killed("killed", [0])))
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problems[0].startswith("a-file: ")
        assert problem in problems[0]


def test_a_result_for_what_was_never_published_is_a_problem() -> None:
    ledger = Ledger()
    ledger.enter("other", _handled(HELD))
    assert list(ledger.problems({}, {}, Killed("killed", [0]))) == ["partition 0, offset 7: never published"]


def test_what_is_handed_out_again_is_counted_once_a_message() -> None:
    ledger = Ledger()
    ledger.enter("killed", _handled(HELD))
    ledger.enter("other", _handled(HELD, delivery_count=2))
    ledger.enter("other", _handled(FOREIGN))
    assert (ledger.handled, ledger.handed_out_again) == (2, 1)


@contextmanager
def _demo_with_members(place: Path) -> Generator[tuple[subprocess.Popen[str], list[int]]]:
    demo = subprocess.Popen(
        [sys.executable, "-m", "millstream", "demo", "--limit", "500", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    try:
        yield demo, _wait_for_members(demo)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.communicate()


def _wait_for_members(demo: subprocess.Popen[str]) -> list[int]:
    """Return their pids in the order of their start."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert demo.poll() is None, demo.communicate()
        members = [pid for pid in _children(demo.pid) if _is_member(pid)]
        if len(members) == 3:
            return members
        time.sleep(0.01)
    raise AssertionError("the demo started no members")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_member(pid: int) -> bool:
    try:
        return MEMBER_MODULE in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
