"""The operating-system account that PostgreSQL runs as."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from millstream.embedded.errors import AccountUnusable, DataDirectoryUnusable

# `postgres` first: other daemons run as `nobody` too and could open its socket.
_PREFERRED_NAMES = ("postgres", "nobody", "daemon")
# Nothing of the caller's: PGOPTIONS, PGDATA and the like would change what the programs do, and texts in the
# log are compared with English ones.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_LIST_UNREACHABLE = 'for directory; do [ -x "$directory" ] || { printf %s "$directory"; exit; }; done'


@dataclass(frozen=True)
class Account:
    """Who runs PostgreSQL: the caller or, when the caller is root, an existing unprivileged account."""

    uid: int
    gid: int
    name: str
    drops_privileges: bool

    def run(
        self,
        command: Sequence[str | Path],
        *,
        stdin_text: str = "",
        stderr_descriptor: int = subprocess.PIPE,
        new_session: bool = False,
        seconds_max: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this account in `/` with a clean environment; its exit code is the caller's to judge.

        Raises subprocess.TimeoutExpired after `seconds_max`.
        """
        return subprocess.run(
            [str(part) for part in command],
            input=stdin_text,
            stdout=subprocess.PIPE,
            stderr=stderr_descriptor,
            text=True,
            timeout=seconds_max,
            check=False,
            # The caller's directory may be one that the account cannot enter.
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=new_session,
            user=self.uid if self.drops_privileges else None,
            group=self.gid if self.drops_privileges else None,
            extra_groups=[] if self.drops_privileges else None,
        )

    def own(self, path: Path) -> None:
        """Make this account the owner of one file or directory that the caller has just created."""
        if self.drops_privileges:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_tree(self, root: Path) -> None:
        """Make this account the owner of everything below and including `root`, the root last."""
        for directory, names, files in os.walk(root, topdown=False):
            for name in (*names, *files):
                self.own(Path(directory, name))
        self.own(root)

    def find_unreachable(self, path: Path) -> Path | None:
        """The topmost directory on the way to and including `path` that this account may not enter, if any.

        Asked of the kernel as that account, so that access lists count too.
        """
        if not self.drops_privileges:
            return None
        directories = [*reversed(path.parents), path]
        blocked = self.run(["/bin/sh", "-c", _LIST_UNREACHABLE, "sh", *directories]).stdout
        return Path(blocked) if blocked else None

    def shell_prefix(self) -> str:
        """What to put before a shell command, in instructions to people, so that this account runs it."""
        return f"runuser -u {shlex.quote(self.name)} -- " if self.drops_privileges else ""


def choose_account(pgdata: Path) -> Account:
    """The account for the cluster in `pgdata`, which may not exist yet.

    Not root: the caller. Root: whoever owns the cluster already, else `postgres`, `nobody` or `daemon`.
    Raises AccountUnusable when root finds none of these or the caller has no passwd entry, and
    DataDirectoryUnusable when the cluster belongs to someone else.
    """
    owner = pgdata.stat() if pgdata.exists() else None
    if os.geteuid() != 0:
        return _caller(pgdata, None if owner is None else owner.st_uid)
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, _name_of(owner.st_uid), drops_privileges=True)
    for name in _PREFERRED_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid, name, drops_privileges=True)
    raise AccountUnusable(
        "PostgreSQL does not run as root, and this machine has no account to run it as "
        f"(looked for {', '.join(_PREFERRED_NAMES)}). Create one and start again:\n"
        "    useradd --system --no-create-home --shell /usr/sbin/nologin postgres"
    )


def _caller(pgdata: Path, owner_uid: int | None) -> Account:
    uid = os.geteuid()
    if owner_uid is not None and owner_uid != uid:
        owner = _name_of(owner_uid)
        raise DataDirectoryUnusable(
            f"{pgdata} belongs to {owner} and you are {_name_of(uid)}. Run millstream as {owner}, choose another "
            f"data directory, or, with its server stopped, take it over:\n"
            f"    sudo chown -R {uid}:{os.getegid()} {shlex.quote(str(pgdata.parent))}"
        )
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise AccountUnusable(
            f"PostgreSQL needs a passwd entry for the user it runs as, and uid {uid} has none. "
            "Add one while the image is built:\n"
            f"    echo 'millstream:x:{uid}:{os.getegid()}::/:/usr/sbin/nologin' >> /etc/passwd\n"
            "or run as a user that has one, or set DATABASE_URL to a server that already runs."
        ) from None
    return Account(uid, os.getegid(), name, drops_privileges=False)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
