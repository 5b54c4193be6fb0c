"""One statement, whichever driver the caller's connection comes from."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)

import asyncpg
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from psycopg.rows import dict_row

from millstream import drivers
from tests.conftest import Cluster

Opened = Callable[[str], AbstractContextManager[object]]
OpenedAsync = Callable[[str], AbstractAsyncContextManager[object]]

ECHO = "select cast(:word as text), cast(:number as int), 'it''s 100 %', cast(:word as text)"
FAILS = "select cast(cast(:word as text) as int)"


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.template_dsn


@contextmanager
def _psycopg(url: str) -> Generator[object]:
    # A row factory of the caller's changes nothing.
    with psycopg.connect(url) as connection:
        connection.row_factory = dict_row  # pyright: ignore[reportAttributeAccessIssue] - typed for the factory it began with
        yield connection


@contextmanager
def _psycopg_autocommit(url: str) -> Generator[object]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _engine(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=sqlalchemy.NullPool
    )


@contextmanager
def _sqlalchemy_connection(url: str) -> Generator[object]:
    with _engine(url).connect() as connection:
        yield connection


@contextmanager
def _sqlalchemy_session(url: str) -> Generator[object]:
    with sqlalchemy.orm.Session(_engine(url)) as session:
        yield session


SYNC = [_psycopg, _psycopg_autocommit, _sqlalchemy_connection, _sqlalchemy_session]


@asynccontextmanager
async def _async_psycopg(url: str) -> AsyncGenerator[object]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def _asyncpg_connection(url: str) -> AsyncGenerator[object]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _asyncpg_pool(url: str) -> AsyncGenerator[object]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        yield connection


def _async_engine(url: str) -> sqlalchemy.ext.asyncio.AsyncEngine:
    return sqlalchemy.ext.asyncio.create_async_engine(
        "postgresql+psycopg://",
        async_creator=lambda: psycopg.AsyncConnection.connect(url),
        poolclass=sqlalchemy.NullPool,
    )


@asynccontextmanager
async def _async_sqlalchemy_connection(url: str) -> AsyncGenerator[object]:
    async with _async_engine(url).connect() as connection:
        yield connection


@asynccontextmanager
async def _async_sqlalchemy_session(url: str) -> AsyncGenerator[object]:
    async with sqlalchemy.ext.asyncio.AsyncSession(_async_engine(url)) as session:
        yield session


ASYNC = [
    _async_psycopg,
    _asyncpg_connection,
    _asyncpg_pool,
    _async_sqlalchemy_connection,
    _async_sqlalchemy_session,
]


@pytest.mark.parametrize("opened", SYNC)
def test_a_statement_runs_on_every_synchronous_connection(opened: Opened, url: str) -> None:
    with opened(url) as connection:
        rows = drivers.execute(connection, ECHO, {"word": "wo:rd", "number": 3})
        assert rows == [("wo:rd", 3, "it's 100 %", "wo:rd")]
        assert drivers.execute(connection, "set local work_mem = '1MB'", {}) == []


@pytest.mark.parametrize("opened", ASYNC)
async def test_a_statement_runs_on_every_asynchronous_connection(opened: OpenedAsync, url: str) -> None:
    async with opened(url) as connection:
        rows = await drivers.execute_async(connection, ECHO, {"word": "wo:rd", "number": 3})
        assert rows == [("wo:rd", 3, "it's 100 %", "wo:rd")]


@pytest.mark.parametrize("opened", SYNC)
def test_a_savepoint_keeps_the_callers_transaction_alive(opened: Opened, url: str) -> None:
    with opened(url) as connection:
        with pytest.raises(Exception, match="invalid input syntax") as caught, drivers.savepoint(connection):
            drivers.execute(connection, FAILS, {"word": "x"})
        assert drivers.sqlstate_of(caught.value) == "22P02"
        assert drivers.message_of(caught.value) == 'invalid input syntax for type integer: "x"'
        with drivers.savepoint(connection):
            assert drivers.execute(connection, FAILS, {"word": "7"}) == [(7,)]


@pytest.mark.parametrize("opened", ASYNC)
async def test_a_savepoint_keeps_the_callers_asynchronous_transaction_alive(
    opened: OpenedAsync, url: str
) -> None:
    async with opened(url) as connection:
        with pytest.raises(Exception, match="invalid input syntax") as caught:
            async with drivers.savepoint_async(connection):
                await drivers.execute_async(connection, FAILS, {"word": "x"})
        assert drivers.sqlstate_of(caught.value) == "22P02"
        async with drivers.savepoint_async(connection):
            assert await drivers.execute_async(connection, FAILS, {"word": "7"}) == [(7,)]


@pytest.mark.parametrize("opened", SYNC)
def test_the_constraint_that_was_broken_is_named(opened: Opened, url: str) -> None:
    statement = "insert into millstream.settings (key, value) values (cast(:name as text), ''), (cast(:name as text), '')"
    with (
        opened(url) as connection,
        pytest.raises(Exception, match="settings") as caught,
        drivers.savepoint(connection),
    ):
        drivers.execute(connection, statement, {"name": "twice"})
    assert drivers.constraint_of(caught.value) == "settings_pkey"


async def test_anything_else_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"builtins\.int is not a connection"):
        drivers.execute(3, ECHO, {})
    with pytest.raises(TypeError, match=r"builtins\.str is not a connection"):
        await drivers.execute_async("postgresql://", ECHO, {})
    assert drivers.sqlstate_of(ValueError("x")) is None
    assert drivers.constraint_of(ValueError("x")) is None
    assert drivers.message_of(ValueError("x")) == "x"
