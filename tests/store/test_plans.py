"""The plans of the hot statements: which index they walk, and how many rows they touch on tables in use.

Each is planned the way the server runs it: with the session defaults of its login role, or, for what a tenant
reads, under the tenant's role. A statement that scans a table is fast in a test and slow in a year.
"""

import json
from typing import Any

import pytest

from millstream.store.database import Database
from tests.store.filling import ALIVE, TENANT, TENANTS
from tests.store.planning import (
    EMPTY,
    Plan,
    array,
    explain,
    run_and_undo,
    run_as_tenant,
    running_jobs,
    sample,
    scans_of,
)


async def test_creating_looks_up_queues_and_keys_only(filled: Database) -> None:
    def nothing(kind: str) -> str:
        return array([None, None], kind)

    plan = await run_and_undo(
        filled,
        "create_jobs",
        batch_id="1",
        default_max_retries="3",
        default_timeout_seconds="300",
        tenant_ids="'{1,2}'",
        ids="array[gen_random_uuid(), gen_random_uuid()]",
        queues="'{q1,q2}'",
        payloads="'{a,b}'",
        job_types="'{a,b}'",
        priorities="'{0,0}'",
        max_retries=nothing("smallint"),
        timeouts=nothing("int"),
        run_ats=nothing("timestamptz"),
        expires_ats=nothing("timestamptz"),
        idempotency_keys="'{k5,new}'",
        tags=nothing("text"),
        parent_job_ids=nothing("uuid"),
        webhooks=nothing("text"),
        webhook_secrets=nothing("text"),
        label_tenant_ids=EMPTY,
        label_kinds=EMPTY,
        labels=EMPTY,
    )
    assert plan.indexes_of("jobs") == set()
    assert plan.indexes_of("jobs_done") == set()
    assert plan.indexes_of("queues") == {"queues_pkey"}
    assert plan.indexes_of("idempotency_keys") <= {"idempotency_keys_pkey"}
    # One a look-up at most: before 18 PostgreSQL rounds the average.
    assert plan.rows_of("idempotency_keys") <= 3


def wanted(count: int, queue: str = "q1") -> dict[str, str]:
    return {
        "batch_id": "1",
        "tenant_ids": "'{1}'",
        "queues": f"'{{{queue}}}'",
        "wants": f"'{{{count}}}'",
        "slot_firsts": "'{0}'",
        "slot_seats": f"array_fill(1, array[{count}])",
        "worker_ids": "'{w}'",
        "lease_seconds": "'{30}'",
        "lease_ids": array([f"{number:032x}" for number in range(count)], "uuid"),
    }


async def test_claiming_ten_touches_ten(filled: Database) -> None:
    plan = await run_and_undo(filled, "claim_jobs", **wanted(10))
    # Ten in the order of the index, and the same ten again to change them, where they were locked.
    assert plan.indexes_of("jobs") == {"jobs_ready", "Tid Scan"}
    assert 20 <= plan.rows_of("jobs") <= 24


async def test_claiming_from_a_position_touches_what_it_hands_out_and_the_jobs_that_came_back(
    filled: Database,
) -> None:
    plan = await run_and_undo(
        filled, "claim_jobs_onward", **wanted(10), levels="'{0}'", sinces="array['epoch'::timestamptz]"
    )
    assert plan.indexes_of("jobs") == {"jobs_ready", "jobs_returned", "Tid Scan"}
    assert 20 <= plan.rows_of("jobs") <= 24


async def test_claiming_from_an_empty_queue_touches_nothing(filled: Database) -> None:
    plan = await run_and_undo(filled, "claim_jobs", **wanted(10, "nobody-knows-it"))
    assert plan.rows_of("jobs") == 0


async def test_promoting_when_nothing_is_due_touches_nothing(filled: Database) -> None:
    plan = await run_and_undo(filled, "promote_due_jobs", lookback_seconds="2000000000", limit="1000")
    assert plan.indexes_of("jobs") == {"jobs_waiting", "jobs_pkey"}
    assert plan.rows_of("jobs") <= 1


