"""Callers with a transaction of their own, on every kind of connection; and every kind of source of connections."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import asyncpg
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from psycopg.rows import dict_row

from millstream.pgwf import AsyncInstaller, AsyncWorkflow, Installer, Workflow
from tests.pgwf.flow import DEADLINE_SECONDS

T = TypeVar("T")

SYNC_CONNECTIONS = ["psycopg", "sqlalchemy", "session"]
ASYNC_CONNECTIONS = [
    *("async psycopg", "asyncpg", "asyncpg pool", "async sqlalchemy", "async session", "sqlalchemy asyncpg")
]
SYNC_SOURCES = ["dsn", "pool", "engine", "callable", "engine.begin", "sessionmaker"]
ASYNC_SOURCES = [
    *("async dsn", "async pool", "async engine", "async callable", "asyncpg engine", "async sessionmaker")
]
# One of each driver and flavour; the others differ from them in how a connection is come by.
_FIRST = {"psycopg", "session", "asyncpg", "async sqlalchemy", "dsn", "engine", "async dsn", "asyncpg engine"}


def _sorted_by_cost(kinds: list[str]) -> list[object]:
    return [kind if kind in _FIRST else pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


CONNECTIONS = _sorted_by_cost([*SYNC_CONNECTIONS, *ASYNC_CONNECTIONS])
SOURCES = _sorted_by_cost([*SYNC_SOURCES, *ASYNC_SOURCES])


async def settled(value: Awaitable[T] | T) -> T:
    """Return what a call of either kind returns."""
    return await cast("Awaitable[T]", value) if inspect.isawaitable(value) else cast("T", value)


@dataclass
class Caller:
    """A connection of some kind in a transaction, and the calls that fit it. `workflow` is either of the two."""

    connection: Any
    workflow: Any
    finish: Callable[[str], Any]
    execute: Callable[[str], Any]

    async def call(self, name: str, *arguments: object, **named: object) -> Any:
        """Call a method of the workflow on the connection."""
        return await settled(getattr(self.workflow, name)(self.connection, *arguments, **named))

    async def under(self, lease: Any, name: str, *arguments: object) -> Any:
        """Call a method of a lease on the connection."""
        return await settled(getattr(lease, name)(self.connection, *arguments))

    async def commit(self) -> None:
        """Commit, and begin anew."""
        await settled(self.finish("commit"))

    async def rollback(self) -> None:
        """Roll back, and begin anew."""
        await settled(self.finish("rollback"))

    async def write(self, sql: str) -> None:
        """Do something of the caller's own."""
        await settled(self.execute(sql.replace("pgwf", self.workflow.schema)))


@asynccontextmanager
async def open_caller(kind: str, dsn: str, schema: str) -> AsyncGenerator[Caller]:
    """Connect in one of the ways of `CONNECTIONS`."""
    workflow = Workflow(schema=schema) if kind in SYNC_CONNECTIONS else AsyncWorkflow(schema=schema)
    async with AsyncExitStack() as stack:
        match kind:
            case "psycopg":
                connection: Any = stack.enter_context(psycopg.connect(dsn))
                # What callers set up for themselves changes nothing.
                connection.row_factory = dict_row
            case "sqlalchemy":
                connection = stack.enter_context(engine(dsn).connect())
            case "session":
                connection = stack.enter_context(sqlalchemy.orm.Session(engine(dsn)))
            case "async psycopg":
                connection = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
            case "asyncpg" | "asyncpg pool":
                if kind == "asyncpg":
                    connection = await asyncpg.connect(dsn)
                    stack.push_async_callback(connection.close)
                else:
                    pool = await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=1, max_size=1))
                    connection = await stack.enter_async_context(pool.acquire())
                await connection.execute("begin")
                stack.push_async_callback(_roll_back, connection)
                finish = lambda end: connection.execute(f"{end}; begin")  # noqa: E731
                yield Caller(connection, workflow, finish, connection.execute)
                return
            case "async sqlalchemy" | "sqlalchemy asyncpg":
                made = async_engine(dsn) if kind == "async sqlalchemy" else asyncpg_engine(dsn)
                connection = await stack.enter_async_context(made.connect())
            case _:
                connection = await stack.enter_async_context(
                    sqlalchemy.ext.asyncio.AsyncSession(asyncpg_engine(dsn))
                )
        raw = kind.endswith("psycopg")
        yield Caller(
            connection,
            workflow,
            lambda end: getattr(connection, end)(),
            lambda sql: connection.execute(sql.encode() if raw else sqlalchemy.text(sql)),
        )


