"""Connections: the pool, the ways to run statements, and what each failure means."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import asyncpg
from asyncpg import exceptions

from millstream.domain.errors import (
    DatabaseUnavailable,
    MillstreamError,
    OutcomeUnknown,
    PoisonRow,
    RowLocked,
    Unavailable,
)

APPLICATION_NAME = "millstream"
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 25.0
PATIENT_LOCK_SECONDS = 5

# Session defaults of the role that the server logs in with. They belong to the role, not to the start-up of
# a connection, so that a pooler in transaction mode keeps them.
SESSION_DEFAULTS = {
    "timezone": "UTC",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "jit": "off",
    # A row that someone's open transaction holds is set aside instead of holding up its whole batch.
    "lock_timeout": "100ms",
    "statement_timeout": "25s",
    "idle_in_transaction_session_timeout": "30s",
    # Every batch statement is a walk along indexes, whatever the statistics of a table that was empty a moment
    # ago say. Reads that are better off with a scan turn it on for themselves.
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    # A bitmap does not mark the index entries of dead rows, so the next look-up would visit them again.
    "enable_bitmapscan": "off",
}

_AS_TENANT = (
    "select set_config('role', $1, true), set_config('millstream.tenant_id', $2, true),"
    " set_config('lock_timeout', $3, true), set_config('enable_seqscan', 'on', true),"
    " set_config('enable_hashjoin', 'on', true), set_config('enable_bitmapscan', 'on', true),"
    " set_config('plan_cache_mode', 'auto', true)"
)
_PATIENTLY = (
    "select set_config('lock_timeout', $1, true), set_config('enable_seqscan', 'on', true),"
    " set_config('enable_hashjoin', 'on', true), set_config('enable_bitmapscan', 'on', true),"
    " set_config('plan_cache_mode', 'auto', true)"
)

_BATCH_PATIENTLY = "select set_config('lock_timeout', $1, true)"


class Row(Protocol):
    """One row of a result, by column name or place."""

    def __getitem__(self, key: str | int, /) -> Any: ...  # pyright: ignore[reportExplicitAny] - a column of any type


class Driver(Protocol):
    """The part of asyncpg's connection that is used; the package ships no types."""

    async def fetch(self, query: str, *arguments: object, timeout: float | None = None) -> list[Row]: ...
    async def fetchrow(self, query: str, *arguments: object, timeout: float | None = None) -> Row | None: ...
    async def execute(self, query: str, *arguments: object, timeout: float | None = None) -> str: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    async def add_listener(self, channel: str, callback: Callable[[object, int, str, str], None]) -> None: ...
    def add_termination_listener(self, callback: Callable[[object], None]) -> None: ...


class _Pool(Protocol):
    # The part of asyncpg's pool that is used.
    async def acquire(self, *, timeout: float) -> Driver: ...
    async def release(self, connection: Driver) -> None: ...
    def terminate(self) -> None: ...
    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...


