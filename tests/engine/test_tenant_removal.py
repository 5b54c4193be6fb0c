"""What is left of a tenant that was removed: nothing. Contract: spooled-tenancy 3.5, 6.6."""

import asyncpg
import pytest

from millstream.background.roster import loops_of
from millstream.domain import limits
from millstream.domain.errors import AuthenticationFailed, Conflict, NotFound
from millstream.domain.tenant import IssuedKey, Tenant
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine
from millstream.engine.tenant_removal import TOMBSTONE_SECONDS
from tests.engine.work import Work
from tests.store.test_catalogue import fill


@pytest.fixture
async def acme(engine: Engine) -> tuple[Tenant, IssuedKey]:
    return await engine.tenants.create(name="Acme", slug="acme", billing_email=None, plan_tier="pro")


async def rows_of(dsn: str, tenant_id: int) -> dict[str, int]:
    """Count the rows of a tenant in every table that the catalogue knows to have any."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "select c.table_name::text as name from information_schema.columns as c"
            " inner join information_schema.tables as t using (table_schema, table_name)"
            " where c.table_schema = 'millstream' and c.column_name = 'tenant_id' and t.table_type = 'BASE TABLE'"
        )
        counts = {
            table["name"]: await connection.fetchval(
                f"select count(*) from millstream.{table['name']} where tenant_id = $1", tenant_id
            )
            or 0
            for table in tables
        }
        counts["tenants"] = (
            await connection.fetchval("select count(*) from millstream.tenants where id = $1", tenant_id) or 0
        )
        return counts
    finally:
        await connection.close()


async def filled(dsn: str, tenant_id: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await fill(connection, tenant_id)
    finally:
        await connection.close()


async def test_no_table_keeps_a_row_of_a_removed_tenant(
    engine: Engine, work: Work, acme: tuple[Tenant, IssuedKey], database_dsn: str
) -> None:
    tenant, _ = acme
    await filled(database_dsn, tenant.id)
    await filled(database_dsn, work.principal.tenant_id)
    others = await rows_of(database_dsn, work.principal.tenant_id)
    before = await rows_of(database_dsn, tenant.id)
    # jobs_done is filled through one of its partitions.
    assert {
        name for name, count in before.items() if not count and not name.startswith("jobs_done_")
    } == set()

    await engine.admin.delete(tenant.public_id, hard=True)

    assert set((await rows_of(database_dsn, tenant.id)).values()) == {0}
    assert await rows_of(database_dsn, work.principal.tenant_id) == others


async def test_a_table_that_is_added_later_is_not_forgotten(
    engine: Engine, acme: tuple[Tenant, IssuedKey], database_dsn: str
) -> None:
    tenant, _ = acme
    connection = await asyncpg.connect(database_dsn)
    await connection.execute("set role millstream_owner")
    await connection.execute("create table millstream.later (tenant_id int not null, note text)")
    await connection.execute("select millstream.protect_table('millstream.later')")
    await connection.execute("insert into millstream.later values ($1, 'theirs')", tenant.id)
    await connection.close()
    await engine.admin.delete(tenant.public_id, hard=True)
    assert (await rows_of(database_dsn, tenant.id))["later"] == 0


async def test_a_large_tenant_goes_in_bounded_steps(
    engine: Engine,
    acme: tuple[Tenant, IssuedKey],
    database_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenant, _ = acme
    monkeypatch.setattr(limits, "REMOVED_ROWS_MAX", 3)
    connection = await asyncpg.connect(database_dsn)
    await connection.execute(
        "insert into millstream.job_labels (tenant_id, kind, label) select $1, 1, n::text from generate_series(1, 8) as n",
        tenant.id,
    )
    await connection.close()
    await engine.admin.delete(tenant.public_id, hard=True)
    # The tenant itself is gone at once, with what counts: its keys and its slug.
    counts = await rows_of(database_dsn, tenant.id)
    assert (counts["tenants"], counts["api_keys"], counts["job_labels"]) == (0, 0, 5)
    [remover] = [loop for loop in loops_of(engine) if loop.name == "tenant_remover"]
    steps = [await remover.step() for _ in range(3)]
    assert [step.done for step in steps] == [3, 2, 0]
    assert [step.next_seconds for step in steps] == [0.0, None, None]


async def test_what_was_under_way_when_a_tenant_was_removed_is_swept_up(
    engine: Engine, work: Work, acme: tuple[Tenant, IssuedKey], database_dsn: str
) -> None:
    tenant, _ = acme
    await engine.admin.delete(tenant.public_id, hard=True)
    await filled(database_dsn, tenant.id)
    assert await engine.removal.sweep() > 0
    assert set((await rows_of(database_dsn, tenant.id)).values()) == {0}
    # Nothing of it can be under way any more: the search ends.
    work.clock.advance(TOMBSTONE_SECONDS + 1)
    assert await engine.removal.sweep() == 0
    await filled(database_dsn, tenant.id)
    assert await engine.removal.sweep() == 0


async def test_the_credentials_of_a_removed_tenant_end_and_its_slug_is_free(
    engine: Engine, acme: tuple[Tenant, IssuedKey]
) -> None:
    tenant, key = acme
    await engine.credentials.authenticate(key.secret)
    await engine.admin.delete(tenant.public_id, hard=True)
    with pytest.raises(AuthenticationFailed):
        await engine.credentials.authenticate(key.secret)
    again, _ = await engine.tenants.create(name="Acme", slug="acme", billing_email=None)
    assert again.id != tenant.id
    with pytest.raises(NotFound):
        await engine.admin.delete(tenant.public_id, hard=True)


async def test_a_tenant_deletes_itself_only_when_nothing_of_it_is_active(
    engine: Engine, acme: tuple[Tenant, IssuedKey], work: Work
) -> None:
    tenant, key = acme
    work.principal = await engine.credentials.authenticate(key.secret)
    lease = await work.run()
    worker = NewWorker(id="w-1", queue="q", hostname="h")
    await engine.workers.register(work.principal, worker)
    with pytest.raises(Conflict, match="1 active jobs"):
        await engine.tenants.delete(work.principal, tenant.public_id)
    await work.complete(lease)
    with pytest.raises(Conflict, match="1 active workers"):
        await engine.tenants.delete(work.principal, tenant.public_id)
    await engine.workers.deregister(work.principal, "w-1")
    await engine.tenants.delete(work.principal, tenant.public_id)
    with pytest.raises(AuthenticationFailed):
        await engine.credentials.authenticate(key.secret)
