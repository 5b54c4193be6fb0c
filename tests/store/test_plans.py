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
GROWING = ("jobs", "jobs_dead", "jobs_done", "idempotency_keys", "job_events", "counters", "workers", "api_keys")


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


async def explain(session: Session, name: str, *, analyze: bool, **arguments: str) -> Plan:
    """Explain a statement with SQL literals as arguments; what is not given is null."""
    statement = STATEMENTS[name]
    assert set(arguments) <= set(statement.parameters), set(arguments) - set(statement.parameters)
    values = ", ".join(arguments.get(parameter, "null") for parameter in statement.parameters)
    await session.run(f"prepare planned as {statement.sql}")
    try:
        options = "analyze, timing off, summary off, format json" if analyze else "format json"
        execute = f"execute planned({values})" if statement.parameters else "execute planned"
        row = await session.one(f"explain ({options}) {execute}")
    finally:
        await session.run("deallocate planned")
    assert row is not None
    return Plan(list(_scans(json.loads(row[0])[0]["Plan"])))


async def run_and_undo(database: Database, name: str, **arguments: str) -> Plan:
    """Run a statement of the engine as its login does, and take back what it did."""
    async with database.session() as session:
        await session.run("begin")
        try:
            plan = await explain(session, name, analyze=True, **arguments)
        finally:
            await session.run("rollback")
    assert_no_scan(plan)
    return plan


async def run_as_tenant(database: Database, name: str, **arguments: str) -> Plan:
    async with database.tenant(TENANT) as session:
        plan = await explain(session, name, analyze=True, tenant_id=str(TENANT), **arguments)
    assert_no_scan(plan)
    return plan


def assert_no_scan(plan: Plan) -> None:
    scanned = [
        scan
        for scan in plan.scans
        if scan.node == "Seq Scan" and any(_belongs(scan.relation, table) for table in GROWING)
    ]
    assert scanned == []


async def sample(database: Database, query: str) -> list[dict[str, Any]]:
    async with database.session() as session:
        return [dict(row.items()) for row in await session.many(query)]  # pyright: ignore[reportAttributeAccessIssue]


def array(values: list[Any], kind: str) -> str:
    return "array[" + ", ".join("null" if value is None else f"'{value}'" for value in values) + f"]::{kind}[]"


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


async def test_show(filled: Database) -> None:
    import sys

    async def show(name: str, tenant: bool = False, **arguments: str) -> None:
        if tenant:
            async with filled.tenant(TENANT) as session:
                plan = await explain(session, name, analyze=True, tenant_id=str(TENANT), **arguments)
        else:
            async with filled.session() as session:
                await session.run("begin")
                try:
                    plan = await explain(session, name, analyze=True, **arguments)
                finally:
                    await session.run("rollback")
        print("==", name, file=sys.stderr)
        for scan in plan.scans:
            print("   ", scan.node, scan.relation, scan.index, scan.rows, scan.loops, file=sys.stderr)

    running = await running_jobs(filled, 10)
    await show("promote_due_jobs", after="'epoch'", limit="1000")
    await show("next_run_at", after="'epoch'")
    ids = "array[" + ",".join(f"'{secrets.token_hex(16)}'" for _ in range(10)) + "]::uuid[]"
    await show("claim_jobs", batch_id="1", tenant_ids="'{1}'", queues="'{q1}'", wants="'{10}'", slot_firsts="'{0}'",
        slot_seats="array_fill(1, array[10])", worker_ids="'{w}'", lease_seconds="'{30}'", lease_ids=ids)
    await show("complete_jobs", **running, results=array(["{}"] * 10, "text"))
    await show("fail_jobs", **running, reap="0", after="'epoch'", errors=array(["e"] * 10, "text"), delays="array_fill(null::int, array[10])",
        event_ids=ids)
    await show("fail_jobs", batch_id="1", reap="500", after="'epoch'", tenant_ids=EMPTY, ids=EMPTY, worker_ids=EMPTY, lease_ids=EMPTY, check_ends=EMPTY, errors=EMPTY, delays=EMPTY, event_ids=EMPTY)
    renew = {k: v for k, v in running.items() if k != "batch_id"}
    await show("renew_leases", **renew, lease_seconds="array_fill(30, array[10])")
    await show("judge_jobs", tenant_ids=running["tenant_ids"], ids=running["ids"])
    await show("find_job", tenant=True, id="'" + running["ids"][7:43] + "'")
    f = dict(queue_matches=EMPTY, type_matches=EMPTY, limit="51", offset="0")
    await show("list_jobs_newest", tenant=True, **f)
    await show("list_jobs_oldest", tenant=True, **f)
    await show("list_jobs_newest", tenant=True, **f, queue="'q1'")
    await show("find_expired_jobs", limit="500")
    await show("cancel_jobs", tenant_ids=running["tenant_ids"], ids=running["ids"])
    await show("retry_dead_jobs", tenant_id="1", limit="100", restart="true")
    await show("purge_dead_jobs", tenant_id="1", limit="100")
    await show("count_job_usage", tenant_id="1", active_max="11")
    await show("prune_done_jobs", tenant_ids="'{1,2,3,4,5}'", finished_befores="array_fill(now() - interval '60 days', array[5])", limit="2000")
    await show("prune_job_events", tenant_ids="'{1,2,3,4,5}'", befores="array_fill(now() - interval '60 days', array[5])", limit="2000")
    await show("find_api_key", digest="sha256('7'::bytea)")
    await show("retire_stale_workers", silence_seconds="120")
    await show("find_claimed_jobs", tenant_ids=running["tenant_ids"], lease_ids=running["lease_ids"])
    await show("list_job_events", tenant=True, job_id="gen_random_uuid()")
    await show("list_job_statuses", tenant=True, ids=running["ids"])
    await show("get_queue_stats", tenant=True, name="'q1'")
    await show("list_workers", tenant=True, limit="100")
    await show("release_jobs", tenant_ids=running["tenant_ids"], ids=running["ids"], lease_ids=running["lease_ids"])
    none = lambda k: f"array_fill(null::{k}, array[2])"
    await show("create_jobs", batch_id="1", default_max_retries="3", default_timeout_seconds="300", tenant_ids="'{1,1}'",
        ids=f"array['{secrets.token_hex(16)}','{secrets.token_hex(16)}']::uuid[]", queues="'{q1,q2}'", payloads="'{a,b}'", job_types="'{a,b}'",
        priorities="'{0,0}'", max_retries=none("smallint"), timeouts=none("int"), run_ats=none("timestamptz"), expires_ats=none("timestamptz"),
        idempotency_keys="'{k1,k2}'", tags=none("text"), parent_job_ids=none("uuid"), webhooks=none("text"), webhook_secrets=none("text"),
        label_tenant_ids=EMPTY, label_kinds=EMPTY, labels=EMPTY)
