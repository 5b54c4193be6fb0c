"""Plans of statements, planned the way the server runs them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from millstream.store.database import Database, Session
from millstream.store.queries import load_all
from tests.store.filling import TENANT

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
    "schedules",
    "schedule_runs",
    "counters",
    "workers",
    "api_keys",
    "revoked_tokens",
)


class Scan(Struct, frozen=True):
    """One scan of a plan: what it reads, by which index, and how many rows it looked at (None: not run)."""

    node: str
    relation: str
    index: str | None
    rows: float | None
    loops: int


class Plan(Struct, frozen=True):
    """All scans of one plan, and how often each function in it was called."""

    scans: list[Scan]
    calls: dict[str, int] = {}

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


def scans_of(node: Mapping[str, Any]) -> Iterator[Scan]:
    """Yield the scans of a plan as EXPLAIN tells it."""
    if node["Node Type"].endswith("Scan") and "Relation Name" in node:
        loops = node.get("Actual Loops", 0)
        rows = None
        if "Actual Rows" in node:
            per_loop = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows = loops * (per_loop + node.get("Rows Removed by Index Recheck", 0))
        index = node.get("Index Name") or next(_bitmap_indexes(node), None)
        yield Scan(node["Node Type"], node["Relation Name"], index, rows, loops)
    for child in node.get("Plans", ()):
        yield from scans_of(child)


def calls_of(node: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the functions that a plan reads from, and how often."""
    if node["Node Type"] == "Function Scan" and "Function Name" in node:
        yield node["Function Name"], node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from calls_of(child)


def _bitmap_indexes(node: Mapping[str, Any]) -> Iterator[str]:
    for child in node.get("Plans", ()):
        if child["Node Type"] == "Bitmap Index Scan":
            yield child["Index Name"]
        yield from _bitmap_indexes(child)


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
    planned = json.loads(row[0])[0]["Plan"]
    return Plan(list(scans_of(planned)), dict(calls_of(planned)))


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
