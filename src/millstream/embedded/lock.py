"""Who uses a data directory, and whose turn it is to start or stop its server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millstream.embedded.errors import DataDirectoryUnusable
from millstream.embedded.patience import Patience


@dataclass(frozen=True)
class StartRecord:
    """The server that millstream started last: its pid, its start (Unix seconds) and its socket directory."""

    pid: int
    started_at: int
    socket_directory: Path


class ServerLock:
    """`server.lock`: each user of the server holds it shared for as long as it uses the server.

    The kernel releases it when a user is killed. Starting and stopping happen in `section`, an exclusive
    lock on the data directory itself, so that a user neither comes nor goes in between. Descriptors are
    never inherited by programs that are started, so the server does not hold its own lock.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / "server.lock"
        self._descriptor: int | None = None

    @property
    def joined(self) -> bool:
        """Whether this handle counts as a user of the server."""
        return self._descriptor is not None

    @contextmanager
    def section(self, patience: Patience) -> Generator[None]:
        """Be the only one that starts or stops this server; waits for its turn. Raises GaveUp."""
        descriptor = os.open(self._data_dir, os.O_RDONLY)
        try:
            patience.until(lambda: _try_lock(descriptor, fcntl.LOCK_EX), seconds=None)
            yield
        finally:
            os.close(descriptor)

    def join(self) -> None:
        """Become a user of the server; only within `section`."""
        if self._descriptor is not None:
            return
        descriptor = self._open()
        # Exclusive holders exist only within the section, so this never waits.
        if not _try_lock(descriptor, fcntl.LOCK_SH):
            os.close(descriptor)
            raise DataDirectoryUnusable(
                f"{self._path} is locked by a program that is not millstream. See which and end it:\n"
                f"    fuser -v {self._path}"
            )
        self._descriptor = descriptor

    def leave(self) -> bool:
        """Stop being a user; only within `section`. True if nobody uses the server any more."""
        if self._descriptor is None:
            return False
        # Asking for more than the shared lock gives that one up, whether or not it is granted.
        is_last = _try_lock(self._descriptor, fcntl.LOCK_EX)
        os.close(self._descriptor)
        self._descriptor = None
        return is_last

    def read_record(self) -> StartRecord | None:
        """The server started last; None if there was none or the record was cut short by a crash."""
        try:
            lines = self._path.read_text().splitlines()
            return StartRecord(int(lines[0]), int(lines[1]), Path(lines[2]))
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def write_record(self, record: StartRecord) -> None:
        """Replace the record in place: a new file would be a new lock. Only within `section`."""
        descriptor = self._open()
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{record.pid}\n{record.started_at}\n{record.socket_directory}\n".encode())
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
