"""Plans of the statements of polls and acknowledgements, on logs and groups that have been in use for long."""

import asyncpg
import pytest

from millstream.store.database import Database
from tests.store.planning import Plan, array, run_and_undo

GROUPS = 20
PARTITIONS = 4
BATCHES = 300
KEYS = ("tenant_ids", "group_ids", "topic_ids", "partitions")
GROWING = ("record_batches", "deliveries", "redeliveries", "group_partitions", "delayed_messages")

_FILL = f"""
insert into millstream.topics (tenant_id, id, name, partitions, retention_hours, created_at)
overriding system value select 1, n, 't' || n, {PARTITIONS}, 1, now() from generate_series(1, 5) as n;
insert into millstream.partitions (tenant_id, topic_id, partition, next_offset, lane_nexts)
select 1, t.id, p, {BATCHES} * 100, array[0, 0, {BATCHES} * 100, 0, 0, 0]
from millstream.topics as t cross join generate_series(0, {PARTITIONS} - 1) as p;
insert into millstream.record_batches (
    tenant_id, topic_id, partition, lane, base_offset, last_offset, lane_first, record_count, published_at, codec, size_bytes,
    records
)
select 1, p.topic_id, p.partition, 3, n * 100, n * 100 + 99, n * 100, 100, now(), 0, 100, '\\x00'
from millstream.partitions as p cross join generate_series(0, {BATCHES} - 1) as n;
insert into millstream.consumer_groups (tenant_id, id, name, created_at, updated_at)
overriding system value select 1, n, 'g' || n, now(), now() from generate_series(1, {GROUPS}) as n;
insert into millstream.group_members (
    tenant_id, group_id, member_id, client_id, topic_ids, session_timeout_ms, joined_at, seen_at
)
select 1, g.id, 'm' || n, 'm', '{{}}', 30000, now(), now()
from millstream.consumer_groups as g cross join generate_series(0, 3) as n;
insert into millstream.group_partitions (
    tenant_id, group_id, topic_id, partition, member_id, start_offset, lane_bases, lane_offsets, lane_seqs, updated_at
)
select
    1, g.id, p.topic_id, p.partition, 'm' || p.partition, 0, array_fill({BATCHES} * 50, '{{6}}'),
    array_fill({BATCHES} * 50, '{{6}}'), array_fill({BATCHES} * 50, '{{6}}'), now()
from millstream.consumer_groups as g cross join millstream.partitions as p;
-- Most are finished; of the others few have run out.
insert into millstream.deliveries (
    tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset, message_count, outcomes, leased,
    lowest_leased, first_delivered_at, delivered_at, deadline, finished_at
)
select
    1, p.group_id, p.topic_id, p.partition, 3, p.member_id, n, n * 100, 100,
    case when n > 27 then decode(repeat('00', 100), 'hex') else decode(repeat('01', 100), 'hex') end,
    case when n > 27 then 100 else 0 end, case when n > 27 then n * 100 end, now(), now(), now() + n * interval '1 minute',
    case when n <= 27 then now() - n * interval '1 minute' end
from millstream.group_partitions as p cross join generate_series(1, 30) as n;
insert into millstream.redeliveries (tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt)
select 1, p.group_id, p.topic_id, p.partition, 10000 + n, 3, now() + (n - 20) * interval '1 minute', 1
from millstream.group_partitions as p cross join generate_series(1, 40) as n
"""


@pytest.fixture
async def filled(database: Database, database_dsn: str) -> Database:
    """A database with topics and groups in use."""
    connection: asyncpg.Connection = await asyncpg.connect(database_dsn)
    try:
        for statement in _FILL.split(";\n"):
            await connection.execute(statement)
        await connection.execute("set role millstream_owner")
        for table in (*GROWING, "partitions", "topics", "consumer_groups", "group_members"):
            await connection.execute(f"analyze millstream.{table}")
    finally:
        await connection.close()
    return database


def keys(count: int) -> dict[str, str]:
    """Name partitions of the first group's first topic."""
    return {
        "tenant_ids": array([1] * count, "int"),
        "group_ids": array([1] * count, "int"),
        "topic_ids": array([1] * count, "int"),
        "partitions": array(list(range(count)), "int"),
    }


def assert_no_walk(plan: Plan) -> None:
    assert [scan for scan in plan.scans if scan.node == "Seq Scan" and scan.relation in GROWING] == []


