"""Two engines on one database that know of each other."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
from msgspec import Struct

from millstream.domain.job import ClaimRequest
from millstream.engine.engine import Engine
from millstream.engine.hints import Hint, parse_message
from millstream.store.relay import CHANNEL, Line, OpenLine, Receive
from tests.engine.work import Work

_RELAY_SESSIONS = """select pid from pg_stat_activity
where datname = current_database() and application_name = 'millstream relay'"""


class HintLine(Struct, frozen=True):
    """A kind of line: how it is opened, and how all open ones are cut from the other side."""

    open: OpenLine
    cut: Callable[[], Awaitable[int]]


class Fellows(Struct, frozen=True):
    """Two processes' engines, and one tenant that works with both."""

    here: Work
    there: Work

    @property
    def engines(self) -> tuple[Engine, Engine]:
        return self.here.engine, self.there.engine


async def until(is_so: Callable[[], bool]) -> None:
    """Return once `is_so`; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)


async def join(*engines: Engine) -> None:
    """Have `engines` find each other and hold their lines."""
    for engine in (*engines, *engines):
        await engine.relay.beat()
    await until(lambda: all(engine.relay.is_connected for engine in engines))


def claim_and_wait(work: Work, queue: str = "q", worker: str = "w") -> "asyncio.Task[list[UUID]]":
    async def claim() -> list[UUID]:
        request = ClaimRequest(queue=queue, worker_id=worker)
        claimed = await work.engine.jobs.claim(work.principal, request, wait_seconds=20)
        return [job.id for job in claimed]

    return asyncio.create_task(claim())


async def is_waited_for(work: Work, queue: str = "q") -> None:
    """Return once the work's engine knows that another process waits for the queue."""
    await until(lambda: (work.principal.tenant_id, queue) in work.engine.relay._waited_for)


async def relay_sessions(dsn: str) -> list[int]:
    """Return the server processes behind the lines of this database."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row["pid"] for row in await connection.fetch(_RELAY_SESSIONS)]
    finally:
        await connection.close()


async def cut_lines(dsn: str) -> int:
    """End every line's session from the server's side; returns how many there were."""
    connection = await asyncpg.connect(dsn)
    try:
        return len(await connection.fetch(_RELAY_SESSIONS.replace("pid", "pg_terminate_backend(pid)", 1)))
    finally:
        await connection.close()


class Overheard:
    """Everything that is said on the channel of a database."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []

    async def listen(self, connection: asyncpg.Connection) -> None:
        await connection.add_listener(CHANNEL, self._take)

    def _take(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        message = parse_message(str(payload))
        assert message is not None
        self.hints += message.hints


class GatedLine:
    """A line that sends only while its gate is open, and hears nothing until it has been opened `deaf` times."""

    def __init__(self, open_line: OpenLine, *, deaf: int = 0) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.opened = 0
        self._deaf = deaf
        self._open_line = open_line

    @asynccontextmanager
    async def open(self, receive: Receive, lost: Callable[[], None]) -> AsyncGenerator[Line]:
        self.opened += 1
        is_deaf = self.opened <= self._deaf
        async with self._open_line(_hear_nothing if is_deaf else receive, lost) as line:
            yield _Gated(line, self.gate)


class _Gated:
    def __init__(self, line: Line, gate: asyncio.Event) -> None:
        self.message_bytes_max = line.message_bytes_max
        self._line = line
        self._gate = gate

    async def send(self, messages: Sequence[str]) -> None:
        await self._gate.wait()
        await self._line.send(messages)


def _hear_nothing(_: str) -> None:
    return None
