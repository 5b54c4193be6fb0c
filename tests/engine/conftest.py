"""A tenant at work on an engine of its own."""

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.store import installation
from millstream.store.database import Database
from millstream.store.relay import OpenLine, postgres_line
from tests.conftest import make_principal
from tests.engine.fellows import Fellows, HintLine, cut_lines, join
from tests.engine.group_work import Consumers
from tests.engine.topic_work import TopicWork
from tests.engine.work import Work
from tests.receiver import Receiver, listening

OpenEngine = Callable[[OpenLine], Awaitable[Engine]]


@pytest.fixture
def work(engine: Engine, principal: Principal, clock: SteeredClock) -> Work:
    """A tenant with the top plan, under a steered clock."""
    return Work(engine, principal, clock)


@pytest.fixture
def topics(engine: Engine, principal: Principal, clock: SteeredClock) -> TopicWork:
    """The same tenant, publishing and reading."""
    return TopicWork(engine, principal, clock)


@pytest.fixture
def consumers(engine: Engine, principal: Principal, clock: SteeredClock) -> Consumers:
    """Consumers of a tenant with the top plan, under a steered clock."""
    return Consumers(engine, principal, clock)


@pytest.fixture
async def second_engine(database_dsn: str, clock: SteeredClock) -> AsyncIterator[Engine]:
    """Another engine on the same database, with connections of its own: what a second process is."""
    database = await Database.open(database_dsn, min_size=1, max_size=10)
    opened = await open_engine(
        database,
        EngineSettings(key_hash_cost=4),
        direct=lambda: installation.direct_session(database_dsn),
        clock=clock,
    )
    yield opened
    await opened.close()
    await database.close()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server of the tests' own, on a socket."""
    program = shutil.which("redis-server")
    assert program is not None, "redis-server is not installed"
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as place:
        path = Path(place) / "redis.sock"
        command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", place]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            while "eady to accept connections" not in (line := server.stdout.readline()):
                assert line, "redis-server ended"
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.communicate()


@pytest.fixture(params=["postgres", pytest.param("redis", marks=pytest.mark.slow)])
def hint_line(request: pytest.FixtureRequest, database_dsn: str) -> HintLine:
    """What lines are opened over, each kind once."""
    if request.param == "postgres":
        opens = postgres_line(lambda: installation.direct_session(database_dsn))
        return HintLine(open=opens, cut=lambda: cut_lines(database_dsn))
    from redis.asyncio import Redis

    from millstream.store.redis_line import redis_line

    url: str = request.getfixturevalue("redis_url")

    async def cut() -> int:
        async with Redis.from_url(url) as client:
            return await client.client_kill_filter(_type="pubsub")

    installation_id = database_dsn.rpartition("/")[2]
    return HintLine(open=redis_line(url, installation_id, connections_max=10), cut=cut)


@pytest.fixture
async def open_fellow(database_dsn: str, clock: SteeredClock) -> AsyncIterator[OpenEngine]:
    """Opens further engines on the database, each with connections and a line of its own."""
    async with AsyncExitStack() as ending:

        async def open_one(open_line: OpenLine) -> Engine:
            database = await Database.open(database_dsn, min_size=1, max_size=10)
            ending.push_async_callback(database.close)
            opened = await open_engine(
                database,
                direct=lambda: installation.direct_session(database_dsn),
                open_line=open_line,
                clock=clock,
            )
            ending.push_async_callback(opened.relay.stop)
            ending.push_async_callback(opened.close)
            return opened

        yield open_one


@pytest.fixture
async def fellows(open_fellow: OpenEngine, hint_line: HintLine, clock: SteeredClock) -> Fellows:
    """Two engines that know of each other, and a tenant that works with both."""
    here, there = await open_fellow(hint_line.open), await open_fellow(hint_line.open)
    principal = await make_principal(here)
    await join(here, there)
    return Fellows(Work(here, principal, clock), Work(there, principal, clock))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks that is content with everything."""
    with listening() as opened:
        yield opened
