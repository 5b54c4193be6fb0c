"""The plans of deletions: what a step looks at does not grow with the tables."""

import pytest

from millstream.store.database import Database
from tests.store.filling import TENANT
from tests.store.planning import array, assert_no_scan, explain, run_and_undo, run_as_tenant, sample


async def test_purging_begins_with_the_oldest(filled: Database) -> None:
    plan = await run_as_tenant(filled, "list_purged_jobs", limit="100")
    assert plan.indexes_of("jobs_dead") == {"jobs_dead_oldest"}
    assert plan.rows_of("jobs_dead") == 100


async def oldest_of(database: Database, table: str, count: int) -> str:
    rows = await sample(
        database, f"select id from millstream.{table} where tenant_id = {TENANT} order by id limit {count}"
    )
    assert len(rows) == count
    return array([row["id"] for row in rows], "uuid")


@pytest.mark.parametrize("restart", ["true", "false"])
async def test_retrying_chooses_the_oldest_and_goes_by_the_key_from_there(
    filled: Database, restart: str
) -> None:
    plan = await run_and_undo(filled, "retry_dead_jobs", tenant_id=str(TENANT), limit="100", restart=restart)
    assert plan.indexes_of("jobs_dead") == {"jobs_dead_oldest", "jobs_dead_pkey"}
    # Chosen, held, deleted.
    assert plan.rows_of("jobs_dead") == 300
    assert plan.indexes_of("jobs") == {"jobs_children", "jobs_pkey"}
    assert plan.rows_of("jobs") == 0


async def test_retrying_by_id_reads_no_others(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "retry_dead_jobs",
        tenant_id=str(TENANT),
        ids=await oldest_of(filled, "jobs_dead", 50),
        limit="50",
        restart="true",
    )
    # Chosen, held, deleted.
    assert plan.rows_of("jobs_dead") == 150
    assert plan.rows_of("jobs") == 0


async def test_looking_for_descendants_goes_by_the_link_to_the_parent(filled: Database) -> None:
    plan = await run_as_tenant(
        filled, "list_descendants", ids=await oldest_of(filled, "jobs_dead", 50), limit="2000"
    )
    assert plan.indexes_of("jobs") == {"jobs_children"}
    assert plan.indexes_of("jobs_dead") == {"jobs_dead_children"}
    assert plan.rows_of("jobs") + plan.rows_of("jobs_dead") + plan.rows_of("jobs_done") == 0


async def test_looking_for_jobs_of_a_queue_reads_one_page(filled: Database) -> None:
    plan = await run_as_tenant(
        filled,
        "list_queue_jobs",
        queue="'q1'",
        after="'00000000-0000-0000-0000-000000000000'",
        until="now()",
        limit="100",
    )
    parts = len(plan.touched("jobs_done")) + 2
    assert 100 <= plan.rows_of("jobs") + plan.rows_of("jobs_dead") + plan.rows_of("jobs_done") <= 100 + parts


@pytest.mark.parametrize("table", ["jobs", "jobs_dead", "jobs_done"])
async def test_locking_and_deleting_jobs_goes_by_the_key(filled: Database, table: str) -> None:
    ids = await oldest_of(filled, table, 50)
    for name, touches in (("lock_jobs", 50), ("delete_jobs", 50)):
        async with filled.session() as session:
            await session.run("begin")
            plan = await explain(session, name, tenant_id=str(TENANT), ids=ids)
            await session.run("rollback")
        assert_no_scan(plan)
        assert plan.rows_of(table) == touches
        assert sum(plan.rows_of(each) for each in ("jobs", "jobs_dead", "jobs_done")) == touches
        assert plan.indexes_of("jobs") == {"jobs_pkey"}
        assert plan.indexes_of("jobs_dead") == {"jobs_dead_pkey"}


async def test_pruning_reads_as_many_finished_jobs_as_it_deletes(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "prune_done_jobs",
        tenant_ids=f"'{{{TENANT}}}'",
        finished_befores="array[now() + interval '1 day']",
        limit="100",
    )
    parts = len(plan.touched("jobs_done"))
    assert 200 <= plan.rows_of("jobs_done") <= 200 + parts
