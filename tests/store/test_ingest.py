"""The log of incoming webhooks is read and shortened along its key, however long it is."""

import pytest

from millstream.store.database import Database
from tests.store.planning import Plan, explain

TENANT = 1
OTHERS = 3
ROWS = 9_000

_FILL = f"""insert into millstream.ingest_deliveries (
    tenant_id, id, provider, outcome, event_type, queue, job_id, created_at
)
select
    1 + n % {OTHERS}, millstream.first_id_at(now() - n * interval '1 minute'), 1, 1 + n % 2, 'e', 'q' || n % 5,
    gen_random_uuid(), now() - n * interval '1 minute'
from generate_series(1, {ROWS}) as n"""


@pytest.fixture
async def filled(database: Database) -> Database:
    """Three tenants with 3,000 entries each, the newest a minute old."""
    async with database.session() as session:
        await session.run(
            "insert into millstream.tenants (public_id, slug, name)"
            " select 't' || n, 't' || n, 'x' from generate_series(1, 500) as n"
        )
        await session.run(_FILL)
        await session.run("set role millstream_owner")
        await session.run("analyze millstream.ingest_deliveries")
        await session.run("reset role")
    return database


async def run_and_undo(database: Database, name: str, **arguments: str) -> Plan:
    async with database.session() as session:
        await session.run("begin")
        try:
            return await explain(session, name, **arguments)
        finally:
            await session.run("rollback")


async def test_whom_a_webhook_is_for_is_one_look_up(filled: Database) -> None:
    plan = await run_and_undo(filled, "find_webhook_tenant", public_id="'t7'")
    assert plan.indexes_of("tenants") == {"tenants_public_id_unique"}
    assert plan.rows_of("tenants") == 1


async def test_trimming_reads_the_newest_of_one_tenant_and_what_it_deletes(filled: Database) -> None:
    plan = await run_and_undo(filled, "trim_ingest_deliveries", tenant_id=str(TENANT), kept="100", limit="20")
    assert plan.indexes_of("ingest_deliveries") == {"ingest_deliveries_pkey"}
    # Up to the edge, then the oldest once to lock and once to delete them.
    assert plan.rows_of("ingest_deliveries") == 101 + 20 + 20


async def test_trimming_a_short_log_deletes_nothing(filled: Database) -> None:
    plan = await run_and_undo(
        filled, "trim_ingest_deliveries", tenant_id=str(TENANT), kept="3000", limit="20"
    )
    assert plan.rows_of("ingest_deliveries") == 3_000


async def test_a_page_reads_its_rows(filled: Database) -> None:
    async with filled.tenant(TENANT) as session:
        plan = await explain(
            session, "list_ingest_deliveries", tenant_id=str(TENANT), limit="50", offset="10"
        )
    assert plan.indexes_of("ingest_deliveries") == {"ingest_deliveries_pkey"}
    assert plan.rows_of("ingest_deliveries") == 60


async def test_pruning_begins_with_the_oldest_and_stops_at_the_bound(filled: Database) -> None:
    bounds = {"tenant_ids": "'{1,2}'", "befores": "array_fill(now() - interval '3 days', array[2])"}
    none = await run_and_undo(
        filled, "prune_ingest_deliveries", limit="100", **{**bounds, "befores": "'{1990-01-01,1990-01-01}'"}
    )
    assert none.rows_of("ingest_deliveries") == 0
    some = await run_and_undo(filled, "prune_ingest_deliveries", limit="100", **bounds)
    assert some.indexes_of("ingest_deliveries") == {"ingest_deliveries_pkey"}
    assert some.rows_of("ingest_deliveries") <= 300
