"""The cluster on disk: making it, and refusing one that this server must not touch."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from millstream.embedded.account import Account
from millstream.embedded.binaries import Binaries
from millstream.embedded.configuration import write_configuration
from millstream.embedded.errors import DataDirectoryUnusable, MajorVersionMismatch
from millstream.embedded.upgrade import INITDB_OPTIONS, describe_upgrade


@dataclass(frozen=True)
class Cluster:
    """`<data-dir>/postgres`, with the binaries and the account that serve it."""

    pgdata: Path
    binaries: Binaries
    account: Account

    def check(self) -> None:
        """Refuse what cannot be served, before anything is changed.

        Raises MajorVersionMismatch for another version's cluster and DataDirectoryUnusable for a directory
        that the account cannot reach or that is no cluster.
        """
        self._check_reachable()
        if not self.pgdata.exists():
            return
        try:
            made_by = (self.pgdata / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            if any(self.pgdata.iterdir()):
                quoted = shlex.quote(str(self.pgdata))
                raise DataDirectoryUnusable(
                    f"{self.pgdata} is not empty and holds no PostgreSQL cluster. Move it away and start again:\n"
                    f"    mv {quoted} {quoted}.old"
                ) from None
            return
        if made_by != str(self.binaries.major):
            raise MajorVersionMismatch(
                describe_upgrade(self.pgdata, int(made_by), self.binaries, self.account)
            )

    def prepare(self) -> None:
        """Make the cluster if it is not there yet and write its configuration; nothing may run on it."""
        if not (self.pgdata / "PG_VERSION").exists():
            self._create()
        elif self.account.drops_privileges and self.pgdata.stat().st_uid != self.account.uid:
            self.account.own_tree(self.pgdata)
        write_configuration(self.pgdata, self.binaries, self.account)

    def _create(self) -> None:
        # Made beside its place and renamed when it is complete and on disk, so that a crash in between
        # leaves nothing that looks like a cluster.
        unfinished = self.pgdata.with_name("postgres.unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self.account.own(unfinished)
        done = self.account.run([self.binaries.path("initdb"), "-D", unfinished, *INITDB_OPTIONS])
        if done.returncode != 0:
            shutil.rmtree(unfinished)
            raise DataDirectoryUnusable(
                f"initdb could not make a cluster in {self.pgdata.parent}: {done.stderr.strip()}\n"
                f"Free space there, or make it usable by {self.account.name}, and start again."
            )
        unfinished.rename(self.pgdata)
        _sync_directory(self.pgdata.parent)

    def _check_reachable(self) -> None:
        data_dir = self.pgdata.parent
        blocked = self.account.find_unreachable(data_dir)
        if blocked == data_dir:
            # The data directory itself is the server's own, as `mktemp -d` made it: let the account through it,
            # which does not let anyone see what is in it.
            data_dir.chmod(data_dir.stat().st_mode | 0o011)
            blocked = self.account.find_unreachable(data_dir)
        if blocked is None:
            return
        raise DataDirectoryUnusable(
            f"PostgreSQL does not run as root, so it runs as {self.account.name}, which cannot enter {blocked}. "
            f"Choose a data directory that it can reach, such as /var/lib/millstream (an existing one can be moved "
            "there while no server runs), or let it through:\n"
            f"    setfacl -m u:{self.account.name}:x {shlex.quote(str(blocked))}\n"
            "or, which lets every user through:\n"
            f"    chmod o+x {shlex.quote(str(blocked))}"
        )


def make_data_dir(data_dir: Path) -> Path:
    """The absolute path of the data directory, made with its missing parents. Raises DataDirectoryUnusable."""
    absolute = data_dir.expanduser().resolve()
    missing = [path for path in (absolute, *absolute.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            # Under root the server's account must get through the directories made here, not see into them.
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise DataDirectoryUnusable(
            f"The data directory {absolute} cannot be made: {error}. Choose one that you can write to, for example "
            "~/.local/share/millstream, or have this one made for you:\n"
            f"    sudo install -d -o {os.geteuid()} -g {os.getegid()} -m 700 {shlex.quote(str(absolute))}"
        ) from error
    if not absolute.is_dir() or not os.access(absolute, os.R_OK | os.W_OK | os.X_OK):
        raise DataDirectoryUnusable(
            f"{absolute} is not a directory that you can read and write. Choose another data directory, or take it "
            f"over while no server uses it:\n    sudo chown -R {os.geteuid()}:{os.getegid()} "
            f"{shlex.quote(str(absolute))}"
        )
    return absolute


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
