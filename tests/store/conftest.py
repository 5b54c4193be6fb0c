"""Plain connections beside the store's own, as another program would have them; and a database in use."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

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


@pytest.fixture(scope="module")
def filled_dsn(cluster: Cluster) -> Iterator[str]:
    """A database in use."""
    name = f"filled_{secrets.token_hex(4)}"

    async def make() -> None:
        async with direct_session(cluster.superuser_dsn) as session:
            await session.run(f"create database {name} template {TEMPLATE}")
        connection = await asyncpg.connect(cluster.dsn_of(name))
        try:
            await fill(connection)
            await connection.execute("set role millstream_owner")
            await connection.execute("vacuum (analyze)")
        finally:
            await connection.close()

    async def drop() -> None:
        async with direct_session(cluster.superuser_dsn) as session:
            await session.run(f"drop database {name} with (force)")

    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, make()).result()
        yield cluster.dsn_of(name)
        executor.submit(asyncio.run, drop()).result()


@pytest.fixture
async def filled(filled_dsn: str) -> AsyncIterator[Database]:
    opened = await Database.open(filled_dsn, min_size=1, max_size=2)
    yield opened
    await opened.close()
