"""A server of one's own for a while: `millstream serve` as a subprocess, in a directory that goes with it."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TextIO

import msgspec

from millstream.cli.failure import CommandFailed
from millstream.embedded import EmbeddedServer

_START_SECONDS_MAX = 60
_STOP_SECONDS_MAX = 30
_LOG_LINES_SHOWN = 15


class FirstKeys(msgspec.Struct, frozen=True):
    """The keys that a new server made."""

    api_key: str


class LocalServer(msgspec.Struct, frozen=True):
    """Where the server answers."""

    url: str
    first_keys: FirstKeys


@contextlib.asynccontextmanager
async def run_local_server() -> AsyncGenerator[LocalServer]:
    """Run a fresh server on free ports; leaves nothing behind. Raises CommandFailed."""
    with _fresh_directory() as directory, _log_in(directory) as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            # Without the working directory, where a file may be named like a module of the standard library.
            *("-P", "-m", "millstream", "serve", "--json", "--isolated"),
            *("--data-dir", str(directory / "data")),
            *("--port", "0", "--grpc-port", "0", "--metrics-port", "0"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            # Ctrl-C is for the command, which then stops the server in order.
            start_new_session=True,
        )
        try:
            yield await _first_answer(process, log)
        finally:
            await _stop(process, directory / "data")


@contextlib.contextmanager
def _fresh_directory() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="millstream-") as made:
        directory = Path(made)
        # PostgreSQL does not run as root: the account it runs as then has to reach its data through here.
        directory.chmod(0o711)
        yield directory


def _log_in(directory: Path) -> TextIO:
    return (directory / "server.log").open("w+", errors="replace")


async def _first_answer(process: asyncio.subprocess.Process, log: TextIO) -> LocalServer:
    assert process.stdout is not None
    line = b""
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            line = await process.stdout.readline()
        return msgspec.json.decode(line, type=LocalServer)
    except (TimeoutError, msgspec.DecodeError) as error:
        log.seek(0)
        tail = "\n  ".join(
            [*log.read().splitlines()[-_LOG_LINES_SHOWN:], line.decode(errors="replace").strip()]
        )
        raise CommandFailed("the server did not start", f"Its last words:\n  {tail}") from error


async def _stop(process: asyncio.subprocess.Process, data_dir: Path) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_SECONDS_MAX):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code < 0:
        # A server that was killed leaves its PostgreSQL; the next user of the directory, being the last, stops it.
        await (await EmbeddedServer.open(data_dir)).close()
