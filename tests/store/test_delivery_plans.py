"""How the statements of webhooks reach their rows."""

from uuid import UUID

from millstream.store.database import Database
from tests.store.filling import TENANT
from tests.store.planning import EMPTY, array, run_and_undo, run_as_tenant, running_jobs, sample


async def test_completions_without_an_address_of_their_own_make_no_deliveries(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    plan = await run_and_undo(filled, "complete_jobs", **running, results=array(["{}"] * 10, "text"))
    assert plan.indexes_of("outgoing_deliveries") == set()
    assert plan.indexes_of("outgoing_webhooks") == set()


async def test_noting_what_happened_to_ten_jobs_touches_ten(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    plan = await run_and_undo(
        filled,
        "note_job_events",
        webhooks_max="1000",
        result_bytes_max="65536",
        tenant_ids=running["tenant_ids"],
        job_ids=running["ids"],
        events=array([3] * 10, "smallint"),
        statuses=array(["completed"] * 10, "text"),
        worker_ids=array(["w"] * 10, "text"),
    )
    assert plan.indexes_of("outgoing_webhooks") == {"outgoing_webhooks_enabled"}
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.indexes_of("jobs_dead") == {"jobs_dead_pkey"}
    # Ten webhooks of each tenant are told, each with a look-up of its own.
    assert plan.rows_of("jobs") == 100


CLAIM = {
    "after_tenant_id": "0",
    "after_receiver": f"'{UUID(int=0)}'",
    "receivers_max": "500",
    "limit": "256",
    "claim_id": "gen_random_uuid()",
    "claim_seconds": "40",
    "receiver_room": "32",
    "host_room": "64",
    "busy_tenant_ids": EMPTY,
    "busy_receivers": EMPTY,
    "receiver_rooms": EMPTY,
    "busy_hosts": EMPTY,
    "host_rooms": EMPTY,
    "disabled_error": "'off'",
}


async def test_a_look_for_due_deliveries_visits_receivers_not_rows(filled: Database) -> None:
    plan = await run_and_undo(filled, "claim_outgoing_deliveries", **CLAIM)
    assert plan.indexes_of("outgoing_deliveries") <= {"outgoing_deliveries_due", "outgoing_deliveries_pkey"}
    # 2,000 wait for ten receivers, none of them is due.
    assert plan.rows_of("outgoing_deliveries") <= 12


async def test_claiming_deliveries_touches_what_is_handed_out(filled: Database) -> None:
    plan = await run_and_undo(filled, "claim_outgoing_deliveries", **CLAIM, now="now() + interval '2 hours'")
    # Ten receivers, 32 of each at most, twice: found and changed.
    assert plan.rows_of("outgoing_deliveries") <= 12 + 2 * 320
    assert plan.indexes_of("outgoing_webhooks") == {"outgoing_webhooks_pkey"}


async def test_recording_deliveries_goes_by_their_keys(filled: Database) -> None:
    rows = await sample(
        filled, "select tenant_id, id from millstream.outgoing_deliveries where status = 1 limit 10"
    )
    plan = await run_and_undo(
        filled,
        "record_outgoing_deliveries",
        failures_max="20",
        tenant_ids=array([row["tenant_id"] for row in rows], "int"),
        ids=array([row["id"] for row in rows], "uuid"),
        claim_ids=array([UUID(int=1)] * 10, "uuid"),
        statuses=array([2] * 10, "smallint"),
        counts=array([True] * 10, "boolean"),
        delays=array([None] * 10, "int"),
        status_codes=array([200] * 10, "int"),
        bodies=array([""] * 10, "text"),
        errors=array([None] * 10, "text"),
    )
    assert plan.indexes_of("outgoing_deliveries") == {"outgoing_deliveries_pkey"}
    assert plan.rows_of("outgoing_deliveries") == 20


async def test_a_webhooks_newest_deliveries_are_the_rows_that_are_read(filled: Database) -> None:
    [webhook] = await sample(
        filled, f"select id from millstream.outgoing_webhooks where tenant_id = {TENANT} limit 1"
    )
    plan = await run_as_tenant(
        filled,
        "list_outgoing_deliveries",
        webhook_id=f"'{webhook['id']}'",
        limit="10",
        offset="0",
        readable_max="100",
    )
    assert plan.indexes_of("outgoing_deliveries") == {"outgoing_deliveries_newest"}
    assert plan.rows_of("outgoing_deliveries") <= 100


async def test_pruning_deliveries_begins_with_the_oldest(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "prune_outgoing_deliveries",
        tenant_ids=array([1, 2], "int"),
        befores="array[now() - interval '1 year', now() - interval '1 year']",
        limit="100",
    )
    assert plan.indexes_of("outgoing_deliveries") == {"outgoing_deliveries_pkey"}
    assert plan.rows_of("outgoing_deliveries") == 0
