"""Schema changes: numbered, forward-only, checksummed, applied one at a time under a lock."""

import hashlib
import re
from collections.abc import Sequence
from importlib import resources

from msgspec import Struct

from millstream.domain.errors import MillstreamError
from millstream.store.database import Roles, Session

SCHEMA_VERSION_MIN = 1
_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_LOCK = 0x6D696C6C
_LOG = """create table if not exists millstream.schema_migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)"""


class SchemaError(MillstreamError):
    """The schema of the database does not fit this version of millstream"""


class Migration(Struct, frozen=True):
    """One numbered change of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What tells an edited file from the one that was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def list_migrations() -> list[Migration]:
    """Return every change of the schema that this version knows, in order."""
    found: list[Migration] = []
    for path in (resources.files("millstream.store") / "sql" / "migrations").iterdir():
        match = _FILE_NAME.fullmatch(path.name)
        if match is not None:
            found.append(Migration(int(match["number"]), match["name"], path.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def migration_sql(roles: Roles, migrations: Sequence[Migration] | None = None) -> str:
    """Return the SQL of `migrations` (all by default) for a DBA to run as owner, bookkeeping included."""
    parts = [f"set role {quoted(roles.owner)};", "create schema if not exists millstream;", f"{_LOG};"]
    for migration in list_migrations() if migrations is None else migrations:
        parts.append(f"-- {migration.version:04} {migration.name}")
        parts.append(with_roles(migration.sql, roles))
        parts.append(  # numbers, our own file names and hex digits
            "insert into millstream.schema_migrations (version, name, checksum)"  # noqa: S608
            f" values ({migration.version}, '{migration.name}', '{migration.checksum}');"
        )
    return "\n\n".join(["begin;", *parts, "commit;"]) + "\n"


def with_roles(sql: str, roles: Roles) -> str:
    """Write the chosen role names in the place of the default ones."""
    names = {
        "millstream_owner": roles.owner,
        "millstream_engine": roles.engine,
        "millstream_tenant": roles.tenant,
        "millstream_inline": roles.inline,
    }
    return re.sub(
        r"\bmillstream_(?:owner|engine|tenant|inline)\b", lambda match: quoted(names[match[0]]), sql
    )


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""') + '"'


async def applied_versions(session: Session) -> dict[int, str]:
    """Return the checksums of the changes that the database has, by version."""
    row = await session.one("select to_regclass('millstream.schema_migrations') is not null as known")
    if row is None or not row["known"]:
        return {}
    rows = await session.many("select version, checksum from millstream.schema_migrations order by version")
    return {int(row["version"]): str(row["checksum"]) for row in rows}


async def check_schema(session: Session) -> None:
    """Raise SchemaError unless this version of millstream can run on the database's schema."""
    applied = await applied_versions(session)
    known = {migration.version: migration.checksum for migration in list_migrations()}
    newest = max(known)
    if not applied:
        raise SchemaError("the database has no millstream schema: run `millstream db migrate`")
    current = max(applied)
    if current < SCHEMA_VERSION_MIN or current < newest:
        raise SchemaError(
            f"the schema is at version {current}, this server needs {newest}: run `millstream db migrate`"
        )
    # The next version is tolerated, so that servers can be restarted one by one after a migration.
    if current > newest + 1:
        raise SchemaError(
            f"the schema is at version {current}, this server knows {newest}: upgrade millstream"
        )
    _refuse_edited(applied, known)


async def lock(session: Session) -> None:
    """Wait for the right to change the schema; held until the session or transaction ends."""
    await session.run("set lock_timeout = '60s'")
    await session.one("select pg_advisory_lock($1)", _LOCK)


async def apply(session: Session, roles: Roles) -> list[Migration]:
    """Apply what is missing, each change in a transaction of its own, and return it. Call under `lock`."""
    applied = await applied_versions(session)
    migrations = list_migrations()
    _refuse_edited(applied, {migration.version: migration.checksum for migration in migrations})
    missing = [migration for migration in migrations if migration.version not in applied]
    for migration in missing:
        await _apply_one(session, migration, roles)
    return missing


async def _apply_one(session: Session, migration: Migration, roles: Roles) -> None:
    await session.run("begin")
    try:
        await session.run("set local lock_timeout = '5s'")
        await session.run("set local statement_timeout = '10min'")
        await session.run(f"set local role {quoted(roles.owner)}")
        await session.run("create schema if not exists millstream")
        await session.run(_LOG)
        await session.run(with_roles(migration.sql, roles))
        await session.run(
            "insert into millstream.schema_migrations (version, name, checksum) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
    except BaseException:
        await session.run("rollback")
        raise
    await session.run("commit")


def _refuse_edited(applied: dict[int, str], known: dict[int, str]) -> None:
    edited = [version for version, checksum in applied.items() if known.get(version, checksum) != checksum]
    if edited:
        raise SchemaError(f"migration {edited[0]:04} was applied with other contents than this version ships")
