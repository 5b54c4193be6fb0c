"""Plain connections beside the store's own, as another program would have them; and a database in use."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager

import asyncpg
import pytest

from millstream.store.database import Database
from millstream.store.installation import direct_session
from tests.conftest import TEMPLATE, Cluster
from tests.store.filling import fill

Connect = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def connect(database_dsn: str) -> AsyncIterator[Connect]:
    """Open connections with the login that the server has; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def connect() -> asyncpg.Connection:
            connection = await asyncpg.connect(database_dsn)
            stack.push_async_callback(connection.close)
            return connection

        yield connect


@pytest.fixture
async def connection(connect: Connect) -> asyncpg.Connection:
    """One such connection."""
    return await connect()


MakeFilled = Callable[[Callable[[str], Coroutine[object, object, None]]], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def make_filled(cluster: Cluster) -> MakeFilled:
    """Make a database, filled by a function that is given its DSN, for as long as the context lasts."""

    @contextmanager
    def make(fill_it: Callable[[str], Coroutine[object, object, None]]) -> Generator[str]:
        name = f"filled_{secrets.token_hex(4)}"

        async def create() -> None:
            async with direct_session(cluster.superuser_dsn) as session:
                await session.run(f"create database {name} template {TEMPLATE}")
            await fill_it(cluster.dsn_of(name))

        async def drop() -> None:
            async with direct_session(cluster.superuser_dsn) as session:
                await session.run(f"drop database {name} with (force)")

        with ThreadPoolExecutor(1) as executor:
            executor.submit(asyncio.run, create()).result()
            yield cluster.dsn_of(name)
            executor.submit(asyncio.run, drop()).result()

    return make


@pytest.fixture(scope="module")
def filled_dsn(make_filled: MakeFilled) -> Iterator[str]:
    """A database in use."""

    async def fill_jobs(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await fill(connection)
            await connection.execute("set role millstream_owner")
            await connection.execute("vacuum (analyze)")
        finally:
            await connection.close()

    with make_filled(fill_jobs) as dsn:
        yield dsn


@pytest.fixture
async def filled(filled_dsn: str) -> AsyncIterator[Database]:
    opened = await Database.open(filled_dsn, min_size=1, max_size=2)
    yield opened
    await opened.close()
