"""Where connections of our own come from: a DSN, a pool, an engine, or whatever opens one. Contract: pgwf 3.

What is opened here is ours until it is closed: transactions are begun and committed on it.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from millstream.drivers import is_one_of

_CONNECTIONS = (
    ("psycopg", "Connection"),
    ("psycopg", "AsyncConnection"),
    ("asyncpg.connection", "Connection"),
    ("asyncpg.pool", "PoolConnectionProxy"),
    ("sqlalchemy.engine", "Connection"),
    ("sqlalchemy.orm", "Session"),
    ("sqlalchemy.ext.asyncio", "AsyncConnection"),
    ("sqlalchemy.ext.asyncio", "AsyncSession"),
)

Opener = Callable[[], AbstractContextManager[object]]
AsyncOpener = Callable[[], AbstractAsyncContextManager[object]]


class _Cursor(Protocol):
    def execute(self, sql: str) -> object: ...
    def close(self) -> object: ...


class _DriverConnection(Protocol):
    driver_connection: object

    def cursor(self) -> _Cursor: ...


class _Psycopg(Protocol):
    def execute(self, query: bytes) -> object: ...
    def transaction(self) -> AbstractContextManager[object]: ...


class _AsyncDriver(Protocol):
    async def execute(self, query: object) -> object: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...


class _SqlAlchemy(Protocol):
    connection: _DriverConnection

    def in_transaction(self) -> bool: ...
    def begin(self) -> AbstractContextManager[object]: ...


class _Session(Protocol):
    def connection(self) -> _SqlAlchemy: ...


class _AsyncSqlAlchemy(Protocol):
    def in_transaction(self) -> bool: ...
    def begin(self) -> AbstractAsyncContextManager[object]: ...
    async def get_raw_connection(self) -> _DriverConnection: ...


class _AsyncSession(Protocol):
    async def connection(self) -> _AsyncSqlAlchemy: ...


def opener_of(source: object) -> Opener:
    """Return what opens a connection of a synchronous driver.

    Takes a DSN (for psycopg), a pool of psycopg's, SQLAlchemy's `Engine`, or a callable that returns a context manager
    of a connection. Raises TypeError for anything else, also for a connection: that is somebody's.
    """
    if isinstance(source, str):
        return lambda: _connected(source)
    if is_one_of(source, ("sqlalchemy.engine", "Engine")):
        return cast("Opener", getattr(source, "connect"))  # noqa: B009 - its type is not known here
    return cast("Opener", _pool_or_callable(source, "a DSN, a psycopg pool, an Engine"))


def opener_of_async(source: object) -> AsyncOpener:
    """Return what opens a connection of an asynchronous driver.

    Takes a DSN (for asyncpg, or else psycopg), a pool of asyncpg's or psycopg's, SQLAlchemy's `AsyncEngine`, or a
    callable that returns an asynchronous context manager of a connection. Raises TypeError for anything else.
    """
    if isinstance(source, str):
        return lambda: _connected_async(source)
    if is_one_of(source, ("sqlalchemy.ext.asyncio", "AsyncEngine")):
        return cast("AsyncOpener", getattr(source, "connect"))  # noqa: B009
    if is_one_of(source, ("asyncpg.pool", "Pool")):
        return cast("AsyncOpener", getattr(source, "acquire"))  # noqa: B009
    return cast(
        "AsyncOpener", _pool_or_callable(source, "a DSN, a pool of asyncpg or psycopg, an AsyncEngine")
    )


def transaction(connection: object) -> AbstractContextManager[object]:
    """Begin a transaction, which is committed, or rolled back if it fails, at the end. One that is begun goes on."""
    if is_one_of(connection, ("psycopg", "Connection")):
        return cast("_Psycopg", connection).transaction()
    opened = cast("_SqlAlchemy", connection)
    return nullcontext() if opened.in_transaction() else opened.begin()


def transaction_async(connection: object) -> AbstractAsyncContextManager[object]:
    """Begin a transaction, which is committed, or rolled back if it fails, at the end. One that is begun goes on."""
    if not is_one_of(
        connection, ("sqlalchemy.ext.asyncio", "AsyncConnection"), ("sqlalchemy.ext.asyncio", "AsyncSession")
    ):
        return cast("_AsyncDriver", connection).transaction()
    opened = cast("_AsyncSqlAlchemy", connection)
    return nullcontext() if opened.in_transaction() else opened.begin()


def run_plain(connection: object, sql: str) -> None:
    """Run statements that have no parameters, as they are: many at once, percent signs and colons included."""
    if is_one_of(connection, ("psycopg", "Connection")):
        cast("_Psycopg", connection).execute(sql.encode())
        return
    cursor = _pooled(connection).cursor()
    cursor.execute(sql)
    cursor.close()


async def run_plain_async(connection: object, sql: str) -> None:
    """Run statements that have no parameters, as they are: many at once, percent signs and colons included."""
    driver = await driver_connection_async(connection)
    await cast("_AsyncDriver", driver).execute(
        sql.encode() if is_one_of(driver, ("psycopg", "AsyncConnection")) else sql
    )


def driver_connection(connection: object) -> object:
    """Return the driver's connection that SQLAlchemy wraps; any other as it is."""
    if is_one_of(connection, ("sqlalchemy.engine", "Connection"), ("sqlalchemy.orm", "Session")):
        return _pooled(connection).driver_connection
    return connection


async def driver_connection_async(connection: object) -> object:
    """Return the driver's connection that SQLAlchemy wraps; any other as it is."""
    if is_one_of(connection, ("sqlalchemy.ext.asyncio", "AsyncSession")):
        connection = await cast("_AsyncSession", connection).connection()
    if is_one_of(connection, ("sqlalchemy.ext.asyncio", "AsyncConnection")):
        return (await cast("_AsyncSqlAlchemy", connection).get_raw_connection()).driver_connection
    return connection


def _pooled(connection: object) -> _DriverConnection:
    if is_one_of(connection, ("sqlalchemy.orm", "Session")):
        return cast("_Session", connection).connection().connection
    return cast("_SqlAlchemy", connection).connection


def _pool_or_callable(source: object, expected: str) -> object:
    if not is_one_of(source, *_CONNECTIONS):
        # A pool of psycopg's, which has a package of its own, or one that looks like it.
        lend = getattr(source, "connection", None)
        if callable(lend):
            return lend
        if callable(source):
            return source
    kind = type(source)
    raise TypeError(
        f"{kind.__module__}.{kind.__qualname__} does not hand out connections: {expected}, or a callable that returns"
        " a context manager of one"
    )


def _connected(dsn: str) -> AbstractContextManager[object]:
    # Whoever has another driver does not need this one.
    psycopg = import_module("psycopg")
    return cast("AbstractContextManager[object]", psycopg.connect(dsn, autocommit=True))


@asynccontextmanager
async def _connected_async(dsn: str) -> AsyncGenerator[object]:
    if find_spec("asyncpg") is None:
        psycopg = import_module("psycopg")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            yield connection
        return
    opened = cast("_Closeable", await import_module("asyncpg").connect(dsn))
    try:
        yield opened
    finally:
        await opened.close()


class _Closeable(Protocol):
    async def close(self) -> None: ...
