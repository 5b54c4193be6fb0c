import os
import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from millstream.embedded.binaries import find_binaries
from millstream.store import installation, migrations
from millstream.store.database import SESSION_DEFAULTS, Database, Roles, Session
from millstream.store.installation import InstallationError, direct_session, read_roles
from millstream.store.migrations import SchemaError, check_schema, list_migrations, migration_sql
from tests.conftest import Cluster

# Everything that a migration makes, as text: two databases with the same lines have the same schema.
_CATALOGUE = """select line from (
    select format('table %s %s rls %s %s options %s', c.relkind, c.relname, c.relrowsecurity, c.relforcerowsecurity,
        c.reloptions::text) as line
    from pg_class as c where c.relnamespace = 'millstream'::regnamespace
    union all
    select format('column %s.%s %s %s default %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
    from pg_class as c
    join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
    left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'millstream'::regnamespace
    union all
    select format('index %s', pg_get_indexdef(i.indexrelid))
    from pg_index as i join pg_class as c on c.oid = i.indrelid
    where c.relnamespace = 'millstream'::regnamespace
    union all
    select format('constraint %s %s %s', n.conrelid::regclass, n.conname, pg_get_constraintdef(n.oid))
    from pg_constraint as n where n.connamespace = 'millstream'::regnamespace
    union all
    select format('policy %s %s %s %s %s', tablename, policyname, roles, qual, with_check)
    from pg_policies where schemaname = 'millstream'
    union all
    select format('function %s', pg_get_functiondef(p.oid)) from pg_proc as p
    where p.pronamespace = 'millstream'::regnamespace
    union all
    select format('view %s', pg_get_viewdef(c.oid)) from pg_class as c
    where c.relnamespace = 'millstream'::regnamespace and c.relkind = 'v'
    union all
    select format('rights %s %s', c.relname, c.relacl) from pg_class as c
    where c.relnamespace = 'millstream'::regnamespace
    union all
    select format('version %s %s %s', version, name, checksum) from millstream.schema_migrations
) as everything order by line"""


async def catalogue(session: Session) -> list[str]:
    return [row["line"] for row in await session.many(_CATALOGUE)]


@pytest.fixture
async def empty_dsn(cluster: Cluster) -> AsyncIterator[str]:
    """A database that belongs to the owner's role and has nothing in it."""
    name = f"empty_{secrets.token_hex(6)}"
    async with direct_session(cluster.superuser_dsn) as session:
        await session.run(f"create database {name} owner millstream_owner template template0")
    yield cluster.dsn_of(name)
    async with direct_session(cluster.superuser_dsn) as session:
        await session.run(f"drop database {name} with (force)")


async def test_an_empty_database_gets_every_migration_once(empty_dsn: str) -> None:
    async with direct_session(empty_dsn) as session:
        with pytest.raises(SchemaError, match="millstream db migrate"):
            await check_schema(session)
        await migrations.lock(session)
        applied = await installation.migrate(session, Roles())
        assert [migration.version for migration in applied] == [
            migration.version for migration in list_migrations()
        ]
        await check_schema(session)
        before = await catalogue(session)
        settings = await session.many("select key, value from millstream.settings order by key")

        assert await installation.migrate(session, Roles()) == []
        assert await catalogue(session) == before
        # Above all the pepper: another one would refuse every API key.
        assert await session.many("select key, value from millstream.settings order by key") == settings


async def test_versions_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in list_migrations()] == list(
        range(1, len(list_migrations()) + 1)
    )


async def test_a_migration_that_was_edited_after_it_was_applied_is_refused(database: Database) -> None:
    async with database.session() as session:
        await session.run("update millstream.schema_migrations set checksum = 'another' where version = 1")
        with pytest.raises(SchemaError, match="0001"):
            await check_schema(session)
        with pytest.raises(SchemaError, match="0001"):
            await migrations.apply(session, Roles())


async def test_the_next_version_is_tolerated_and_the_one_after_it_refused(database: Database) -> None:
    newest = list_migrations()[-1].version
    async with database.session() as session:
        insert = (
            "insert into millstream.schema_migrations (version, name, checksum) values ($1, 'later', 'x')"
        )
        await session.run(insert, newest + 1)
        await check_schema(session)
        await session.run(insert, newest + 2)
        with pytest.raises(SchemaError, match="upgrade millstream"):
            await check_schema(session)


async def test_an_older_schema_is_refused_with_the_command_that_helps(database: Database) -> None:
    async with database.session() as session:
        await session.run(
            "delete from millstream.schema_migrations where version = $1", list_migrations()[-1].version
        )
        with pytest.raises(SchemaError, match="millstream db migrate"):
            await check_schema(session)


