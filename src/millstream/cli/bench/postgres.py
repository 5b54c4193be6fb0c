"""PostgreSQL seen from outside the server: psql and pgbench, WAL position, the postmaster's pid.

The bench speaks to the database through PostgreSQL's own programs, never through the server's store: what is
measured and what measures stay apart.
"""

import asyncio
import re
import shutil
from importlib.resources import files
from pathlib import Path

from millstream.embedded import EmbeddedError, find_binaries


class PostgresToolFailed(Exception):
    """psql or pgbench is missing or ended with an error."""


class Postgres:
    """The database behind `dsn`, reached with the newest PostgreSQL programs found on this machine."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._programs = _find_programs()

    async def query(self, sql: str) -> str:
        """Run one statement through psql and return its rows, unaligned, without headings."""
        return await self._psql("-c", sql)

    async def run_file(self, name: str, **variables: str | int) -> str:
        """Run a script of `cli/bench/sql`; `variables` are psql's. Each statement is its own transaction."""
        settings = [part for key, value in variables.items() for part in ("-v", f"{key}={value}")]
        return await self._psql(*settings, "-f", str(sql_file(name)))

    async def wal_bytes(self) -> int:
        """Bytes of write-ahead log written since the cluster was made."""
        return int(await self.query("select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"))

    async def find_postmaster(self) -> int | None:
        """Pid of the postmaster when it runs on this machine, None when it does not or cannot be recognised."""
        directory = await self.query("select current_setting('data_directory', true)")
        return _find_postmaster(Path(directory))

    async def pgbench(self, script: Path, *, clients: int, threads: int, seconds: int) -> float:
        """Transactions per second of `script`, prepared, connection time not counted."""
        output = await self._run(
            "pgbench",
            *("--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={threads}"),
            *(f"--time={seconds}", f"--file={script}", self.dsn),
        )
        found = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
        if found is None:
            raise PostgresToolFailed(f"pgbench reported no rate: {output[-500:]}")
        return float(found[1])

    def open_session(self) -> "PostgresSession":
        """An interactive session that can hold a transaction open."""
        return PostgresSession(self._program("psql"), self.dsn)

    async def _psql(self, *arguments: str) -> str:
        return await self._run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *arguments, self.dsn)

    async def _run(self, program: str, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self._program(program),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise PostgresToolFailed(f"{program} failed: {errors.decode(errors='replace').strip()[-1000:]}")
        return output.decode().strip()

    def _program(self, name: str) -> str:
        return str(self._programs / name)


class PostgresSession:
    """One psql process kept open. Use as an async context manager."""

    def __init__(self, psql: str, dsn: str) -> None:
        self._command = (psql, "-XAtq", "-v", "ON_ERROR_STOP=1", dsn)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "PostgresSession":
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            # The end of its input ends psql, and with it the transaction.
            await self._process.communicate(b"")

    async def execute(self, sql: str) -> None:
        """Run `sql` and return when it is done. Raises PostgresToolFailed when the session ended."""
        complaints: list[str] = []
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        # Into a pipe psql writes its output when a buffer is full, but its warnings at once.
        self._process.stdin.write(f"{sql};\n\\warn executed\n".encode())
        while line := await self._process.stderr.readline():
            if line == b"executed\n":
                return
            complaints.append(line.decode(errors="replace").strip())
        raise PostgresToolFailed(f"the session ended during {sql!r}: {' '.join(complaints)}")


def _find_postmaster(data_directory: Path) -> int | None:
    try:
        pid = int((data_directory / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
        command = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return pid if command.startswith("postgres") else None


def sql_file(name: str) -> Path:
    """Path of a script in `cli/bench/sql`."""
    return Path(str(files("millstream.cli.bench") / "sql" / name))


def _find_programs() -> Path:
    """Directory of psql and pgbench: the embedded server's, else the one on the path."""
    try:
        candidates = [find_binaries().directory]
    except EmbeddedError:
        candidates = []
    on_path = shutil.which("pgbench")
    if on_path is not None:
        candidates.append(Path(on_path).parent)
    for directory in candidates:
        if (directory / "psql").exists() and (directory / "pgbench").exists():
            return directory
    raise PostgresToolFailed("psql and pgbench were not found: install millstream[server], or postgresql")
