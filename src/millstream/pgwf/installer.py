"""Installs the schema into a database, and tells whether it is there. Contract: pgwf 3."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from importlib import import_module
from typing import Protocol, cast

from millstream.pgwf.errors import InstallError, VerifyError
from millstream.pgwf.script import (
    DEFAULT_SCHEMA,
    render,
    render_body,
    render_settings_check,
    render_verification,
    require_schema_name,
)


class Rows(Protocol):
    """The rows of a statement, as psycopg's cursor hands them out."""

    def fetchall(self) -> Iterable[object]:
        """Return the rows that are left."""
        ...


class Connection(Protocol):
    """What is used of a psycopg connection."""

    def execute(self, query: str, /) -> Rows:
        """Run a statement without parameters."""
        ...

    def transaction(self) -> AbstractContextManager[object]:
        """Begin a transaction, or a savepoint within one."""
        ...


class AsyncConnection(Protocol):
    """What is used of an asyncpg connection."""

    async def execute(self, query: str, /) -> object:
        """Run statements without parameters."""
        ...

    async def fetch(self, query: str, /) -> Iterable[object]:
        """Return the rows of a statement."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Begin a transaction, or a savepoint within one."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


class Installer:
    """Installs `schema` over connections that `source` hands out: a DSN, or what opens a psycopg connection.

    Raises InvalidArgument for a name that a schema may not have here.
    """

    def __init__(
        self, source: str | Callable[[], AbstractContextManager[Connection]], *, schema: str = DEFAULT_SCHEMA
    ) -> None:
        self._open = _opener(source) if isinstance(source, str) else source
        self.schema = require_schema_name(schema)

    def render(self) -> str:
        """Return the whole script for this schema, for `psql` or a DBA."""
        return render(self.schema)

    def apply(self) -> None:
        """Install or upgrade in one transaction; data and switches are kept. Raises InstallError."""
        with self._open() as connection:
            try:
                with connection.transaction():
                    connection.execute(render_body(self.schema))
            except Exception as error:
                raise InstallError(f"{self.schema} could not be installed: {error}") from error

    def verify(self) -> None:
        """Return if everything is there; changes nothing. Raises VerifyError, which names all that is missing."""
        with self._open() as connection, connection.transaction():
            _complain(connection.execute(render_verification(self.schema)).fetchall())
            _require_settings(connection.execute(render_settings_check(self.schema)).fetchall())


class AsyncInstaller:
    """Installs `schema` over connections that `source` hands out: a DSN, or what opens an asyncpg connection.

    Raises InvalidArgument for a name that a schema may not have here.
    """

    def __init__(
        self,
        source: str | Callable[[], AbstractAsyncContextManager[AsyncConnection]],
        *,
        schema: str = DEFAULT_SCHEMA,
    ) -> None:
        self._open = _async_opener(source) if isinstance(source, str) else source
        self.schema = require_schema_name(schema)

    def render(self) -> str:
        """Return the whole script for this schema, for `psql` or a DBA."""
        return render(self.schema)

    async def apply(self) -> None:
        """Install or upgrade in one transaction; data and switches are kept. Raises InstallError."""
        async with self._open() as connection:
            try:
                async with connection.transaction():
                    await connection.execute(render_body(self.schema))
            except Exception as error:
                raise InstallError(f"{self.schema} could not be installed: {error}") from error

    async def verify(self) -> None:
        """Return if everything is there; changes nothing. Raises VerifyError, which names all that is missing."""
        async with self._open() as connection:
            _complain(await connection.fetch(render_verification(self.schema)))
            _require_settings(await connection.fetch(render_settings_check(self.schema)))


def _complain(found: Iterable[object]) -> None:
    missing = [cast("tuple[str]", row)[0] for row in found]
    if missing:
        raise VerifyError(missing)


def _require_settings(found: Iterable[object]) -> None:
    if not list(found):
        raise VerifyError(["the row of settings"])


def _opener(dsn: str) -> Callable[[], AbstractContextManager[Connection]]:
    def connect() -> AbstractContextManager[Connection]:
        # Whoever has another driver does not need this one.
        psycopg = import_module("psycopg")
        return cast("AbstractContextManager[Connection]", psycopg.connect(dsn, autocommit=True))

    return connect


def _async_opener(dsn: str) -> Callable[[], AbstractAsyncContextManager[AsyncConnection]]:
    @asynccontextmanager
    async def connect() -> AsyncGenerator[AsyncConnection]:
        connection = cast("AsyncConnection", await import_module("asyncpg").connect(dsn))
        try:
            yield connection
        finally:
            await connection.close()

    return connect
