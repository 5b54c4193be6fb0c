"""`millstream db`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from millstream.cli.data_dir import default_data_dir
from millstream.cli.embedded_database import SUPERUSER, find_dsn
from millstream.cli.explain import explained
from millstream.cli.failure import CommandFailed
from millstream.cli.output import Json, console, print_json
from millstream.cli.psql import find_psql, query, run_psql
from millstream.cli.quiet import log_warnings_only
from millstream.cli.settings import load_settings
from millstream.config import Config
from millstream.embedded import EmbeddedServer, find_binaries
from millstream.store.database import Roles
from millstream.store.installation import EMBEDDED_DATABASE
from millstream.store.migrations import migration_sql

commands = App(name="db", help="Reach and migrate the database.")

DataDir = Annotated[Path | None, Parameter(help="Data directory of the embedded PostgreSQL.")]
User = Annotated[str, Parameter(help="Database user; the default may do everything.")]
SettingsFile = Annotated[Path | None, Parameter(help="Settings file (default: millstream.toml, if any).")]


@commands.command
def url(
    *, data_dir: DataDir = None, user: User = SUPERUSER, config: SettingsFile = None, json: Json = False
) -> None:
    """Print the URL of the running embedded database; starts nothing."""
    place = _embedded_place(_settings(data_dir, config))
    with explained():
        found = find_dsn(place, user=user)
    if found is None:
        raise CommandFailed(
            f"the database of {place} does not run", f"Start it: millstream serve --data-dir {place}"
        )
    if json:
        print_json({"url": found})
    else:
        print(found)


@commands.command
def shell(
    *,
    command: Annotated[
        str | None, Parameter(alias="-c", help="Run this SQL and end, instead of asking for more.")
    ] = None,
    data_dir: DataDir = None,
    user: User = SUPERUSER,
    config: SettingsFile = None,
    json: Json = False,
) -> int:
    """Open psql on the database; an embedded one that does not run is started meanwhile."""
    if json and command is None:
        raise CommandFailed("--json needs --command", "millstream db shell --json --command 'table …'")
    settings = _settings(data_dir, config)
    with explained():
        return asyncio.run(_shell(settings, user, command, as_json=json))


@commands.command
def migrate(
    *,
    sql: Annotated[
        bool, Parameter(negative=(), help="Print the whole schema as SQL for a DBA, change nothing.")
    ] = False,
    data_dir: DataDir = None,
    config: SettingsFile = None,
    json: Json = False,
) -> None:
    """Bring the database's schema to this version.

    On an empty external database it also makes the first organization and API key, and prints them once.
    """
    if sql:
        text = migration_sql(Roles())
        if json:
            print_json({"sql": text})
        else:
            print(text, end="")
        return
    from millstream.app import migrate as migrate_database
    from millstream.serving.credentials_file import credentials_of, keep_keys

    settings = _settings(data_dir, config)
    with explained():
        migrated = asyncio.run(migrate_database(settings))
    if migrated.credentials is not None and settings.database.data_dir is not None:
        # The server that will serve this directory publishes them.
        keep_keys(settings.database.data_dir, credentials_of(migrated.credentials))
    if json:
        print_json(migrated)
        return
    console.print(
        f"Applied: {', '.join(migrated.applied)}" if migrated.applied else "The schema is this version's."
    )
    if migrated.credentials is not None:
        console.print(f"Organization: {migrated.credentials.organization_id}")
        console.print(f"API key: {migrated.credentials.api_key}", soft_wrap=True)
        console.print("Keep the key: this is the only time it is shown.")


def _settings(data_dir: Path | None, file: Path | None) -> Config:
    """Read the settings; a data directory that is named outweighs a configured external database."""
    log_warnings_only()
    settings = load_settings({}, file=file)
    if data_dir is None and settings.database.url is not None:
        return settings
    place = (data_dir or settings.database.data_dir or default_data_dir()).expanduser().resolve()
    database = msgspec.structs.replace(settings.database, url=None, direct_url=None, data_dir=place)
    return msgspec.structs.replace(settings, database=database)


def _embedded_place(settings: Config) -> Path:
    if settings.database.data_dir is None or settings.database.url is not None:
        # Its address holds a password, which must not land in a scrollback or a log.
        raise CommandFailed(
            "the database is an external one",
            "Its URL is the DATABASE_URL that you gave; or name a --data-dir.",
        )
    return settings.database.data_dir


async def _shell(settings: Config, user: str, command: str | None, *, as_json: bool) -> int:
    psql = find_psql(settings.database.postgres_bin_dir)
    async with _reachable(settings, user) as dsn:
        if as_json and command is not None:
            print_json(await query(psql, dsn, command))
            return 0
        return await run_psql(psql, dsn, command)


@asynccontextmanager
async def _reachable(settings: Config, user: str) -> AsyncGenerator[str]:
    external = settings.database.direct_url or settings.database.url
    if external is not None:
        yield external.reveal()
        return
    place = _embedded_place(settings)
    if not (place / "postgres").exists():
        raise CommandFailed(
            f"there is no database in {place}", f"Make it: millstream serve --data-dir {place}"
        )
    server = await EmbeddedServer.open(place, binaries=find_binaries(settings.database.postgres_bin_dir))
    try:
        yield server.dsn(user=user, database=EMBEDDED_DATABASE)
    finally:
        await server.close()
