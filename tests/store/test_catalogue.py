"""Row-level security, table by table, as the catalogue has it and as a tenant meets it."""

from collections.abc import Mapping
from uuid import uuid4

import asyncpg
import pytest

from tests.store.conftest import Connect

# What belongs to no tenant. The tenant role may not read any of it.
WITHOUT_TENANT = {"settings", "leaders", "processes", "removed_tenants", "schema_migrations", "sign_in_codes"}
# The tenants themselves are rows of their own tenant by another name.
TENANT_COLUMN: Mapping[str, str] = {"tenants": "id"}
POLICIES = {
    "owner_all": "millstream_owner",
    "engine_all": "millstream_engine",
    "tenant_own": "millstream_tenant",
}
_TABLES = """select c.oid, c.relname::text as name, c.relrowsecurity, c.relforcerowsecurity,
    exists (
        select from pg_attribute as a
        where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    ) as has_tenant
from pg_class as c
where c.relnamespace = 'millstream'::regnamespace and c.relkind in ('r', 'p')
order by c.relname"""


async def assert_protected(connection: asyncpg.Connection) -> list[str]:
    protected: list[str] = []
    for table in await connection.fetch(_TABLES):
        name = table["name"]
        if name in WITHOUT_TENANT:
            assert not table["has_tenant"], name
            continue
        assert table["has_tenant"] or name in TENANT_COLUMN, f"{name} has no tenant and is on no list"
        assert table["relrowsecurity"], f"{name} has no row-level security"
        assert table["relforcerowsecurity"], f"{name} does not force it"
        policies = await connection.fetch(
            "select policyname::text as policy, roles::text[] as roles, qual, with_check, permissive, cmd"
            " from pg_policies where schemaname = 'millstream' and tablename = $1",
            name,
        )
        assert {row["policy"]: row["roles"] for row in policies} == {
            policy: [role] for policy, role in POLICIES.items()
        }, name
        own = next(row for row in policies if row["policy"] == "tenant_own")
        column = TENANT_COLUMN.get(name, "tenant_id")
        for rule in (own["qual"], own["with_check"]):
            assert f"{column} =" in rule, name
            assert "millstream.tenant_id" in rule, name
        protected.append(name)
    return protected


async def test_every_table_with_a_tenant_forces_its_policies(connection: asyncpg.Connection) -> None:
    protected = await assert_protected(connection)
    assert {"jobs", "jobs_dead", "jobs_done", "jobs_done_rest", "tenants", "api_keys"} <= set(protected)


async def test_a_partition_added_later_forces_them_too(connection: asyncpg.Connection) -> None:
    before = await assert_protected(connection)
    await connection.execute("set role millstream_owner")
    added = await connection.fetchval("select millstream.add_done_partition(now() + interval '1 year')")
    assert added is True
    again = await connection.fetchval("select millstream.add_done_partition(now() + interval '1 year')")
    assert again is False
    await connection.execute("reset role")
    after = await assert_protected(connection)
    [partition] = set(after) - set(before)
    assert partition.startswith("jobs_done_2")


async def test_a_table_without_policies_would_be_found(connection: asyncpg.Connection) -> None:
    await connection.execute("set role millstream_owner")
    await connection.execute("create table millstream.careless (tenant_id int)")
    await connection.execute("reset role")
    with pytest.raises(AssertionError, match="careless"):
        await assert_protected(connection)


async def test_every_view_applies_the_rights_of_its_reader(connection: asyncpg.Connection) -> None:
    views = await connection.fetch(
        "select relname::text as name, reloptions from pg_class"
        " where relnamespace = 'millstream'::regnamespace and relkind in ('v', 'm') order by 1"
    )
    assert [view["name"] for view in views] == ["all_counters", "all_jobs"]
    assert all("security_invoker=true" in view["reloptions"] for view in views)