@asynccontextmanager
async def open_source(kind: str, dsn: str) -> AsyncGenerator[object]:
    """Make something that hands out connections in one of the ways of `SOURCES`."""
    match kind:
        case "dsn" | "async dsn":
            yield dsn
        case "pool":
            with psycopg.connect(dsn) as connection:
                yield Pool(connection)
        case "engine":
            yield engine(dsn)
        case "engine.begin":
            yield engine(dsn).begin
        case "callable":
            yield partial(psycopg.connect, dsn)
        case "sessionmaker":
            yield sqlalchemy.orm.sessionmaker(engine(dsn))
        case "async pool":
            async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
                yield pool
        case "async engine":
            yield async_engine(dsn)
        case "asyncpg engine":
            yield asyncpg_engine(dsn)
        case "async callable":
            yield partial(_connected, dsn)
        case _:
            yield sqlalchemy.ext.asyncio.async_sessionmaker(asyncpg_engine(dsn))


@asynccontextmanager
async def entered(context: Any) -> AsyncGenerator[Any]:
    """Enter a context manager of either kind."""
    async with AsyncExitStack() as stack:
        if hasattr(context, "__aenter__"):
            yield await stack.enter_async_context(context)
        else:
            yield stack.enter_context(context)


async def until(condition: Callable[[], Any]) -> Any:
    """Return the first true answer of `condition`; fail after `DEADLINE_SECONDS`. Lets the loop's tasks run."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (answer := condition()):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)
    return answer


def workflow_for(source: str, schema: str) -> Any:
    """Return the workflow whose calls take this kind of source."""
    return Workflow(schema=schema) if source in SYNC_SOURCES else AsyncWorkflow(schema=schema)


def installer_for(kind: str, source: object, schema: str) -> Any:
    """Return the installer that takes this kind of source."""
    made = Installer if kind in SYNC_SOURCES else AsyncInstaller
    return made(source, schema=schema)


async def _roll_back(connection: Any) -> None:
    # A test may have lost it.
    with suppress(asyncpg.InterfaceError):
        await connection.execute("rollback")


class Pool:
    """The least that a pool can be, with the call that those of psycopg have: one connection that is not in autocommit."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    @contextmanager
    def connection(self) -> Generator[psycopg.Connection]:
        assert self._connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        try:
            yield self._connection
        finally:
            self._connection.rollback()


@asynccontextmanager
async def _connected(dsn: str) -> AsyncGenerator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        yield connection


def engine(dsn: str) -> sqlalchemy.Engine:
    """Return an engine over psycopg."""
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=sqlalchemy.NullPool
    )


def async_engine(dsn: str) -> sqlalchemy.ext.asyncio.AsyncEngine:
    """Return an engine over psycopg for asyncio."""
    return sqlalchemy.ext.asyncio.create_async_engine(
        "postgresql+psycopg://",
        async_creator=lambda: psycopg.AsyncConnection.connect(dsn),
        poolclass=sqlalchemy.NullPool,
    )


def asyncpg_engine(dsn: str) -> sqlalchemy.ext.asyncio.AsyncEngine:
    """Return an engine over asyncpg."""
    return sqlalchemy.ext.asyncio.create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=sqlalchemy.NullPool
    )
