"""Directories of shared metrics: whose they are, and what becomes of those whose server was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millstream.cli.metrics_directory import metrics_directory, remove_stale_metrics
from tests.cli.deadline import wait_until
from tests.cli.server_process import ServerProcess, is_alive

# A server, as far as its directory goes: makes it, says where, and stays.
_OWNER = """
import sys
from millstream.cli.metrics_directory import metrics_directory
with metrics_directory() as directory:
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of the test's own, so that it meets no other server's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def owner(temporary_directory: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert directory.parent == temporary_directory
        yield process, directory
        process.kill()


@pytest.mark.usefixtures("temporary_directory")
def test_a_directory_is_removed_with_its_use() -> None:
    with metrics_directory() as directory:
        assert (directory / "owner.pid").read_text() == f"{os.getpid()}\n"
        assert remove_stale_metrics() == 0
        assert directory.is_dir()
    assert not directory.exists()


def test_what_a_killed_owner_left_is_removed_and_what_a_living_one_uses_is_not(
    owner: tuple["subprocess.Popen[str]", Path],
) -> None:
    process, directory = owner
    (directory / "counter_1.db").write_bytes(b"1")
    assert remove_stale_metrics() == 0
    assert (directory / "counter_1.db").exists()
    process.kill()
    process.wait(10)
    assert directory.is_dir()
    assert remove_stale_metrics() == 1
    assert not directory.exists()


def test_what_has_no_owner_or_is_a_link_is_left_alone(temporary_directory: Path) -> None:
    elsewhere = temporary_directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner.pid").write_text("1\n")
    (temporary_directory / "millstream-metrics-link").symlink_to(elsewhere)
    being_made = temporary_directory / "millstream-metrics-new"
    being_made.mkdir()
    assert remove_stale_metrics() == 0
    assert being_made.is_dir()
    assert elsewhere.is_dir()


@pytest.mark.slow
def test_the_next_server_clears_up_after_a_killed_one(
    start: Callable[..., ServerProcess], place: Path
) -> None:
    def directories() -> set[Path]:
        # Servers of these tests have their temporary files here.
        return set(place.glob("**/millstream-metrics-*"))

    killed = start("--processes", "2")
    [left] = directories()
    children = killed.children()
    killed.signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in children))
    assert directories() == {left}
    start("--processes", "2")
    [used] = directories()
    assert used != left
