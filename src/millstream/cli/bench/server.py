"""The server under test: started on a fresh data directory, or somebody's that already runs."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter

import msgspec

from millstream.cli.bench.http_request import Endpoint, RequestBuilder
from millstream.cli.bench.http_response import Response, ResponseError, ResponseParser
from millstream.cli.bench.postgres import Postgres
from millstream.cli.embedded_database import find_dsn
from millstream.embedded import EmbeddedServer
from millstream.store.installation import EMBEDDED_LOGIN

_START_SECONDS_MAX = 60.0
_STOP_SECONDS_MAX = 30.0
_POLL_SECONDS = 0.01
_LOG_TAIL_BYTES = 4_000


class ServerFailed(Exception):
    """The server did not start, did not answer, or could not tell its database."""


class Credentials(msgspec.Struct, frozen=True):
    """What the bench needs of `<data-dir>/credentials.json`."""

    api_key: str
    url: str
    admin_key: str | None = None


class Server(msgspec.Struct, frozen=True):
    """A server that answers. What is None is not reachable from here and is not measured."""

    endpoint: Endpoint
    # Of a server of our own: who may make organizations.
    admin_key: str | None = None
    # As its administrator, for what is measured from outside.
    postgres: Postgres | None = None
    # As the server itself logs in, for the engine inside of another process.
    login_dsn: str | None = None
    pid: int | None = None
    postmaster_pid: int | None = None


class ServerProcess:
    """A `millstream serve` of our own in a temporary data directory."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path, started_at: float) -> None:
        self._process = process
        self._directory = directory
        self._started_at = started_at

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def data_dir(self) -> Path:
        return _data_dir(self._directory)

    async def answered_after(self) -> float:
        """Seconds from the start of the process to the first answer to an authenticated request."""
        endpoint = await self.endpoint()
        response = await ask(endpoint, RequestBuilder(endpoint).get("/api/v1/jobs?limit=1"))
        if response.status != 200:
            raise ServerFailed(f"the first authenticated request got status {response.status}")
        return perf_counter() - self._started_at

    async def endpoint(self) -> Endpoint:
        """Where it listens, once it is ready. Raises ServerFailed when it ends or takes more than a minute."""
        credentials = await self.credentials()
        endpoint = Endpoint.parse(credentials.url, credentials.api_key)
        await self._until_ready(endpoint)
        return endpoint

    def postgres(self) -> Postgres:
        """Its embedded database. Raises ServerFailed when that does not run."""
        dsn = find_dsn(self.data_dir)
        if dsn is None:
            raise ServerFailed("the server's embedded PostgreSQL does not run")
        return Postgres(dsn)

    async def credentials(self) -> Credentials:
        """The credentials it wrote on its first start, as soon as they are there."""
        path = self.data_dir / "credentials.json"
        while not path.exists():
            await self._still_starting()
        return msgspec.json.decode(path.read_bytes(), type=Credentials)

    async def _until_ready(self, endpoint: Endpoint) -> None:
        request = RequestBuilder(endpoint).get("/health/ready")
        while True:
            with contextlib.suppress(OSError, ResponseError):
                if (await ask(endpoint, request)).status == 200:
                    return
            await self._still_starting()

    async def _still_starting(self) -> None:
        if self._process.returncode is not None:
            raise ServerFailed(
                f"the server ended with status {self._process.returncode}:\n{self._log_tail()}"
            )
        if perf_counter() - self._started_at > _START_SECONDS_MAX:
            raise ServerFailed(
                f"the server was not ready after {_START_SECONDS_MAX:.0f} s:\n{self._log_tail()}"
            )
        await asyncio.sleep(_POLL_SECONDS)

    def _log_tail(self) -> str:
        return _log_file(self._directory).read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")


@contextlib.asynccontextmanager
async def start_process(*, processes: int | None = None) -> AsyncGenerator[ServerProcess]:
    """Start a server on a fresh data directory; stop it and remove the directory on leaving.

    It takes no settings from the environment or from files: a DATABASE_URL set for some other server must not
    become the database that the bench fills.
    """
    directory = _new_directory()
    command = [
        sys.executable,
        "-m",
        "millstream",
        "serve",
        "--isolated",
        "--data-dir",
        str(_data_dir(directory)),
    ]
    command += ["--port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    if processes is not None:
        command += ["--processes", str(processes)]
    try:
        with _log_file(directory).open("wb") as log:
            started_at = perf_counter()
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the command, which then stops the server in order.
                start_new_session=True,
            )
        try:
            yield ServerProcess(process, directory, started_at)
        finally:
            await _stop(process, _data_dir(directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def start_server(*, processes: int | None = None) -> AsyncGenerator[Server]:
    """A ready server of our own with its embedded PostgreSQL."""
    async with start_process(processes=processes) as running:
        endpoint = await running.endpoint()
        postgres = running.postgres()
        yield Server(
            endpoint=endpoint,
            admin_key=(await running.credentials()).admin_key,
            postgres=postgres,
            login_dsn=find_dsn(running.data_dir, user=EMBEDDED_LOGIN),
            pid=running.pid,
            postmaster_pid=await postgres.find_postmaster(),
        )


async def attach_server(url: str, api_key: str, database_url: str | None) -> Server:
    """A server that runs already. Raises ServerFailed when it does not answer or refuses the key."""
    endpoint = Endpoint.parse(url, api_key)
    try:
        response = await ask(endpoint, RequestBuilder(endpoint).get("/api/v1/jobs?limit=1"))
    except (OSError, ResponseError) as error:
        raise ServerFailed(f"{url} does not answer: {error}") from error
    if response.status != 200:
        raise ServerFailed(
            f"{url} answered {response.status}: {response.body[:300].decode(errors='replace')}"
        )
    if database_url is None:
        return Server(endpoint)
    postgres = Postgres(database_url)
    return Server(
        endpoint, postgres=postgres, login_dsn=database_url, postmaster_pid=await postgres.find_postmaster()
    )


async def ask(endpoint: Endpoint, request: bytes) -> Response:
    """Send one request on a connection of its own. Raises OSError or ResponseError."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(request)
        parser = ResponseParser()
        while data := await reader.read(64 * 1024):
            response = parser.feed(data)
            if response is not None:
                return response
        raise ResponseError("the connection ended before the response did")
    finally:
        writer.close()


async def _stop(process: asyncio.subprocess.Process, data_dir: Path) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_SECONDS_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        # Its PostgreSQL survives that; the next user of the data directory is the last one and stops it.
        await (await EmbeddedServer.open(data_dir)).close()


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="millstream-bench-"))
    if os.geteuid() == 0:
        # PostgreSQL does not run as root: the user it runs as must be able to pass through.
        directory.chmod(0o701)
    return directory


def _data_dir(directory: Path) -> Path:
    return directory / "data"


def _log_file(directory: Path) -> Path:
    return directory / "server.log"
