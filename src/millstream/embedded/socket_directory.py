"""The directory of the server's Unix socket: private, and with a path short enough for a socket."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from millstream.embedded.account import Account
from millstream.embedded.errors import StartFailed

PORT = 5432

_PREFIX = "millstream-"
# Not the data directory (its path may be longer than the 107 bytes that a socket's name can have) and not
# the session's run-time directory (it is deleted at log-out, which the server survives).
_PARENTS = (Path("/tmp"), Path("/var/tmp"))


def socket_path(directory: Path, port: int = PORT) -> Path:
    """The socket that PostgreSQL makes in a directory."""
    return directory / f".s.PGSQL.{port}"


def prepare_socket_directory(recorded: Path | None, account: Account) -> Path:
    """A directory of mode 0700 that `account` owns: the recorded one, made again if it vanished, or a new one.

    The same path is kept when possible, because connection pools know it.
    Raises StartFailed when no place can be written.
    """
    if recorded is not None and _is_ours_by_name(recorded):
        try:
            recorded.mkdir(mode=0o700)
            account.own(recorded)
        except OSError:
            # It is still there, which is usual, or its parent is not; the check below decides.
            pass
        if _is_private(recorded, account):
            _remove_sockets(recorded)
            return recorded
    for parent in _PARENTS:
        try:
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        except OSError:
            continue
        account.own(made)
        return made
    raise StartFailed(
        f"No directory for PostgreSQL's socket can be made in {' or '.join(map(str, _PARENTS))}. "
        "Make one of them writable, for example:\n    chmod 1777 /tmp"
    )


def discard_socket_directory(directory: Path, account: Account) -> None:
    """Remove the directory of a stopped server, if it is one of ours."""
    if _is_ours_by_name(directory) and _is_private(directory, account):
        _remove_sockets(directory)
        try:
            directory.rmdir()
        except OSError:
            # Somebody keeps a file there; an empty name in a temporary directory is not worth an error.
            return


def _is_ours_by_name(directory: Path) -> bool:
    return directory.parent in _PARENTS and directory.name.startswith(_PREFIX)


def _is_private(directory: Path, account: Account) -> bool:
    # The name is known to others and the parent is writable by all, so whoever came first may own it.
    try:
        status = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == account.uid
        and stat.S_IMODE(status.st_mode) == 0o700
    )


def _remove_sockets(directory: Path) -> None:
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        try:
            os.unlink(directory / name)
        except FileNotFoundError:
            continue
