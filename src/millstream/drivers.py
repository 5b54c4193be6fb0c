"""The caller's own connection, whichever driver made it: psycopg 3, asyncpg or SQLAlchemy, none of them imported here.

Statements are written with `:name` parameters and `cast(… as …)`, which every driver takes. Nothing here begins, commits
or rolls back what the caller has begun.
"""

import re
import sys
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Protocol, cast

_PARAMETER = re.compile(r"'(?:[^']|'')*'|:(?P<name>[a-z][a-z0-9_]*)")
_SAVEPOINT = "millstream_call"

_PSYCOPG = ("psycopg", "Connection")
_SQLALCHEMY = (("sqlalchemy.engine", "Connection"), ("sqlalchemy.orm", "Session"))
_SYNCHRONOUS = "psycopg.Connection, sqlalchemy.Connection or sqlalchemy.orm.Session"
_ASYNC_PSYCOPG = ("psycopg", "AsyncConnection")
_ASYNCPG = (("asyncpg.connection", "Connection"), ("asyncpg.pool", "PoolConnectionProxy"))
_ASYNC_SQLALCHEMY = (
    ("sqlalchemy.ext.asyncio", "AsyncConnection"),
    ("sqlalchemy.ext.asyncio", "AsyncSession"),
)
_ASYNCHRONOUS = "psycopg.AsyncConnection, asyncpg.Connection, or SQLAlchemy's AsyncConnection or AsyncSession"

# Connection exceptions are class 08. Then the server's shutting down or starting up, and too many connections.
_LOST = ("08", "57P01", "57P02", "57P03", "53300")

Rows = list[tuple[Any, ...]]  # pyright: ignore[reportExplicitAny] - columns of any type


class _Cursor(Protocol):
    description: object

    def execute(self, sql: str, parameters: Mapping[str, object]) -> object: ...
    def fetchall(self) -> Rows: ...


class _AsyncCursor(Protocol):
    description: object

    async def execute(self, sql: str, parameters: Mapping[str, object]) -> object: ...
    async def fetchall(self) -> Rows: ...


class _Result(Protocol):
    returns_rows: bool

    def all(self) -> Iterable[Iterable[object]]: ...


class _Status(Protocol):
    name: str


class _Info(Protocol):
    transaction_status: _Status


class _Psycopg(Protocol):
    autocommit: bool
    info: _Info

    def cursor(self, *, row_factory: object) -> AbstractContextManager[_Cursor]: ...


class _AsyncPsycopg(Protocol):
    def cursor(self, *, row_factory: object) -> AbstractAsyncContextManager[_AsyncCursor]: ...


class _Asyncpg(Protocol):
    async def fetch(self, sql: str, *parameters: object) -> "Iterable[_Record]": ...
    def is_in_transaction(self) -> bool: ...


class _Record(Protocol):
    def values(self) -> Iterable[object]: ...


class _SqlAlchemy(Protocol):
    def execute(self, statement: object, parameters: dict[str, object]) -> _Result: ...


class _AsyncSqlAlchemy(Protocol):
    async def execute(self, statement: object, parameters: dict[str, object]) -> _Result: ...


def execute(connection: object, sql: str, parameters: Mapping[str, object]) -> Rows:
    """Run a statement on a connection of a synchronous driver and return its rows.

    Takes `psycopg.Connection`, and SQLAlchemy's `Connection` and `Session`. Raises TypeError for anything else, and
    what the driver raises.
    """
    if is_one_of(connection, _PSYCOPG):
        with cast("_Psycopg", connection).cursor(row_factory=_tuple_row()) as cursor:
            cursor.execute(_percent_style(sql), parameters)
            return cursor.fetchall() if cursor.description is not None else []
    if is_one_of(connection, *_SQLALCHEMY):
        return _rows(cast("_SqlAlchemy", connection).execute(_text(sql), dict(parameters)))
    raise _unsupported(connection, _SYNCHRONOUS)


async def execute_async(connection: object, sql: str, parameters: Mapping[str, object]) -> Rows:
    """Run a statement on a connection of an asynchronous driver and return its rows.

    Takes `psycopg.AsyncConnection`, `asyncpg.Connection` (also one of a pool), and SQLAlchemy's `AsyncConnection` and
    `AsyncSession`. Raises TypeError for anything else, and what the driver raises.
    """
    if is_one_of(connection, _ASYNC_PSYCOPG):
        async with cast("_AsyncPsycopg", connection).cursor(row_factory=_tuple_row()) as cursor:
            await cursor.execute(_percent_style(sql), parameters)
            return await cursor.fetchall() if cursor.description is not None else []
    if _is_asyncpg(connection):
        numbered, names = _numbered_style(sql)
        rows = await cast("_Asyncpg", connection).fetch(numbered, *(parameters[name] for name in names))
        return [tuple(row.values()) for row in rows]
    if is_one_of(connection, *_ASYNC_SQLALCHEMY):
        return _rows(await cast("_AsyncSqlAlchemy", connection).execute(_text(sql), dict(parameters)))
    raise _unsupported(connection, _ASYNCHRONOUS)


