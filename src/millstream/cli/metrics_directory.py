"""The directory in which the processes of one server count together, and those that killed servers left behind."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "millstream-metrics-"
_OWNER = "owner.pid"


@contextmanager
def metrics_directory() -> Generator[Path]:
    """Make an empty directory that is this process's for as long as it is used, and removed afterwards.

    The kernel lets go of the lock on its pid file when the process is killed, so that the next server of the
    same user knows whom to clear up after. Not by the pid: it may be another's by then, or one of another container.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory, _owned(Path(directory)):
        yield Path(directory)


def remove_stale_metrics() -> int:
    """Remove directories of this user whose servers are gone; returns how many. One that is in use stays."""
    removed = 0
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_stale(directory):
            shutil.rmtree(directory, ignore_errors=True)
            removed += 1
    return removed


@contextmanager
def _owned(directory: Path) -> Generator[None]:
    # Locked before it gets its name: whoever finds it under that name finds it locked.
    unnamed = directory / "owner.new"
    with unnamed.open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        owner.write(f"{os.getpid()}\n")
        owner.flush()
        unnamed.rename(directory / _OWNER)
        yield


def _is_stale(directory: Path) -> bool:
    try:
        if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
            return False
        with (directory / _OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # In use, just being made, or gone already.
        return False
    return True