async def test_promoting_touches_what_is_due(filled: Database) -> None:
    # The waiting jobs begin after an hour, a second apart; two in ten of these wait.
    plan = await run_and_undo(
        filled,
        "promote_due_jobs",
        lookback_seconds="2000000000",
        limit="1000",
        now="now() + interval '1 hour 100 seconds'",
    )
    assert 20 <= plan.rows_of("jobs") <= 100


async def test_the_next_time_to_wait_for_is_one_row(filled: Database) -> None:
    plan = await run_and_undo(filled, "next_run_at", lookback_seconds="2000000000")
    assert plan.indexes_of("jobs") == {"jobs_waiting"}
    assert plan.rows_of("jobs") == 1


async def test_completing_ten_touches_ten(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    plan = await run_and_undo(filled, "complete_jobs", **running, results=array(["{}"] * 10, "text"))
    # Nothing hangs on these: what waits for others, and workflows, are not looked for.
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.rows_of("jobs") == 10
    assert plan.calls["release_dependents"] == 0


async def test_failing_ten_touches_ten(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "fail_jobs",
        **await running_jobs(filled, 10),
        reap="0",
        lookback_seconds="2000000000",
        errors=array(["e"] * 10, "text"),
        delays=array([None] * 10, "int"),
        event_ids=array([f"{number:032x}" for number in range(10)], "uuid"),
    )
    assert plan.indexes_of("jobs") == {"jobs_pkey", "jobs_leases"}
    assert plan.indexes_of("queues") == {"queues_pkey"}
    assert plan.rows_of("jobs") == 20


async def test_burying_jobs_without_dependents_never_looks_for_children(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    async with filled.session() as session:
        await session.run("begin")
        await session.run(f"update millstream.jobs set max_retries = 0 where id = any({running['ids']})")
        plan = await explain(
            session,
            "fail_jobs",
            **running,
            reap="0",
            lookback_seconds="2000000000",
            errors=array(["e"] * 10, "text"),
            delays=array([None] * 10, "int"),
            event_ids=array([f"{number:032x}" for number in range(10)], "uuid"),
        )
        await session.run("rollback")
    assert plan.calls["lock_hopeless"] == 0


NO_FAILURES = dict.fromkeys(
    ("tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "errors", "delays", "event_ids"), EMPTY
)


async def test_reaping_when_every_lease_holds_touches_nothing(filled: Database) -> None:
    plan = await run_and_undo(
        filled, "fail_jobs", batch_id="1", reap="500", lookback_seconds="2000000000", **NO_FAILURES
    )
    assert "jobs_leases" in plan.indexes_of("jobs")
    assert plan.rows_of("jobs") <= 1


async def test_reaping_is_bounded_however_many_leases_ran_out(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "fail_jobs",
        batch_id="1",
        reap="50",
        lookback_seconds="2000000000",
        now="now() + interval '1 day'",
        **NO_FAILURES,
    )
    assert 100 <= plan.rows_of("jobs") <= 110


async def test_renewing_ten_touches_ten(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    del running["batch_id"]
    plan = await run_and_undo(filled, "renew_leases", **running, lease_seconds=array([30] * 10, "int"))
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.rows_of("jobs") == 10


async def test_releasing_and_cancelling_go_by_the_key(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    keys = {name: running[name] for name in ("tenant_ids", "ids")}
    released = await run_and_undo(filled, "release_jobs", **keys, lease_ids=running["lease_ids"])
    assert released.indexes_of("jobs") == {"jobs_pkey"}
    assert released.rows_of("jobs") == 10
    cancelled = await run_and_undo(filled, "cancel_jobs", **keys)
    assert cancelled.indexes_of("jobs") == {"jobs_pkey"}
    assert cancelled.rows_of("jobs") == 10


async def finished_jobs(database: Database) -> list[dict[str, Any]]:
    return await sample(
        database,
        "select tenant_id, id, tableoid::regclass::text as partition from millstream.jobs_done"
        f" where tenant_id = {TENANT} and tableoid <> 'millstream.jobs_done_rest'::regclass order by id desc limit 1",
    )


@pytest.mark.parametrize("name", ["judge_jobs", "find_known_jobs"])
async def test_a_look_up_by_id_opens_one_partition(filled: Database, name: str) -> None:
    [job] = await finished_jobs(filled)
    plan = await run_and_undo(
        filled, name, tenant_ids=array([job["tenant_id"]], "int"), ids=array([job["id"]], "uuid")
    )
    assert plan.touched("jobs_done") == {job["partition"].removeprefix("millstream.")}
    assert plan.rows_of("jobs_done") == 1
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.indexes_of("jobs_dead") == {"jobs_dead_pkey"}
    assert plan.rows_of("jobs") == 0


async def test_touching_the_job_of_a_known_key_opens_one_partition(filled: Database) -> None:
    [job] = await finished_jobs(filled)
    plan = await run_and_undo(
        filled, "touch_jobs", tenant_ids=array([job["tenant_id"]], "int"), ids=array([job["id"]], "uuid")
    )
    assert plan.touched("jobs_done") == {job["partition"].removeprefix("millstream.")}
    assert plan.rows_of("jobs_done") == 1


async def test_reading_one_job_opens_one_partition(filled: Database) -> None:
    [job] = await finished_jobs(filled)
    plan = await run_as_tenant(filled, "find_job", id=f"'{job['id']}'")
    assert plan.touched("jobs_done") == {job["partition"].removeprefix("millstream.")}
    assert plan.rows_of("jobs_done") == 1
    assert plan.indexes_of("jobs") == {"jobs_pkey"}


async def test_looking_up_states_opens_the_partitions_of_the_ids(filled: Database) -> None:
    [job] = await finished_jobs(filled)
    plan = await run_as_tenant(filled, "list_job_statuses", ids=array([job["id"]] * 3, "uuid"))
    assert plan.touched("jobs_done") == {job["partition"].removeprefix("millstream.")}


PAGE = {"queue_matches": EMPTY, "type_matches": EMPTY, "limit": "51", "offset": "0"}


@pytest.mark.parametrize("name", ["list_jobs_newest", "list_jobs_oldest"])
async def test_the_first_page_reads_the_rows_of_one_page(filled: Database, name: str) -> None:
    plan = await run_as_tenant(filled, name, **PAGE)
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.indexes_of("jobs_dead") == {"jobs_dead_pkey"}
    assert all(index.endswith("_pkey") for index in plan.indexes_of("jobs_done"))
    # A merge of sorted parts looks at the head of each.
    parts = len(plan.touched("jobs_done")) + 2
    total = plan.rows_of("jobs") + plan.rows_of("jobs_dead") + plan.rows_of("jobs_done")
    assert 51 <= total <= 51 + parts


async def test_a_tenant_with_a_cap_is_counted_up_to_it(filled: Database) -> None:
    tenants = {"tenant_ids": array([TENANT, TENANT + 1], "int"), "active_maxes": array([11, 0], "bigint")}
    plan = await run_and_undo(filled, "count_job_usage", **tenants)
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.rows_of("jobs") == 11
    assert plan.indexes_of("counters") == {"counters_pkey"}
    assert plan.indexes_of("counter_deltas") == {"counter_deltas_tenant"}


async def test_tenants_with_a_cap_are_locked_by_their_ids(filled: Database) -> None:
    plan = await run_and_undo(filled, "lock_tenants", tenant_ids=array([3, 1], "int"))
    assert plan.indexes_of("tenants") == {"tenants_pkey"}
    assert plan.rows_of("tenants") == 2


async def test_known_keys_are_looked_up_one_by_one(filled: Database) -> None:
    plan = await run_and_undo(
        filled, "find_known_keys", tenant_ids=array([1, 2, 3], "int"), keys="array['k5', 'k6', 'none']"
    )
    assert plan.indexes_of("idempotency_keys") == {"idempotency_keys_pkey"}
    # One a look-up at most: before 18 PostgreSQL rounds the average.
    assert plan.rows_of("idempotency_keys") <= 3


async def test_usage_is_counted_from_the_keys_of_the_tenant(filled: Database) -> None:
    plan = await run_as_tenant(filled, "count_usage", active_max="100")
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.rows_of("jobs") == 100
    assert "Index Only Scan" in {scan.node for scan in plan.scans if scan.relation == "jobs"}
    unlimited = await run_as_tenant(filled, "count_usage")
    assert unlimited.rows_of("jobs") == ALIVE / TENANTS


@pytest.mark.parametrize(
    ("name", "table", "bounds"),
    [("prune_done_jobs", "jobs_done", "finished_befores"), ("prune_job_events", "job_events", "befores")],
)
async def test_pruning_looks_at_what_is_past_retention_only(
    filled: Database, name: str, table: str, bounds: str
) -> None:
    rows = {"tenant_ids": array(list(range(1, TENANTS + 1)), "int"), "limit": "50"}
    nothing = {bounds: f"array_fill(now() - interval '90 days', array[{TENANTS}])"}
    none = await run_and_undo(filled, name, **rows, **nothing)
    assert all(index.endswith("_pkey") for index in none.indexes_of(table))
    # The filled history has random ids, of which a few look old.
    assert none.rows_of(table) <= (50 if table == "job_events" else 0)
    everything = {bounds: f"array_fill(now(), array[{TENANTS}])"}
    some = await run_and_undo(filled, name, **rows, **everything)
    # Those that go, each of them once more to be deleted, and the heads of the sorted partitions.
    assert some.rows_of(table) <= 100 + len(some.touched(table))


async def test_looking_for_expired_jobs_goes_by_their_end(filled: Database) -> None:
    none = await run_and_undo(filled, "find_expired_jobs", limit="500")
    assert none.indexes_of("jobs") == {"jobs_expiring"}
    assert none.rows_of("jobs") == 0
    some = await run_and_undo(filled, "find_expired_jobs", limit="20", now="now() + interval '2 days'")
    assert some.rows_of("jobs") == 20


async def test_an_api_key_is_found_by_its_digest(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "find_api_keys",
        digests="array[sha256('7'::bytea), sha256('8'::bytea), sha256('nobody''s'::bytea)]",
        use_noted_seconds="300",
    )
    assert plan.indexes_of("api_keys") == {"api_keys_digest_unique"}
    assert 2 <= round(plan.rows_of("api_keys")) <= 3


async def test_the_key_of_a_token_is_found_by_its_tenant_and_id(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "find_token_keys",
        organization_ids="array['t1', 't2']",
        key_ids="array[gen_random_uuid(), gen_random_uuid()]",
        jtis="array[gen_random_uuid(), gen_random_uuid()]",
        use_noted_seconds="300",
    )
    assert plan.indexes_of("api_keys") == {"api_keys_pkey"}
    assert plan.rows_of("api_keys") == 0
    assert plan.indexes_of("revoked_tokens") <= {"revoked_tokens_pkey"}


async def test_tokens_that_have_ended_are_found_by_their_end(filled: Database) -> None:
    plan = await run_and_undo(filled, "prune_revoked_tokens", limit="100")
    assert "revoked_tokens_ended" in plan.indexes_of("revoked_tokens")
    assert plan.rows_of("revoked_tokens") <= 200


async def test_silent_workers_are_found_by_their_last_heartbeat(filled: Database) -> None:
    plan = await run_and_undo(filled, "retire_stale_workers", silence_seconds="120")
    assert plan.indexes_of("workers") == {"workers_stale"}
    assert plan.rows_of("workers") == 0


async def test_a_history_goes_by_its_job(filled: Database) -> None:
    plan = await run_as_tenant(filled, "list_job_events", job_id="gen_random_uuid()")
    assert plan.indexes_of("job_events") == {"job_events_pkey"}
    assert plan.rows_of("job_events") == 0


async def test_a_scan_of_a_table_would_be_noticed(filled: Database) -> None:
    async with filled.session() as session:
        row = await session.one(
            "explain (analyze, format json) select count(*) from millstream.jobs where payload = ''"
        )
    assert row is not None
    scanned = Plan(list(scans_of(json.loads(row[0])[0]["Plan"])))
    assert scanned.rows_of("jobs") >= 15_000