class Session:
    """Statements on one connection."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def many(self, sql: str, *arguments: object) -> list[Row]:
        """Run a statement and return its rows."""
        return await self._driver.fetch(sql, *arguments)

    async def one(self, sql: str, *arguments: object) -> Row | None:
        """Run a statement and return its first row, if any."""
        return await self._driver.fetchrow(sql, *arguments)

    async def ping(self) -> None:
        """Ask for an answer, whatever it is."""
        await self._driver.fetchrow("select 1")

    async def run(self, sql: str, *arguments: object) -> None:
        """Run a statement whose rows, if any, do not matter."""
        await self._driver.execute(sql, *arguments)

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[None]:
        """Make one transaction of the statements within, under the settings that single statements have."""
        await self.run("begin")
        try:
            yield
        except BaseException:
            await _roll_back(self)
            raise
        await self.run("commit")

    async def listen(self, channel: str, receive: Callable[[str], None], lost: Callable[[], None]) -> None:
        """Have `receive` called with each notification of `channel`, `lost` when the connection is gone."""
        self._driver.add_termination_listener(lambda _connection: lost())
        await self._driver.add_listener(
            channel, lambda _connection, _pid, _channel, payload: receive(payload)
        )

    def abort(self) -> None:
        """Close the connection without a word to the server."""
        self._driver.terminate()


def meaning_of(error: BaseException, *, sent: bool) -> MillstreamError | None:
    """Say what a failure of the driver or the database means; None if it is a defect of ours.

    `sent`: whether a statement may have reached the database already, so that a lost connection leaves
    its outcome unknown.
    """
    if isinstance(error, exceptions.LockNotAvailableError | exceptions.TransactionRollbackError):
        return RowLocked()
    if isinstance(error, exceptions.DataError | exceptions.IntegrityConstraintViolationError):
        return PoisonRow()
    if isinstance(error, exceptions.ProgramLimitExceededError | UnicodeEncodeError):
        return PoisonRow()
    if isinstance(error, exceptions.InterfaceError) and isinstance(error, ValueError):
        # The driver could not even encode an argument.
        return PoisonRow()
    if isinstance(
        error,
        exceptions.QueryCanceledError
        | exceptions.InsufficientResourcesError
        | exceptions.ReadOnlySQLTransactionError,
    ):
        return Unavailable()
    if isinstance(
        error, exceptions.InvalidAuthorizationSpecificationError | exceptions.InvalidCatalogNameError
    ):
        return DatabaseUnavailable(f"the database refused the connection: {error}")
    if isinstance(
        error,
        exceptions.PostgresConnectionError
        | exceptions.OperatorInterventionError
        | exceptions.InterfaceError
        | exceptions.InternalClientError
        | OSError
        | TimeoutError,
    ):
        return OutcomeUnknown() if sent else DatabaseUnavailable()
    return None


class Database:
    """The server's connections to its database."""

    def __init__(
        self,
        pool: _Pool,
        roles: "Roles",
        make_session: Callable[[Driver], Session] = Session,
        *,
        acquire_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._pool = pool
        self._make_session = make_session
        self._acquire_seconds = acquire_seconds
        self.roles = roles

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        roles: "Roles | None" = None,
        min_size: int = 2,
        max_size: int = 25,
        make_session: Callable[[Driver], Session] = Session,
        acquire_seconds: float = CONNECT_SECONDS,
    ) -> "Database":
        """Connect to `dsn`; raises DatabaseUnavailable when nobody answers.

        `acquire_seconds` is how long a statement may wait for one of the connections.
        """
        try:
            pool = await asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType] - it ships no types
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS + 5,
                max_cached_statement_lifetime=0,
                max_inactive_connection_lifetime=300,
                # The default resets a session with a statement of its own on every release. Ours leave nothing
                # behind: settings and roles are local to their transactions.
                reset=_leave_as_it_is,
                server_settings={"application_name": APPLICATION_NAME},
            )
        except Exception as error:
            meaning = meaning_of(error, sent=False)
            if meaning is None:
                raise
            raise meaning from error
        return cls(cast("_Pool", pool), roles or Roles(), make_session, acquire_seconds=acquire_seconds)

    async def close(self) -> None:
        """Close every connection, those in use included after a moment."""
        self._pool.terminate()

    @property
    def busy_connections(self) -> int:
        """How many connections are in use."""
        return self._pool.get_size() - self._pool.get_idle_size()

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        """Lend a connection for single statements, each its own transaction."""
        try:
            connection = await self._pool.acquire(timeout=self._acquire_seconds)
        except Exception as error:
            meaning = meaning_of(error, sent=False)
            if meaning is None:
                raise
            raise meaning from error
        try:
            yield self._make_session(connection)
        except MillstreamError:
            raise
        except Exception as error:
            meaning = meaning_of(error, sent=True)
            if meaning is None:
                raise
            raise meaning from error
        finally:
            await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Session]:
        """Lend a connection within a transaction that waits seconds, not moments, for a lock."""
        async with self.session() as session, session.together():
            await session.one(_PATIENTLY, f"{PATIENT_LOCK_SECONDS}s")
            yield session

    @asynccontextmanager
    async def batch(self) -> AsyncGenerator[Session]:
        """Lend a connection within a transaction that waits seconds for a lock, under the plans of single statements.

        For statements over thousands of rows: by the statistics of a table that was empty a moment ago they would walk it
        whole for each of them.
        """
        async with self.session() as session, session.together():
            await session.one(_BATCH_PATIENTLY, f"{PATIENT_LOCK_SECONDS}s")
            yield session

    @asynccontextmanager
    async def tenant(self, tenant_id: int) -> AsyncGenerator[Session]:
        """Lend a connection within a transaction under the tenant role: row-level security applies."""
        async with self.session() as session, session.together():
            await session.one(_AS_TENANT, self.roles.tenant, str(tenant_id), f"{PATIENT_LOCK_SECONDS}s")
            yield session


class Roles:
    """The names of the four roles of an installation."""

    def __init__(
        self,
        owner: str = "millstream_owner",
        engine: str = "millstream_engine",
        tenant: str = "millstream_tenant",
        inline: str = "millstream_inline",
    ) -> None:
        self.owner = owner
        self.engine = engine
        self.tenant = tenant
        self.inline = inline

    def as_settings(self) -> dict[str, str]:
        """Return the names under the keys that `millstream.settings` keeps them by."""
        return {
            "role_owner": self.owner,
            "role_engine": self.engine,
            "role_tenant": self.tenant,
            "role_inline": self.inline,
        }


async def _leave_as_it_is(_: object) -> None:
    return None


async def _roll_back(session: Session) -> None:
    # A connection that is gone has rolled back by itself.
    try:
        await session.run("rollback")
    except (exceptions.PostgresError, exceptions.InterfaceError, OSError):
        return
