"""The commands that move a cluster from one major version of PostgreSQL to another."""

from __future__ import annotations

import shlex
from pathlib import Path

from millstream.embedded.account import Account
from millstream.embedded.binaries import Binaries, find_binaries_of_major

INITDB_OPTIONS = (
    "--username=postgres",
    "--encoding=UTF8",
    # The same order and the same answers on every system and version; nothing of ours sorts by language.
    "--locale=C",
    "--auth-local=trust",
    "--auth-host=reject",
)


def describe_upgrade(pgdata: Path, old_major: int, binaries: Binaries, account: Account) -> str:
    """What to do when `pgdata` was made by `old_major` and `binaries` are of another version.

    The indented lines are one shell script that can be run as it stands once the old binaries are there.
    """
    old = find_binaries_of_major(old_major)
    if old is None:
        install = (
            f"PostgreSQL {old_major} is not installed; install it first, for example: apt-get install "
            f"postgresql-{old_major} (the commands assume that it is in /usr/lib/postgresql/{old_major}/bin).\n"
        )
        old_directory = Path(f"/usr/lib/postgresql/{old_major}/bin")
    else:
        install = ""
        old_directory = old.directory
    return (
        f"{pgdata} was made by PostgreSQL {old_major}, and the binaries in use ({binaries.directory}) are "
        f"{binaries.version}. Either use binaries of version {old_major}, or dump with the old ones and restore into "
        f"the new with these commands.\n{install}\n{_script(pgdata, old_major, old_directory, binaries, account)}"
    )


def _script(pgdata: Path, old_major: int, old_directory: Path, binaries: Binaries, account: Account) -> str:
    lines = [
        "set -e",
        "cd /",
        f"OLD={shlex.quote(str(old_directory))}",
        f"NEW={shlex.quote(str(binaries.directory))}",
        f"DATA={shlex.quote(str(pgdata.parent))}",
        f'AS="{account.shell_prefix().strip()}"',
        "SOCKET=$($AS mktemp -d /tmp/millstream-upgrade-XXXXXX)",
        "OPTIONS=\"-c listen_addresses='' -c port=5432 -c unix_socket_directories=$SOCKET\"",
        f'mv "$DATA/postgres" "$DATA/postgres-{old_major}"',
        f'$AS "$OLD/pg_ctl" -D "$DATA/postgres-{old_major}" -o "$OPTIONS" -l "$SOCKET/log" -w start',
        '"$NEW/pg_dumpall" -h "$SOCKET" -U postgres > "$DATA/dump.sql"',
        f'$AS "$OLD/pg_ctl" -D "$DATA/postgres-{old_major}" -m fast -w stop',
        'mkdir -m 700 "$DATA/postgres"',
        *([f'chown {account.uid}:{account.gid} "$DATA/postgres"'] if account.drops_privileges else []),
        f'$AS "$NEW/initdb" -D "$DATA/postgres" {" ".join(INITDB_OPTIONS)}',
        '$AS "$NEW/pg_ctl" -D "$DATA/postgres" -o "$OPTIONS" -l "$SOCKET/log" -w start',
        # The superuser is in the dump and in the new cluster, so exactly this statement fails, and may.
        '"$NEW/psql" -X -q -h "$SOCKET" -U postgres -d postgres -f "$DATA/dump.sql"',
        '$AS "$NEW/pg_ctl" -D "$DATA/postgres" -m fast -w stop',
        'rm -r "$SOCKET"',
    ]
    return "\n".join(f"    {line}" for line in lines)
