"""How the statements of schedules reach their rows."""

from uuid import UUID

from millstream.store.database import Database
from tests.store.planning import array, run_and_undo, run_as_tenant, sample

CLAIM = {"lookback_seconds": "2000000000", "limit": "100", "bytes_max": "4000000"}


async def test_a_look_for_due_schedules_touches_what_is_due(filled: Database) -> None:
    # None of 20,000 is due yet, and one in twenty is paused.
    plan = await run_and_undo(filled, "claim_due_schedules", **CLAIM)
    assert plan.indexes_of("schedules") == {"schedules_due"}
    assert plan.rows_of("schedules") == 0
    later = await run_and_undo(filled, "claim_due_schedules", **CLAIM, now="now() + interval '2 hours'")
    assert later.indexes_of("schedules") == {"schedules_due"}
    assert later.rows_of("schedules") == 100
    assert later.indexes_of("tenants") == {"tenants_pkey"}


async def test_the_next_time_is_one_row(filled: Database) -> None:
    plan = await run_and_undo(filled, "seconds_to_next_schedule", lookback_seconds="60")
    assert plan.indexes_of("schedules") == {"schedules_due"}
    assert plan.rows_of("schedules") == 1


async def test_recording_runs_goes_by_their_keys(filled: Database) -> None:
    rows = await sample(filled, "select tenant_id, id from millstream.schedules limit 10")
    plan = await run_and_undo(
        filled,
        "record_schedule_runs",
        tenant_ids=array([row["tenant_id"] for row in rows], "int"),
        ids=array([row["id"] for row in rows], "uuid"),
        statuses=array([3] * 10, "smallint"),
        job_ids=array([UUID(int=number) for number in range(10)], "uuid"),
        errors=array([None] * 10, "text"),
        next_run_ats="array_fill(now(), array[10])",
        pauses=array([False] * 10, "boolean"),
    )
    assert plan.indexes_of("schedules") == {"schedules_pkey"}
    assert plan.rows_of("schedules") == 10


async def test_a_page_of_schedules_is_the_rows_that_are_read(filled: Database) -> None:
    plan = await run_as_tenant(filled, "list_schedules", limit="10", offset="0", bytes_max="1000000")
    assert plan.indexes_of("schedules") == {"schedules_pkey"}
    assert plan.rows_of("schedules") == 10


async def test_the_newest_runs_are_the_rows_that_are_read(filled: Database) -> None:
    [schedule] = await sample(filled, "select id from millstream.schedules where tenant_id = 1 limit 1")
    plan = await run_as_tenant(filled, "list_schedule_runs", schedule_id=f"'{schedule['id']}'", limit="10")
    assert plan.indexes_of("schedule_runs") == {"schedule_runs_newest"}
    assert plan.rows_of("schedule_runs") <= 10


async def test_pruning_runs_begins_with_the_oldest(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "prune_schedule_runs",
        tenant_ids=array([1, 2], "int"),
        befores="array[now() - interval '1 year', now() - interval '1 year']",
        limit="100",
    )
    assert plan.indexes_of("schedule_runs") == {"schedule_runs_pkey"}
    assert plan.rows_of("schedule_runs") == 0
