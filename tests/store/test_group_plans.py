"""How the statements of consumer groups reach their rows."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from millstream.store.database import Database
from tests.store.planning import array, run_and_undo, run_as_tenant

GROUPS = 50
MEMBERS = 40
PARTITIONS = 40
# Fifty groups of tenant 1, each with forty members that own a partition each of one topic.
_FILL = f"""
insert into millstream.topics (tenant_id, id, name, partitions, retention_hours, created_at)
overriding system value values (1, 1, 'orders', {PARTITIONS}, 168, now());
insert into millstream.partitions (tenant_id, topic_id, partition)
select 1, t.id, n from millstream.topics as t cross join generate_series(0, {PARTITIONS} - 1) as n;
insert into millstream.consumer_groups (tenant_id, id, name, generation, created_at, updated_at)
overriding system value select 1, n, 'g' || n, 7, now(), now() from generate_series(1, {GROUPS}) as n;
insert into millstream.group_members (
    tenant_id, group_id, member_id, client_id, topic_ids, session_timeout_ms, joined_at, seen_at, changes
)
select 1, g.id, 'm' || n, 'm', array[t.id], 30000, now(), now(), '[[7, "x"]]'
from millstream.consumer_groups as g
cross join millstream.topics as t
cross join generate_series(1, {MEMBERS}) as n;
insert into millstream.group_partitions (
    tenant_id, group_id, topic_id, partition, member_id, start_offset, lane_bases, lane_offsets, lane_seqs, updated_at
)
select 1, g.id, t.id, n, 'm' || n + 1, 0, '{{0,0,0,0,0,0}}', '{{0,0,0,0,0,0}}', '{{0,0,0,0,0,0}}', now()
from millstream.consumer_groups as g
cross join millstream.topics as t
cross join generate_series(0, {PARTITIONS} - 1) as n;
"""


@pytest.fixture
async def grouped(database_dsn: str) -> AsyncIterator[Database]:
    """A database with consumer groups in use."""
    connection = await asyncpg.connect(database_dsn)
    try:
        await connection.execute(_FILL)
        await connection.execute("set role millstream_owner")
        await connection.execute("vacuum (analyze)")
    finally:
        await connection.close()
    opened = await Database.open(database_dsn, min_size=1, max_size=2)
    yield opened
    await opened.close()


async def test_a_heartbeat_touches_its_member_and_what_that_owns(grouped: Database) -> None:
    plan = await run_as_tenant(grouped, "beat_member", group_name="'g7'", member_id="'m3'", generation="7")
    assert plan.indexes_of("group_members") == {"group_members_pkey"}
    assert plan.rows_of("group_members") <= 2
    assert plan.indexes_of("group_partitions") == {"group_partitions_member"}
    assert plan.rows_of("group_partitions") == 1
    # A tenant's groups may be few enough to be read whole.
    assert plan.rows_of("consumer_groups") <= GROUPS


async def test_touching_ten_members_touches_ten(grouped: Database) -> None:
    plan = await run_and_undo(
        grouped,
        "touch_members",
        tenant_id="1",
        group_ids="array_fill(7, array[10])",
        member_ids=array([f"m{number}" for number in range(1, 11)], "text"),
    )
    assert plan.indexes_of("group_members") == {"group_members_pkey"}
    # Each is found, locked, and changed where it is.
    assert plan.rows_of("group_members") == 20


async def test_a_sweep_reads_members_and_no_group_that_waits_for_nothing(grouped: Database) -> None:
    plan = await run_and_undo(
        grouped,
        "list_groups_to_tend",
        serving_since="now() - interval '1 hour'",
        process_id="gen_random_uuid()",
        live_seconds="5",
        limit="500",
    )
    assert plan.indexes_of("consumer_groups") <= {"consumer_groups_due", "consumer_groups_pkey"}
    assert plan.rows_of("consumer_groups") == 0
    assert plan.rows_of("group_members") == GROUPS * MEMBERS


async def test_a_changed_assignment_touches_its_partition_only(grouped: Database) -> None:
    plan = await run_as_tenant(
        grouped,
        "change_assignments",
        at="now()",
        group_ids="'{7,7}'",
        topic_ids="'{1,1}'",
        partitions="'{3,4}'",
        member_ids="'{m1,m1}'",
        target_ids="array[null, null]::text[]",
    )
    assert plan.indexes_of("group_partitions") == {"group_partitions_pkey"}
    assert plan.rows_of("group_partitions") == 2


async def test_moving_positions_stays_a_matter_of_the_heap(grouped: Database) -> None:
    update = "update millstream.group_partitions set lane_seqs[3] = lane_seqs[3] + 1 where group_id = 7"
    hot = "select pg_stat_get_tuples_hot_updated('millstream.group_partitions'::regclass) as hot"
    async with grouped.session() as session:
        before = await session.one(hot)
        await session.run(update)
        await session.run("select pg_stat_force_next_flush()")
        after = await session.one(hot)
        assert before is not None
        assert after is not None
        assert after["hot"] - before["hot"] == PARTITIONS
