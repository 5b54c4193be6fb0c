"""Runs psql on a database."""

import asyncio
import csv
import io
import shutil
import signal
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from millstream.cli.failure import CommandFailed
from millstream.embedded import EmbeddedError, find_binaries


def find_psql(bin_dir: Path | None) -> Path:
    """Return the psql that came with PostgreSQL's programs, else the one on the path. Raises CommandFailed."""
    try:
        beside_server = find_binaries(bin_dir).path("psql")
        if beside_server.exists():
            return beside_server
    except EmbeddedError:
        # There is no server to run, but there may well be a client.
        pass
    found = shutil.which("psql")
    if found is None:
        raise CommandFailed("psql was not found", "Install it: apt-get install postgresql-client")
    return Path(found)


async def run_psql(psql: Path, dsn: str, command: str | None) -> int:
    """Run psql on this terminal; with `command` only that. Returns its exit code."""
    # Ctrl-C cancels the statement inside psql; this program must outlive it to stop the server in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _without_password(dsn) as address:
        process = await asyncio.create_subprocess_exec(psql, *_arguments(address, command))
        return await process.wait()


async def query(psql: Path, dsn: str, command: str) -> list[dict[str, str]]:
    """Return the rows of `command` by column name, all values as text. Raises CommandFailed."""
    with _without_password(dsn) as address:
        process = await asyncio.create_subprocess_exec(
            psql, "--csv", "--quiet", *_arguments(address, command), stdout=PIPE, stderr=PIPE
        )
        output, complaint = await process.communicate()
    if process.returncode != 0:
        raise CommandFailed(complaint.decode(errors="replace").strip())
    return list(csv.DictReader(io.StringIO(output.decode())))


def _arguments(address: str, command: str | None) -> list[str]:
    only = [] if command is None else ["--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--command={command}"]
    return [*only, address]


@contextmanager
def _without_password(dsn: str) -> Generator[str]:
    """Move the password from the address, which every user of the machine could see, into a private file."""
    parts = urlsplit(dsn)
    if parts.password is None:
        yield dsn
        return
    login, _, host = parts.netloc.rpartition("@")
    with tempfile.NamedTemporaryFile("w", prefix="millstream-", suffix=".pgpass") as file:
        password = unquote(parts.password).replace("\\", "\\\\").replace(":", "\\:")
        file.write(f"*:*:*:*:{password}\n")
        file.flush()
        options = "&".join(filter(None, [parts.query, f"passfile={file.name}"]))
        yield urlunsplit(parts._replace(netloc=f"{login.partition(':')[0]}@{host}", query=options))
