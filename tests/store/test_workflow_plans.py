"""The plans of workflows and of the dashboard: what they look at is what there is of a workflow, a tenant, a day."""

from collections.abc import AsyncIterator

import pytest

from millstream.store.database import Database, Session
from tests.store.filling import TENANT
from tests.store.planning import GROWING, assert_no_scan, explain, run_as_tenant, sample

WIDTH = 300
WORKFLOW = "'00000000-0000-7000-8000-000000000001'"

# Blocked jobs of the tenant that wait for one of its running jobs: a workflow together.
_SETUP = (
    (
        "create temporary table chosen on commit drop as"
        f" (select id, 1 as place from millstream.jobs where tenant_id = {TENANT} and state = 5 order by id limit 1)"
        f" union all (select id, 2 from millstream.jobs where tenant_id = {TENANT} and state = 4 order by id limit {WIDTH})"
    ),
    (
        "insert into millstream.workflows (tenant_id, id, name, queues, total_jobs, created_at)"
        f" select {TENANT}, md5('w' || n)::uuid, 'w', '{{q}}'::text[], 1, now() from generate_series(1, 3000) as n"
        f" union all select {TENANT}, {WORKFLOW}, 'w', '{{q}}'::text[], {WIDTH + 1}, now()"
    ),
    (
        "insert into millstream.workflow_jobs (tenant_id, workflow_id, place, key, job_id)"
        f" select {TENANT}, md5('w' || n)::uuid, 1, 'k', md5('j' || n)::uuid from generate_series(1, 3000) as n"
        f" union all select {TENANT}, {WORKFLOW}, row_number() over (order by place, id), 'k', id from chosen"
    ),
    (
        "insert into millstream.job_dependencies (tenant_id, job_id, depends_on)"
        f" select {TENANT}, md5('j' || n)::uuid, md5('d' || n)::uuid from generate_series(1, 3000) as n"
        f" union all select {TENANT}, c.id, p.id from chosen as c inner join chosen as p on p.place = 1 where c.place = 2"
    ),
    f"update millstream.jobs set workflow_id = {WORKFLOW}, has_dependents = true where id in (select id from chosen)",
)
_TABLES = ("workflows", "workflow_jobs", "job_dependencies", *GROWING)


@pytest.fixture
async def session(filled: Database) -> AsyncIterator[Session]:
    """A session of the engine within a transaction that has made workflows, and is taken back."""
    async with filled.session() as session:
        await session.run("begin")
        # Made by the test, however it is planned.
        await session.run("set local enable_seqscan = on")
        for statement in _SETUP:
            await session.run(statement)
        await session.run("set local enable_seqscan = off")
        try:
            yield session
        finally:
            await session.run("rollback")


async def reads(session: Session) -> dict[str, tuple[int, int]]:
    """Return, table by table, how many rows this transaction has scanned, and fetched by indexes."""
    rows = await session.many(
        "select relname::text as name, seq_tup_read as scanned, coalesce(idx_tup_fetch, 0) as fetched"
        " from pg_stat_xact_user_tables where schemaname = 'millstream'"
    )
    return {row["name"]: (row["scanned"], row["fetched"]) for row in rows}


async def read_by(session: Session, query: str) -> dict[str, int]:
    """Run a query; returns how many rows of each growing table it fetched. None may be scanned."""
    before = await reads(session)
    await session.many(query)
    after = await reads(session)
    found: dict[str, int] = {}
    for name in _TABLES:
        (scanned_before, fetched_before), (scanned, fetched) = (
            before.get(name, (0, 0)),
            after.get(name, (0, 0)),
        )
        assert scanned == scanned_before, name
        found[name] = fetched - fetched_before
    return found


async def test_letting_go_touches_what_waits(session: Session) -> None:
    parent = "(select id from chosen where place = 1)"
    touched = await read_by(
        session,
        f"select * from millstream.release_dependents({TENANT}, array[{parent}], array[{WORKFLOW}]::uuid[], now())",
    )
    # Each is locked, and changed where it was locked.
    assert touched["jobs"] <= 3 * WIDTH
    assert touched["job_dependencies"] <= 2 * WIDTH


async def test_what_can_never_start_is_found_by_its_links(session: Session) -> None:
    parent = "(select id from chosen where place = 1)"
    touched = await read_by(
        session, f"select * from millstream.lock_hopeless({TENANT}, array[{parent}], false)"
    )
    assert WIDTH <= touched["jobs"] <= 4 * WIDTH
    assert touched["job_dependencies"] <= 2 * WIDTH


async def test_following_a_workflow_reads_its_jobs(session: Session) -> None:
    keys = {"tenant_ids": f"array[{TENANT}]", "ids": f"array[{WORKFLOW}]::uuid[]"}
    counted = await explain(session, "count_workflow_jobs", **keys)
    assert_no_scan(counted)
    assert counted.indexes_of("workflow_jobs") == {"workflow_jobs_pkey"}
    assert counted.indexes_of("jobs") == {"jobs_pkey"}
    assert counted.rows_of("workflow_jobs") <= WIDTH + 2
    assert counted.rows_of("jobs") <= WIDTH + 2
    locked = await explain(session, "lock_workflows", **keys)
    assert locked.indexes_of("workflows") == {"workflows_pkey"}
    changed = await explain(session, "list_changed_workflows", rows_max="2000", limit="100")
    assert changed.rows_of("workflow_changes") == 0


async def test_a_page_of_workflows_reads_one_page(session: Session) -> None:
    plan = await explain(session, "list_workflows", tenant_id=str(TENANT), limit="20", offset="0")
    assert plan.indexes_of("workflows") == {"workflows_pkey"}
    assert plan.rows_of("workflows") <= 21


async def test_counting_active_workflows_goes_by_an_index_of_them(session: Session) -> None:
    plan = await explain(session, "count_active_workflows", tenant_id=str(TENANT))
    assert plan.indexes_of("workflows") == {"workflows_active"}


async def test_the_dashboard_reads_ended_jobs_of_the_last_day_only(filled: Database) -> None:
    [row] = await sample(
        filled,
        "select (select count(*) from millstream.jobs_done) as done, (select count(*) from millstream.jobs_dead) as dead",
    )
    plan = await run_as_tenant(filled, "read_dashboard")
    recent = [scan for scan in plan.scans if scan.relation.startswith("jobs_done") and scan.rows]
    assert recent
    # Found by when they ended, block by block, or by when they were created.
    assert all("finished" in (scan.index or "") or "pkey" in (scan.index or "") for scan in recent)
    assert sum(scan.rows or 0 for scan in recent) < row["done"] / 2
    alive = await run_as_tenant(filled, "list_dashboard_queues", limit="20")
    assert alive.rows_of("jobs_done") == 0