def require_connection(connection: object) -> None:
    """Raise TypeError unless `execute` takes this connection."""
    if not is_one_of(connection, _PSYCOPG, *_SQLALCHEMY):
        raise _unsupported(connection, _SYNCHRONOUS)


def require_connection_async(connection: object) -> None:
    """Raise TypeError unless `execute_async` takes this connection."""
    if not is_one_of(connection, _ASYNC_PSYCOPG, *_ASYNCPG, *_ASYNC_SQLALCHEMY):
        raise _unsupported(connection, _ASYNCHRONOUS)


@contextmanager
def savepoint(connection: object) -> Generator[None]:
    """Undo what was done within if it fails, so that the caller's transaction can go on."""
    if is_one_of(connection, _PSYCOPG) and not _in_transaction(connection):
        # Each statement is a transaction of its own: a failed one leaves nothing to undo.
        yield
        return
    execute(connection, f"savepoint {_SAVEPOINT}", {})
    try:
        yield
    except BaseException:
        execute(connection, f"rollback to savepoint {_SAVEPOINT}", {})
        raise
    execute(connection, f"release savepoint {_SAVEPOINT}", {})


@asynccontextmanager
async def savepoint_async(connection: object) -> AsyncGenerator[None]:
    """Undo what was done within if it fails, so that the caller's transaction can go on."""
    if is_one_of(connection, _ASYNC_PSYCOPG, *_ASYNCPG) and not _in_transaction(connection):
        yield
        return
    await execute_async(connection, f"savepoint {_SAVEPOINT}", {})
    try:
        yield
    except BaseException:
        await execute_async(connection, f"rollback to savepoint {_SAVEPOINT}", {})
        raise
    await execute_async(connection, f"release savepoint {_SAVEPOINT}", {})


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of what a driver raised, None if it has none."""
    for cause in _causes(error):
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return state
    return None


def constraint_of(error: BaseException) -> str | None:
    """Return the constraint that a driver's error names, if any."""
    for cause in _causes(error):
        name = getattr(cause, "constraint_name", None) or getattr(
            getattr(cause, "diag", None), "constraint_name", None
        )
        if isinstance(name, str):
            return name
    return None


def message_of(error: BaseException) -> str:
    """Return what PostgreSQL said, without what drivers add to it."""
    for cause in _causes(error):
        said = getattr(getattr(cause, "diag", None), "message_primary", None) or getattr(
            cause, "message", None
        )
        if isinstance(said, str):
            return said
    return str(error)


def is_lost_connection(error: BaseException) -> bool:
    """Whether a driver failed because the connection is gone, or could not be made; it may be possible later."""
    sqlstate = sqlstate_of(error)
    if sqlstate is not None:
        return sqlstate.startswith(_LOST)
    return any(
        isinstance(cause, OSError)
        or is_one_of(cause, ("psycopg", "OperationalError"), ("sqlalchemy.exc", "TimeoutError"))
        # The same class stands for what callers do wrong.
        or (is_one_of(cause, ("asyncpg", "InterfaceError")) and "is closed" in str(cause))
        # The connection ended while another operation of it was under way.
        or is_one_of(cause, ("asyncpg", "InternalClientError"))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Generator[BaseException]:
    """Yield `error` and what it was made of: SQLAlchemy wraps its driver's."""
    seen: set[int] = set()
    inner: object = error
    while isinstance(inner, BaseException) and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        inner = getattr(inner, "orig", None) or inner.__cause__


def is_one_of(connection: object, *names: tuple[str, str]) -> bool:
    """Whether something is an instance of a class, by module and name, that need not be imported."""
    for module, name in names:
        known = getattr(sys.modules.get(module), name, None)
        if isinstance(known, type) and isinstance(connection, known):
            return True
    return False


def _is_asyncpg(connection: object) -> bool:
    return is_one_of(connection, *_ASYNCPG)


def _in_transaction(connection: object) -> bool:
    if _is_asyncpg(connection):
        return cast("_Asyncpg", connection).is_in_transaction()
    # A connection that is not in autocommit mode begins with its first statement.
    psycopg = cast("_Psycopg", connection)
    return not (psycopg.autocommit and psycopg.info.transaction_status.name == "IDLE")


def _tuple_row() -> object:
    return sys.modules["psycopg.rows"].tuple_row


def _text(sql: str) -> object:
    return sys.modules["sqlalchemy"].text(sql)


def _rows(result: _Result) -> Rows:
    return [tuple(row) for row in result.all()] if result.returns_rows else []


def _percent_style(sql: str) -> str:
    return _PARAMETER.sub(
        lambda match: match[0] if match["name"] is None else f"%({match['name']})s", sql.replace("%", "%%")
    )


def _numbered_style(sql: str) -> tuple[str, list[str]]:
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, sql), names


def _unsupported(connection: object, expected: str) -> TypeError:
    kind = type(connection)
    return TypeError(
        f"{kind.__module__}.{kind.__qualname__} is not a connection that is known here: {expected}"
    )