# Columns that a row of any tenant table needs; what is not named here has a default or may be null.
_VALUES: Mapping[str, str] = {
    "uuid": "gen_random_uuid()",
    "text": "md5(random()::text)",
    "bytea": "sha256(random()::text::bytea)",
    "smallint": "1",
    "integer": "1",
    "bigint": "1",
    "boolean": "true",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "ARRAY": "'{1}'",
}
# Where the checks of a table want something else.
_SPECIAL: Mapping[tuple[str, str], str] = {
    ("jobs_done", "state"): "7",
    ("job_events", "kind"): "4",
    ("schedule_runs", "status"): "3",
}
# Columns that may be null, but not in every row.
_OPTIONAL: Mapping[str, Mapping[str, str]] = {
    "outgoing_deliveries": {"url": "'https://example.com/'", "next_attempt_at": "now()"},
    "schedule_runs": {"job_id": "gen_random_uuid()"},
}


async def tenant_tables(connection: asyncpg.Connection) -> list[str]:
    """Return the names of all tables whose rows belong to tenants, partitions included."""
    return [table["name"] for table in await connection.fetch(_TABLES) if table["has_tenant"]]


async def insertion(connection: asyncpg.Connection, table: str, tenant_id: int) -> str:
    """Return a statement that inserts a row of `tenant_id` into `table`."""
    columns = await connection.fetch(
        "select column_name::text as name, data_type from information_schema.columns where table_schema ="
        " 'millstream' and table_name = $1 and is_nullable = 'NO' and column_default is null"
        " and is_identity = 'NO'",
        table,
    )
    parent = "jobs_done" if table.startswith("jobs_done") else table
    values = [
        str(tenant_id)
        if column["name"] == "tenant_id"
        else _SPECIAL.get((parent, column["name"]), _VALUES[column["data_type"]])
        for column in columns
    ]
    optional = _OPTIONAL.get(parent, {})
    names = ", ".join(f'"{name}"' for name in [*(column["name"] for column in columns), *optional])
    values += optional.values()
    return f"insert into millstream.{table} ({names}) values ({', '.join(values)})"


async def fill(connection: asyncpg.Connection, tenant_id: int) -> list[str]:
    """Insert one row of `tenant_id` into every table that has one; returns the names of all tenant tables."""
    tables = await tenant_tables(connection)
    for table in tables:
        # Partitions are filled through the table that they belong to.
        if not table.startswith("jobs_done_"):
            await connection.execute(await insertion(connection, table, tenant_id))
    return tables


async def rows_of(connection: asyncpg.Connection, tables: list[str], tenant_id: int) -> dict[str, list[str]]:
    """Return every row of a tenant as text, by table."""
    return {
        table: [
            row[0]
            for row in await connection.fetch(
                f"select t::text from millstream.{table} as t where tenant_id = $1", tenant_id
            )
        ]
        for table in tables
    }


async def run_as_tenant(connection: asyncpg.Connection, setting: str | None, statement: str) -> str:
    """Run a statement in a transaction under the tenant role; returns what the database says it did."""
    async with connection.transaction():
        await become_tenant(connection, setting)
        return await connection.execute(statement)


async def become_tenant(connection: asyncpg.Connection, setting: str | None) -> None:
    """Take the tenant role until the transaction ends, with or without saying for whom."""
    await connection.execute("set local role millstream_tenant")
    if setting is not None:
        await connection.execute("select set_config('millstream.tenant_id', $1, true)", setting)


async def make_tenants(connection: asyncpg.Connection) -> tuple[int, int]:
    made = [
        await connection.fetchval(
            "insert into millstream.tenants (public_id, slug, name) values ($1, $1, 'x') returning id",
            str(uuid4()),
        )
        for _ in range(2)
    ]
    return int(made[0] or 0), int(made[1] or 0)


async def count_as_tenant(
    connection: asyncpg.Connection, tables: list[str], setting: str | None
) -> dict[str, int]:
    counts: dict[str, int] = {}
    async with connection.transaction():
        await become_tenant(connection, setting)
        for table in tables:
            counts[table] = await connection.fetchval(f"select count(*) from millstream.{table}") or 0
    return counts