async def test_a_failing_migration_leaves_nothing_behind(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = migrations.Migration(1, "broken", "create table millstream.half (id int); select 1 / 0;")
    monkeypatch.setattr(migrations, "list_migrations", lambda: [broken])
    async with direct_session(empty_dsn) as session:
        with pytest.raises(Exception, match="division by zero"):
            await session_apply(session)
        row = await session.one("select to_regnamespace('millstream') is null as absent")
        assert row is not None
        assert row["absent"]


async def session_apply(session: Session) -> None:
    await migrations.apply(session, Roles())


async def test_the_printed_sql_makes_the_same_schema_through_psql(
    empty_dsn: str, database: Database, tmp_path: Path
) -> None:
    script = tmp_path / "schema.sql"
    script.write_text(migration_sql(Roles()), encoding="utf-8")
    configured = os.environ.get("MILLSTREAM_POSTGRES_BIN_DIR")
    binaries = find_binaries(Path(configured) if configured else None)
    psql = binaries.path("psql")
    run = subprocess.run(  # noqa: ASYNC221 - nothing else runs meanwhile
        [str(psql), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-f", str(script), empty_dsn],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    async with direct_session(empty_dsn) as session:
        printed = await catalogue(session)
        await check_schema(session)
    async with database.session() as session:
        assert printed == await catalogue(session)


async def test_the_chosen_role_names_are_used_and_found_again(cluster: Cluster) -> None:
    name = f"named_{secrets.token_hex(4)}"
    roles = Roles(f"{name}-Owner", f"{name}_engine", f"{name}_tenant", f"{name}_inline")
    async with direct_session(cluster.superuser_dsn) as session:
        await session.run(f"create role {name} login createrole")
        await session.run(f"create database {name} owner {name} template template0")
    dsn = cluster.dsn_of(name).replace("user=millstream", f"user={name}").replace("millstream@", f"{name}@")
    assert name in (urlsplit(dsn).username or "") or name in parse_qs(urlsplit(dsn).query).get("user", [])
    try:
        async with direct_session(dsn) as session:
            await migrations.lock(session)
            await installation.prepare_external_database(session, roles)
            await installation.migrate(session, roles)
            await check_schema(session)
            found = await read_roles(session)
            assert found.as_settings() == roles.as_settings()
            rows = await session.many(
                "select distinct unnest(roles)::text as role from pg_policies where schemaname = 'millstream'"
            )
            assert {row["role"] for row in rows} == {roles.owner, roles.engine, roles.tenant}
        opened = await Database.open(dsn, roles=roles, min_size=1, max_size=2)
        try:
            async with opened.tenant(7) as session:
                row = await session.one(
                    "select current_user::text as role, count(*) as jobs from millstream.jobs"
                )
                assert row is not None
                assert (row["role"], row["jobs"]) == (roles.tenant, 0)
            async with opened.session() as session:
                for setting, value in SESSION_DEFAULTS.items():
                    row = await session.one("select current_setting($1) as value", setting)
                    assert row is not None
                    assert row["value"] == value, setting
        finally:
            await opened.close()
    finally:
        async with direct_session(cluster.superuser_dsn) as session:
            await session.run(f"drop database {name} with (force)")
            for role in (roles.owner, roles.engine, roles.tenant, roles.inline, name):
                await session.run(f'drop role if exists "{role}"')


async def test_a_user_that_may_not_create_roles_is_told_what_a_dba_must_run(cluster: Cluster) -> None:
    name = f"weak_{secrets.token_hex(4)}"
    async with direct_session(cluster.superuser_dsn) as session:
        await session.run(f"create role {name} login")
        await session.run(f"create database {name} owner {name} template template0")
    dsn = cluster.dsn_of(name).replace("user=millstream", f"user={name}").replace("millstream@", f"{name}@")
    roles = Roles(f"{name}_o", f"{name}_e", f"{name}_t", f"{name}_i")
    try:
        async with direct_session(dsn) as session:
            with pytest.raises(InstallationError, match=f"create role {name}_o nologin") as refused:
                await installation.prepare_external_database(session, roles)
        assert f"grant {name}_t to {name};" in refused.value.message
        assert f"grant create on database {name} to {name}_o;" in refused.value.message
        # What the text says is enough.
        statements = [line.strip() for line in refused.value.message.splitlines()[1:]]
        async with direct_session(cluster.superuser_dsn) as session:
            for statement in statements:
                await session.run(statement)
        async with direct_session(dsn) as session:
            await installation.prepare_external_database(session, roles)
            await installation.migrate(session, roles)
            await check_schema(session)
    finally:
        async with direct_session(cluster.superuser_dsn) as session:
            await session.run(f"drop database {name} with (force)")
            for role in (roles.owner, roles.engine, roles.tenant, roles.inline, name):
                await session.run(f'drop role if exists "{role}"')


async def test_two_that_migrate_at_once_apply_each_change_once(empty_dsn: str) -> None:
    import asyncio

    async def migrate() -> int:
        async with direct_session(empty_dsn) as session:
            await migrations.lock(session)
            return len(await installation.migrate(session, Roles()))

    applied = await asyncio.gather(migrate(), migrate(), migrate())
    assert sorted(applied) == [0, 0, len(list_migrations())]