async def test_the_hot_statements_touch_what_they_are_about(filled: Database) -> None:
    plan = await run_and_undo(
        filled,
        "lock_polled_partitions",
        batch_id="1",
        tenant_ids="array[1]",
        groups="array['g1']",
        member_ids="array['m1']",
    )
    assert_no_walk(plan)
    # Five topics; all of the group's partitions are looked at.
    assert plan.rows_of("group_partitions") <= 5 * PARTITIONS
    plan = await run_and_undo(
        filled,
        "look_at_partitions",
        **keys(2),
        member_numbers="array[1, 1]",
        member_tenant_ids="array[1]",
        member_group_ids="array[1]",
        member_ids="array['m1']",
    )
    assert_no_walk(plan)
    assert plan.rows_of("deliveries") <= 5 * 3 + 2 * 3
    assert plan.rows_of("redeliveries") <= 2 * 5
    assert plan.rows_of("record_batches") == 0

    plan = await run_and_undo(
        filled, "advance_lows", **keys(2), member_ids="array['m0', 'm1']", settled="array[1, 1]"
    )
    assert_no_walk(plan)
    # The next message of the one lane that has more: not a walk along the log, nor one along what is owed.
    assert plan.rows_of("record_batches") <= 2
    assert plan.rows_of("redeliveries") <= 2
    assert plan.rows_of("deliveries") <= 2 * (3 + 3)
    assert plan.rows_of("group_partitions") <= 2 * 2

    plan = await run_and_undo(
        filled,
        "fetch_batches",
        tenant_ids="array[1]",
        topic_ids="array[1]",
        partitions="array[0]",
        lanes="array[3]::smallint[]",
        bases="array[15000]::bigint[]",
        ends="array[30000]::bigint[]",
        seq_ends="array[15200]::bigint[]",
        row_limits="array[10]",
        bytes_max="1000000",
    )
    assert_no_walk(plan)
    assert plan.rows_of("record_batches") <= 10 + 2

    plan = await run_and_undo(filled, "next_wakes", **keys(2), numbers="array[1, 1]")
    assert_no_walk(plan)
    assert plan.rows_of("redeliveries") <= 2
    assert plan.rows_of("deliveries") <= 2 * 3


async def test_settling_goes_by_keys(filled: Database) -> None:
    async with filled.session() as session:
        rows = await session.many(
            "select id from millstream.deliveries where group_id = 1 and topic_id = 1 and partition = 0 limit 5"
        )
    ids = array([row["id"] for row in rows], "bigint")
    same = {
        "tenant_ids": array([1] * 5, "int"),
        "group_ids": array([1] * 5, "int"),
        "topic_ids": array([1] * 5, "int"),
        "partitions": array([0] * 5, "int"),
        "ids": ids,
    }
    plan = await run_and_undo(filled, "lock_deliveries", **same, batch_id="1")
    assert_no_walk(plan)
    assert plan.rows_of("deliveries") == 5
    assert plan.rows_of("group_partitions") == 1
    plan = await run_and_undo(
        filled,
        "record_outcomes",
        **same,
        outcomes=array(["\\x01"] * 5, "bytea"),
        leased=array([0] * 5, "int"),
        lowest_leased=array([None] * 5, "bigint"),
        deadlines=array([None] * 5, "timestamptz"),
        own_deadlines=array([None] * 5, "text"),
        results=array([None] * 5, "text"),
        counted_tenant_ids="'{}'",
        kinds="'{}'",
        subjects="'{}'",
        amounts="'{}'",
    )
    assert_no_walk(plan)
    assert plan.rows_of("deliveries") == 5


async def test_loops_begin_with_what_is_due(filled: Database) -> None:
    plan = await run_and_undo(filled, "find_ended_partitions", limit="100")
    assert_no_walk(plan)
    assert plan.indexes_of("deliveries") == {"deliveries_deadline"}
    assert plan.rows_of("deliveries") == 0
    plan = await run_and_undo(filled, "next_deadline")
    assert plan.rows_of("deliveries") == 1
    plan = await run_and_undo(filled, "prune_deliveries", kept_seconds="1500", limit="50")
    assert "deliveries_finished" in plan.indexes_of("deliveries")
    assert plan.rows_of("deliveries") <= 2 * 50
