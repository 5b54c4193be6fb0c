"""Recognising and signalling the processes of one cluster by pid, never by name alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Whether the process exists and has not ended; one that waits to be reaped has ended."""
    if _has_proc():
        try:
            status = (_PROC / str(pid) / "stat").read_text()
        except OSError:
            return False
        # The second field, the name, may hold anything, so the state is found from its closing bracket.
        return status.rpartition(")")[2].split()[0] not in {"Z", "X"}
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_server_process(pid: int, pgdata: Path) -> bool:
    """Whether the process runs the program `postgres` on the cluster in `pgdata`.

    Every process of a cluster has the cluster as its working directory, wherever it was started from.
    """
    if not _has_proc():
        return _command_line_names(pid, pgdata)
    try:
        program = os.readlink(_PROC / str(pid) / "exe")
        working = (_PROC / str(pid) / "cwd").stat()
        cluster = pgdata.stat()
    except OSError:
        # Gone, waiting to be reaped, or another user's and so none of ours.
        return False
    # An upgrade of the package leaves the running server with a deleted program.
    return Path(program.removesuffix(" (deleted)")).name == "postgres" and os.path.samestat(working, cluster)


def list_server_processes(pgdata: Path) -> list[int]:
    """Pids of all processes that run on the cluster; without /proc none are found."""
    if not _has_proc():
        return []
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if is_server_process(pid, pgdata)]


def signal_server_process(pid: int, pgdata: Path, number: signal.Signals) -> bool:
    """Send the signal if the process is still one of the cluster's; False if it is not."""
    with _held(pid) as descriptor:
        if not is_server_process(pid, pgdata):
            return False
        try:
            if descriptor is not None and sys.platform == "linux":
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return False
    return True


@contextmanager
def _held(pid: int) -> Generator[int | None]:
    """A descriptor that stays bound to the process, so that a reused pid never gets its signal."""
    descriptor: int | None = None
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            # An old kernel or a gone process; the check that follows tells which.
            descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _has_proc() -> bool:
    return (_PROC / "self" / "exe").exists()


def _command_line_names(pid: int, pgdata: Path) -> bool:
    printed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    program, _, arguments = printed.partition(" -D ")
    return Path(program).name == "postgres" and arguments.startswith(str(pgdata))
