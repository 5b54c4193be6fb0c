"""Makes a database ready: roles, database, schema, session defaults, the facts of the installation."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
from asyncpg import exceptions

from millstream.domain.errors import MillstreamError
from millstream.store import migrations
from millstream.store.database import (
    APPLICATION_NAME,
    CONNECT_SECONDS,
    SESSION_DEFAULTS,
    Driver,
    Roles,
    Session,
    meaning_of,
)
from millstream.store.migrations import Migration, quoted

EMBEDDED_DATABASE = "millstream"
EMBEDDED_LOGIN = "millstream"


class InstallationError(MillstreamError):
    """The database could not be made ready"""


@asynccontextmanager
async def direct_session(dsn: str) -> AsyncGenerator[Session]:
    """Open a connection of its own, past any pooler: for schema changes and upkeep."""
    try:
        connection = cast(
            "Driver",
            await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType] - it ships no types
                dsn,
                timeout=int(CONNECT_SECONDS),
                server_settings={"application_name": f"{APPLICATION_NAME} upkeep"},
            ),
        )
    except Exception as error:
        meaning = meaning_of(error, sent=False)
        if meaning is None:
            raise
        raise meaning from error
    try:
        yield Session(connection)
    except MillstreamError:
        raise
    except Exception as error:
        meaning = meaning_of(error, sent=True)
        if meaning is None:
            raise
        raise meaning from error
    finally:
        await connection.close()


async def create_embedded_database(superuser_dsn: str, roles: Roles) -> None:
    """Create the roles, the login and the database of an embedded server, where missing."""
    async with direct_session(superuser_dsn) as session:
        await session.one("select pg_advisory_lock(1)")
        await _create_roles(session, roles)
        if await session.one("select 1 from pg_roles where rolname = $1", EMBEDDED_LOGIN) is None:
            await session.run(f"create role {EMBEDDED_LOGIN} login")
        await _grant_roles(session, roles, EMBEDDED_LOGIN)
        await _set_defaults(session, EMBEDDED_LOGIN, database=None)
        await session.run(f"grant pg_read_all_stats to {EMBEDDED_LOGIN}")
        if await session.one("select 1 from pg_database where datname = $1", EMBEDDED_DATABASE) is None:
            await session.run(f"create database {EMBEDDED_DATABASE} owner {quoted(roles.owner)}")


async def prepare_external_database(session: Session, roles: Roles) -> None:
    """Create the roles beside an existing database and let its user act as them.

    Raises InstallationError with the statements for a DBA when the user may not.
    """
    row = await session.one("select current_user::text as login, current_database()::text as database")
    login, database = (str(row["login"]), str(row["database"])) if row is not None else ("", "")
    try:
        await _create_roles(session, roles)
        await _grant_roles(session, roles, login)
        await session.run(f"grant create on database {quoted(database)} to {quoted(roles.owner)}")
    except exceptions.InsufficientPrivilegeError as error:
        raise InstallationError(_dba_text(roles, login, database)) from error
    await _set_defaults(session, login, database=database)


async def migrate(session: Session, roles: Roles) -> list[Migration]:
    """Apply missing schema changes and note the facts of the installation. Call under `migrations.lock`."""
    applied = await migrations.apply(session, roles)
    facts = {
        **roles.as_settings(),
        "api_key_pepper": secrets.token_hex(32),
        "jwt_secret": secrets.token_hex(32),
    }
    await session.run("begin")
    await session.run(f"set local role {quoted(roles.owner)}")
    for key, value in facts.items():
        await session.run(
            "insert into millstream.settings (key, value) values ($1, $2) on conflict (key) do nothing",
            key,
            value,
        )
    await session.run("commit")
    return applied


async def note_admin_key(session: Session, admin_key: str) -> None:
    """Note the digest of the administration key that the first start made; the key itself is not kept."""
    await session.run(
        "insert into millstream.settings (key, value) values ('admin_key_sha256', encode(sha256($1::bytea), 'hex'))",
        admin_key.encode(),
    )


async def read_roles(session: Session) -> Roles:
    """Return the role names that this installation was made with."""
    rows = await session.many("select key, value from millstream.settings where key like 'role\\_%'")
    names = {str(row["key"]): str(row["value"]) for row in rows}
    return Roles(names["role_owner"], names["role_engine"], names["role_tenant"], names["role_inline"])


async def _create_roles(session: Session, roles: Roles) -> None:
    for name in (roles.owner, roles.engine, roles.tenant, roles.inline):
        if await session.one("select 1 from pg_roles where rolname = $1", name) is None:
            await session.run(f"create role {quoted(name)} nologin")


async def _grant_roles(session: Session, roles: Roles, login: str) -> None:
    for name in (roles.owner, roles.engine, roles.tenant):
        # Not 'member': who creates a role is one from PostgreSQL 16 on, yet may neither act as it nor inherit.
        row = await session.one("select pg_has_role($1, $2, 'usage') as granted", login, name)
        if row is None or not row["granted"]:
            await session.run(f"grant {quoted(name)} to {quoted(login)}")


async def _set_defaults(session: Session, login: str, *, database: str | None) -> None:
    scope = "" if database is None else f" in database {quoted(database)}"
    for name, value in SESSION_DEFAULTS.items():
        await session.run(f"alter role {quoted(login)}{scope} set {name} = '{value}'")


def _dba_text(roles: Roles, login: str, database: str) -> str:
    names = [roles.owner, roles.engine, roles.tenant, roles.inline]
    lines = [f"create role {quoted(name)} nologin;" for name in names]
    lines += [f"grant {quoted(name)} to {quoted(login)};" for name in names[:3]]
    lines.append(f"grant create on database {quoted(database)} to {quoted(roles.owner)};")
    return "this user may not create roles; have a DBA run:\n" + "\n".join(f"  {line}" for line in lines)