async def test_a_tenant_sees_its_own_rows_and_nothing_else(connection: asyncpg.Connection) -> None:
    one, other = await make_tenants(connection)
    await connection.execute("set role millstream_engine")
    tables = await fill(connection, one)
    # A finished job of an id made before there were partitions, and one within each kind of partition.
    await connection.execute("reset role")
    queried = [*tables, "tenants", "all_jobs"]
    everything = {
        table: await connection.fetchval(f"select count(*) from millstream.{table}") or 0 for table in queried
    }
    assert all(everything[table] > 0 for table in queried if not table.startswith("jobs_done_2"))

    assert set((await count_as_tenant(connection, queried, None)).values()) == {0}
    assert set((await count_as_tenant(connection, queried, "")).values()) == {0}
    foreign = await count_as_tenant(connection, queried, str(other))
    # A tenant without rows sees itself.
    assert {table for table, count in foreign.items() if count} == {"tenants"}
    own = await count_as_tenant(connection, queried, str(one))
    assert own == {**everything, "tenants": 1}


@pytest.mark.parametrize("setting", [None, "", "0", "-1", "2147483647", "other"])
async def test_without_its_own_setting_a_tenant_changes_no_row_of_any_table(
    connection: asyncpg.Connection, setting: str | None
) -> None:
    one, other = await make_tenants(connection)
    tables = await fill(connection, one)
    before = await rows_of(connection, tables, one)
    setting = str(other) if setting == "other" else setting
    for table in tables:
        # Any column does: no row may be there to change.
        updated = await run_as_tenant(
            connection, setting, f"update millstream.{table} set tenant_id = tenant_id"
        )
        deleted = await run_as_tenant(connection, setting, f"delete from millstream.{table}")
        assert (updated, deleted) == ("UPDATE 0", "DELETE 0"), table
    for statement in ("update millstream.tenants set name = name", "delete from millstream.tenants"):
        done = await run_as_tenant(connection, setting, f"{statement} where id = {one}")
        assert done.endswith(" 0"), statement
    assert await rows_of(connection, tables, one) == before


@pytest.mark.parametrize("setting", [None, "", "other"])
async def test_a_tenant_inserts_no_row_of_another_into_any_table(
    connection: asyncpg.Connection, setting: str | None
) -> None:
    one, other = await make_tenants(connection)
    setting = str(other) if setting == "other" else setting
    insertions = [await insertion(connection, table, one) for table in await tenant_tables(connection)]
    insertions.append("insert into millstream.tenants (public_id, slug, name) values ('x', 'x', 'x')")
    for insert in insertions:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run_as_tenant(connection, setting, insert)


@pytest.mark.parametrize("setting", ["x", "1 or true", "1.5", "99999999999", "1; drop table millstream.jobs"])
async def test_a_setting_that_is_no_tenant_shows_nothing(
    connection: asyncpg.Connection, setting: str
) -> None:
    one, _ = await make_tenants(connection)
    tables = await fill(connection, one)
    for table in (*tables, "tenants"):
        with pytest.raises(asyncpg.DataError):
            await run_as_tenant(connection, setting, f"select from millstream.{table}")


async def test_a_row_cannot_be_handed_to_another_tenant(connection: asyncpg.Connection) -> None:
    one, other = await make_tenants(connection)
    for table, rows in (await rows_of(connection, await fill(connection, one), one)).items():
        # Partitions of weeks without jobs hold none; their policies are those of the others.
        if rows:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await run_as_tenant(
                    connection, str(one), f"update millstream.{table} set tenant_id = {other}"
                )


async def test_secrets_of_the_installation_are_out_of_a_tenants_reach(connect: Connect) -> None:
    connection = await connect()
    await connection.execute("set role millstream_tenant")
    for table in sorted(WITHOUT_TENANT):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"select * from millstream.{table}")


async def test_the_role_of_inline_calls_reads_no_table(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select c.relname::text as name from pg_class as c where c.relnamespace = 'millstream'::regnamespace"
        " and c.relkind in ('r', 'p', 'v') and has_table_privilege('millstream_inline', c.oid, 'select')"
    )
    assert rows == []
