"""The plans of the hot statements: which index they walk, and how many rows they touch on tables in use.

Each is planned the way the server runs it: with the session defaults of its login role, or, for what a tenant
reads, under the tenant's role. A statement that scans a table is fast in a test and slow in a year.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
from msgspec import Struct

from millstream.store.database import Database, Session
from millstream.store.installation import direct_session
from millstream.store.queries import load_all
from tests.conftest import TEMPLATE, Cluster
from tests.store.filling import TENANT, fill

STATEMENTS = load_all()
EMPTY = "'{}'"
# The tables whose size grows with use. Walking another one whole is a matter of a few rows.
GROWING = (
    "jobs",
    "jobs_dead",
    "jobs_done",
    "idempotency_keys",
    "job_events",
    "outgoing_deliveries",
    "counters",
    "workers",
    "api_keys",
)


class Scan(Struct, frozen=True):
    """One scan of a plan: what it reads, by which index, and how many rows it looked at (None: not run)."""

    node: str
    relation: str
    index: str | None
    rows: float | None
    loops: int


class Plan(Struct, frozen=True):
    """All scans of one plan."""

    scans: list[Scan]

    def indexes_of(self, table: str) -> set[str]:
        """Return the indexes by which `table`, or any partition of it, is read."""
        return {scan.index or scan.node for scan in self.scans if _belongs(scan.relation, table)}

    def rows_of(self, table: str) -> float:
        """Return how many rows of `table` were looked at."""
        return sum(scan.rows or 0 for scan in self.scans if _belongs(scan.relation, table))

    def touched(self, table: str) -> set[str]:
        """Return the partitions of `table` that were looked into at all."""
        return {scan.relation for scan in self.scans if _belongs(scan.relation, table) and scan.loops}


def _belongs(relation: str, table: str) -> bool:
    return relation == table or (table == "jobs_done" and relation.startswith("jobs_done"))


def _scans(node: Mapping[str, Any]) -> Iterator[Scan]:
    if node["Node Type"].endswith("Scan") and "Relation Name" in node:
        loops = node.get("Actual Loops", 0)
        rows = None
        if "Actual Rows" in node:
            per_loop = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows = loops * (per_loop + node.get("Rows Removed by Index Recheck", 0))
        index = node.get("Index Name") or next(_bitmap_indexes(node), None)
        yield Scan(node["Node Type"], node["Relation Name"], index, rows, loops)
    for child in node.get("Plans", ()):
        yield from _scans(child)


def _bitmap_indexes(node: Mapping[str, Any]) -> Iterator[str]:
    for child in node.get("Plans", ()):
        if child["Node Type"] == "Bitmap Index Scan":
            yield child["Index Name"]
        yield from _bitmap_indexes(child)


@pytest.fixture(scope="module")
def filled_dsn(cluster: Cluster) -> Iterator[str]:
    """A database in use."""
    name = f"filled_{secrets.token_hex(4)}"

    async def make() -> None:
        async with direct_session(cluster.superuser_dsn) as session:
            await session.run(f"create database {name} template {TEMPLATE}")
        connection = await asyncpg.connect(cluster.dsn_of(name))
        try:
            await fill(connection)
            await connection.execute("set role millstream_owner")
            await connection.execute("vacuum (analyze)")
        finally:
            await connection.close()

    async def drop() -> None:
        async with direct_session(cluster.superuser_dsn) as session:
            await session.run(f"drop database {name} with (force)")

    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, make()).result()
        yield cluster.dsn_of(name)
        executor.submit(asyncio.run, drop()).result()


@pytest.fixture
async def filled(filled_dsn: str) -> AsyncIterator[Database]:
    opened = await Database.open(filled_dsn, min_size=1, max_size=2)
    yield opened
    await opened.close()


async def explain(session: Session, name: str, **arguments: str) -> Plan:
    """Run a statement and return its plan, with SQL literals as arguments; what is not given is null."""
    statement = STATEMENTS[name]
    assert set(arguments) <= set(statement.parameters), set(arguments) - set(statement.parameters)
    values = ", ".join(arguments.get(parameter, "null") for parameter in statement.parameters)
    await session.run(f"prepare planned as {statement.sql}")
    try:
        row = await session.one(
            f"explain (analyze, timing off, summary off, format json) execute planned({values})"
        )
    finally:
        await session.run("deallocate planned")
    assert row is not None
    return Plan(list(_scans(json.loads(row[0])[0]["Plan"])))


async def run_and_undo(database: Database, name: str, **arguments: str) -> Plan:
    """Run a statement of the engine as its login does, and take back what it did."""
    async with database.session() as session:
        await session.run("begin")
        try:
            plan = await explain(session, name, **arguments)
        finally:
            await session.run("rollback")
    assert_no_scan(plan)
    return plan


async def run_as_tenant(database: Database, name: str, **arguments: str) -> Plan:
    async with database.tenant(TENANT) as session:
        plan = await explain(session, name, tenant_id=str(TENANT), **arguments)
    assert_no_scan(plan)
    return plan


def assert_no_scan(plan: Plan) -> None:
    scanned = [
        scan
        for scan in plan.scans
        # An empty partition may be walked: that is no row.
        if scan.node == "Seq Scan" and scan.rows and any(_belongs(scan.relation, table) for table in GROWING)
    ]
    assert scanned == []


async def sample(database: Database, query: str) -> list[dict[str, Any]]:
    async with database.session() as session:
        return [dict(row.items()) for row in await session.many(query)]  # pyright: ignore[reportAttributeAccessIssue]


def array(values: list[Any], kind: str) -> str:
    return (
        "array[" + ", ".join("null" if value is None else f"'{value}'" for value in values) + f"]::{kind}[]"
    )


async def running_jobs(database: Database, count: int) -> dict[str, str]:
    """Arguments for `count` jobs that run, spread over the table."""
    rows = await sample(
        database,
        f"select tenant_id, id, lease_id from millstream.jobs where state = 5 order by md5(id::text) limit {count}",
    )
    assert len(rows) == count
    return {
        "batch_id": "1",
        "tenant_ids": array([row["tenant_id"] for row in rows], "int"),
        "ids": array([row["id"] for row in rows], "uuid"),
        "worker_ids": array(["w"] * count, "text"),
        "lease_ids": array([row["lease_id"] for row in rows], "uuid"),
        "check_ends": array([False] * count, "boolean"),
    }


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
    assert plan.rows_of("idempotency_keys") <= 2


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
    assert plan.indexes_of("jobs") == {"jobs_ready", "jobs_pkey"}
    # Ten in the order of the index, and the same ten again to change them.
    assert 20 <= plan.rows_of("jobs") <= 24


async def test_claiming_from_an_empty_queue_touches_nothing(filled: Database) -> None:
    plan = await run_and_undo(filled, "claim_jobs", **wanted(10, "nobody-knows-it"))
    assert plan.rows_of("jobs") == 0


async def test_promoting_when_nothing_is_due_touches_nothing(filled: Database) -> None:
    plan = await run_and_undo(filled, "promote_due_jobs", after="'epoch'", limit="1000")
    assert plan.indexes_of("jobs") == {"jobs_waiting", "jobs_pkey"}
    assert plan.rows_of("jobs") <= 1


async def test_promoting_touches_what_is_due(filled: Database) -> None:
    # The waiting jobs begin after an hour, a second apart; two in ten of these wait.
    plan = await run_and_undo(
        filled, "promote_due_jobs", after="'epoch'", limit="1000", now="now() + interval '1 hour 100 seconds'"
    )
    assert 20 <= plan.rows_of("jobs") <= 100


async def test_the_next_time_to_wait_for_is_one_row(filled: Database) -> None:
    plan = await run_and_undo(filled, "next_run_at", after="'epoch'")
    assert plan.indexes_of("jobs") == {"jobs_waiting"}
    assert plan.rows_of("jobs") == 1


async def test_completing_ten_touches_ten(filled: Database) -> None:
    running = await running_jobs(filled, 10)
    plan = await run_and_undo(filled, "complete_jobs", **running, results=array(["{}"] * 10, "text"))
    # The children's index stands by for parents that have dependents.
    assert plan.indexes_of("jobs") == {"jobs_pkey", "jobs_children"}
    assert plan.rows_of("jobs") == 10


async def test_failing_ten_touches_ten(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "fail_jobs",
        **await running_jobs(filled, 10),
        reap="0",
        after="'epoch'",
        errors=array(["e"] * 10, "text"),
        delays=array([None] * 10, "int"),
        event_ids=array([f"{number:032x}" for number in range(10)], "uuid"),
    )
    assert plan.indexes_of("jobs") == {"jobs_pkey", "jobs_children", "jobs_leases"}
    assert plan.indexes_of("queues") == {"queues_pkey"}
    assert plan.rows_of("jobs") == 20


NO_FAILURES = dict.fromkeys(
    ("tenant_ids", "ids", "worker_ids", "lease_ids", "check_ends", "errors", "delays", "event_ids"), EMPTY
)


async def test_reaping_when_every_lease_holds_touches_nothing(filled: Database) -> None:
    plan = await run_and_undo(filled, "fail_jobs", batch_id="1", reap="500", after="'epoch'", **NO_FAILURES)
    assert "jobs_leases" in plan.indexes_of("jobs")
    assert plan.rows_of("jobs") <= 1


async def test_reaping_is_bounded_however_many_leases_ran_out(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "fail_jobs",
        batch_id="1",
        reap="50",
        after="'epoch'",
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
    assert cancelled.indexes_of("jobs") == {"jobs_pkey", "jobs_children"}
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
    plan = await run_and_undo(filled, "count_job_usage", tenant_id=str(TENANT), active_max="11")
    assert plan.indexes_of("jobs") == {"jobs_pkey"}
    assert plan.rows_of("jobs") == 11


async def test_looking_for_expired_jobs_goes_by_their_end(filled: Database) -> None:
    none = await run_and_undo(filled, "find_expired_jobs", limit="500")
    assert none.indexes_of("jobs") == {"jobs_expiring"}
    assert none.rows_of("jobs") == 0
    some = await run_and_undo(filled, "find_expired_jobs", limit="20", now="now() + interval '2 days'")
    assert some.rows_of("jobs") == 20


async def test_an_api_key_is_found_by_its_digest(filled: Database) -> None:
    plan = await run_and_undo(filled, "find_api_key", digest="sha256('7'::bytea)")
    assert plan.indexes_of("api_keys") == {"api_keys_digest_unique"}
    assert plan.rows_of("api_keys") == 1


async def test_silent_workers_are_found_by_their_last_heartbeat(filled: Database) -> None:
    plan = await run_and_undo(filled, "retire_stale_workers", silence_seconds="120")
    assert plan.indexes_of("workers") == {"workers_stale"}
    assert plan.rows_of("workers") == 0


async def test_a_history_goes_by_its_job(filled: Database) -> None:
    plan = await run_as_tenant(filled, "list_job_events", job_id="gen_random_uuid()")
    assert plan.indexes_of("job_events") == {"job_events_pkey"}
    assert plan.rows_of("job_events") == 0


async def test_purging_begins_with_the_oldest(filled: Database) -> None:
    plan = await run_and_undo(filled, "purge_dead_jobs", tenant_id=str(TENANT), limit="100")
    assert "jobs_dead_oldest" in plan.indexes_of("jobs_dead")
    assert plan.rows_of("jobs_dead") <= 210
    assert plan.rows_of("jobs") == 0


async def test_a_scan_of_a_table_would_be_noticed(filled: Database) -> None:
    async with filled.session() as session:
        row = await session.one(
            "explain (analyze, format json) select count(*) from millstream.jobs where payload = ''"
        )
    assert row is not None
    scanned = Plan(list(_scans(json.loads(row[0])[0]["Plan"])))
    assert scanned.rows_of("jobs") >= 15_000
