"""Installs the schema into a database, and tells whether it is there. Contract: pgwf 3."""

from millstream.drivers import Rows, execute, execute_async, sqlstate_of
from millstream.pgwf.arguments import require_text
from millstream.pgwf.channels import quoted
from millstream.pgwf.errors import InstallError, VerifyError
from millstream.pgwf.script import (
    DEFAULT_SCHEMA,
    render,
    render_body,
    render_grants,
    render_settings_check,
    render_verification,
    require_schema_name,
)
from millstream.pgwf.sources import (
    opener_of,
    opener_of_async,
    run_plain,
    run_plain_async,
    transaction,
    transaction_async,
)


class Installer:
    """Installs `schema` over connections that `source` hands out.

    `source` is a DSN, a psycopg pool, SQLAlchemy's Engine, or a callable that returns a context manager of a connection.
    Raises TypeError for anything else, InvalidArgument for a name that a schema may not have here.
    """

    def __init__(self, source: object, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._open = opener_of(source)
        self.schema = require_schema_name(schema)

    def render(self) -> str:
        """Return the whole script for this schema, for `psql` or a DBA."""
        return render(self.schema)

    def apply(self) -> None:
        """Install or upgrade in one transaction; data and switches are kept. Raises InstallError."""
        self._run(render_body(self.schema), f"{self.schema} could not be installed")

    def grant(self, role: str) -> None:
        """Let a role submit and work on jobs; the switches stay the owner's. Raises InvalidArgument, InstallError."""
        grants = render_grants(self.schema, quoted(require_text(role, "role")))
        self._run(grants, f"{self.schema} could not be granted to {role}")

    def verify(self) -> None:
        """Return if everything is there; changes nothing. Raises VerifyError, which names all that is missing."""
        with self._open() as connection, transaction(connection):
            _complain(execute(connection, render_verification(self.schema), {}))
            _require_settings(execute(connection, render_settings_check(self.schema), {}))

    def _run(self, script: str, failure: str) -> None:
        with self._open() as connection:
            try:
                with transaction(connection):
                    run_plain(connection, script)
            except Exception as error:
                raise InstallError(f"{failure}: {error}", sqlstate=sqlstate_of(error)) from error


class AsyncInstaller:
    """Installs `schema` over connections that `source` hands out.

    `source` is a DSN, a pool of asyncpg or psycopg, SQLAlchemy's AsyncEngine, or a callable that returns an asynchronous
    context manager of a connection. Raises TypeError for anything else, InvalidArgument for a name that a schema may
    not have here.
    """

    def __init__(self, source: object, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._open = opener_of_async(source)
        self.schema = require_schema_name(schema)

    def render(self) -> str:
        """Return the whole script for this schema, for `psql` or a DBA."""
        return render(self.schema)

    async def apply(self) -> None:
        """Install or upgrade in one transaction; data and switches are kept. Raises InstallError."""
        await self._run(render_body(self.schema), f"{self.schema} could not be installed")

    async def grant(self, role: str) -> None:
        """Let a role submit and work on jobs; the switches stay the owner's. Raises InvalidArgument, InstallError."""
        grants = render_grants(self.schema, quoted(require_text(role, "role")))
        await self._run(grants, f"{self.schema} could not be granted to {role}")

    async def verify(self) -> None:
        """Return if everything is there; changes nothing. Raises VerifyError, which names all that is missing."""
        async with self._open() as connection, transaction_async(connection):
            _complain(await execute_async(connection, render_verification(self.schema), {}))
            _require_settings(await execute_async(connection, render_settings_check(self.schema), {}))

    async def _run(self, script: str, failure: str) -> None:
        async with self._open() as connection:
            try:
                async with transaction_async(connection):
                    await run_plain_async(connection, script)
            except Exception as error:
                raise InstallError(f"{failure}: {error}", sqlstate=sqlstate_of(error)) from error


def _complain(missing: Rows) -> None:
    if missing:
        raise VerifyError([name for (name,) in missing])


def _require_settings(found: Rows) -> None:
    if not found:
        raise VerifyError(["the row of settings"])
