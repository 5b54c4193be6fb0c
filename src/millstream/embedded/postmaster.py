"""The running server, as its pid file and its socket show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from millstream.embedded.account import Account
from millstream.embedded.binaries import Binaries
from millstream.embedded.errors import DataDirectoryUnusable
from millstream.embedded.process import is_server_process
from millstream.embedded.socket_directory import socket_path

_ANSWER_SECONDS_MAX = 3


class Status(Enum):
    """What the server says of itself in its pid file."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STANDBY = "standby"


class Answer(Enum):
    """How the server answers a connection; the values are the exit codes of pg_isready."""

    ACCEPTING = 0
    REJECTING = 1
    SILENT = 2
    NOT_TRIED = 3


@dataclass(frozen=True)
class Postmaster:
    """The main process of a cluster that is alive. `socket_directory` is None when it has no Unix socket (yet)."""

    pid: int
    started_at: int
    port: int
    socket_directory: Path | None
    status: Status

    def has_socket(self) -> bool:
        """Whether its socket is still there; cleaners of temporary directories take it away."""
        return self.socket_directory is not None and socket_path(self.socket_directory, self.port).is_socket()

    def ask(self, binaries: Binaries, account: Account) -> Answer:
        """Try a connection. Takes some milliseconds, or three seconds when nothing answers."""
        if self.socket_directory is None:
            return Answer.NOT_TRIED
        done = account.run(
            [
                binaries.path("pg_isready"),
                "--quiet",
                f"--host={self.socket_directory}",
                f"--port={self.port}",
                f"--timeout={_ANSWER_SECONDS_MAX}",
                # Names that exist, or the server would log a refused connection each time.
                "--username=postgres",
                "--dbname=postgres",
            ]
        )
        return Answer(done.returncode)


def find_postmaster(pgdata: Path) -> Postmaster | None:
    """The live main process of the cluster; None when there is no pid file or it is stale.

    Stale is a pid file whose process has ended or is not a PostgreSQL server on this cluster.
    Raises DataDirectoryUnusable when a single-user server has the cluster.
    """
    try:
        lines = [line.strip() for line in (pgdata / "postmaster.pid").read_text().splitlines()]
        pid = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    if not is_server_process(abs(pid), pgdata):
        return None
    if pid < 0:
        raise DataDirectoryUnusable(
            f"A single-user PostgreSQL, pid {-pid}, works on {pgdata}. End it (Ctrl-D in its terminal) and start again."
        )
    # The server writes the lines one after the other while it starts.
    filled = lines + [""] * (8 - len(lines))
    return Postmaster(
        pid=pid,
        started_at=int(filled[2] or 0),
        port=int(filled[3] or 0),
        socket_directory=Path(filled[4]) if filled[4] else None,
        status=_read_status(filled[7]),
    )


def _read_status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        # Not written yet, or only in part.
        return Status.STARTING
