"""Joining, living in and leaving consumer groups. Contract: goqueue-messaging 7."""

import asyncio
from datetime import timedelta

import pytest

from millstream.domain.consumer_group import GroupState, JoinRequest, Protocol, TopicPartition
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.engine.engine import Engine
from millstream.engine.wakeups import group_bell
from millstream.store import group_members
from tests.conftest import make_principal
from tests.engine.group_work import GROUP, Consumers, labels, until
from tests.engine.topics_by_hand import fill_partition


async def test_joins_at_once_are_answered_together(consumers: Consumers, second_engine: Engine) -> None:
    await consumers.topic(partitions=6)
    elsewhere = consumers.through(second_engine)
    joins = [consumers.joining("b"), elsewhere.joining("a"), elsewhere.joining("c")]
    b, a, c = await consumers.gather(*joins)
    assert [membership.group.generation for membership in (a, b, c)] == [1, 1, 1]
    assert labels(a) == ["orders-0", "orders-1"]
    assert labels(b) == ["orders-2", "orders-3"]
    assert labels(c) == ["orders-4", "orders-5"]
    assert sum(membership.is_leader for membership in (a, b, c)) == 1
    assert a.member_id.startswith("a-")
    assert a.group.state is GroupState.STABLE
    assert a.me.session_seconds == 30
    for membership in (a, b, c):
        heartbeat = await consumers.heartbeat(membership.member_id, 1)
        assert not heartbeat.rebalance_required
        assert heartbeat.assigned == membership.me.assigned


async def test_nobody_is_assigned_anything_while_joins_are_gathered(consumers: Consumers) -> None:
    await consumers.topic()
    join = consumers.joining("a")
    await until(lambda: is_gathering(consumers))
    assert await consumers.owners() == {}
    assert (await consumers.engine.groups.get(consumers.principal, GROUP)).generation == 0
    [membership] = await consumers.gather(join)
    assert membership.group.generation == 1


async def is_gathering(consumers: Consumers) -> bool:
    summaries = await consumers.engine.groups.list_details(consumers.principal)
    return [summary.state for summary in summaries] == [GroupState.REBALANCING]


async def test_the_window_ends_by_itself(consumers: Consumers) -> None:
    # Nobody sweeps: whoever joined finds it over.
    await consumers.topic()
    join = consumers.joining("a")
    await until(lambda: is_gathering(consumers))
    consumers.clock.advance(1)
    async with asyncio.timeout(10):
        assert len((await join).me.assigned) == 6


async def test_a_join_after_the_window_ends_it_for_those_before(consumers: Consumers) -> None:
    await consumers.topic(partitions=2)
    first = consumers.joining("a")
    await until(lambda: is_gathering(consumers))
    consumers.clock.advance(1)
    second = await consumers.join("b")
    assert (await first).group == second.group
    assert second.group.generation == 1


async def test_a_group_that_is_deleted_while_it_gathers_refuses_its_joins(consumers: Consumers) -> None:
    await consumers.topic()
    join = consumers.joining("a")
    await until(lambda: is_gathering(consumers))
    await consumers.engine.groups.delete(consumers.principal, GROUP)
    with pytest.raises(NotFound, match="group not found"):
        await join


async def test_a_later_join_is_a_rebalance_of_its_own(consumers: Consumers) -> None:
    await consumers.topic(partitions=7)
    [a] = await consumers.join_first("a")
    b = await consumers.join("b")
    c = await consumers.join("c")
    assert [a.group.generation, b.group.generation, c.group.generation] == [1, 2, 3]
    assert labels(c) == ["orders-5", "orders-6"]
    assert c.group.leader_id == a.member_id
    owners = await consumers.owners()
    assert [owners[f"orders-{number}"][0] for number in range(7)] == list("aaabbcc")  # pyright: ignore[reportOptionalSubscript]


async def test_every_topic_is_assigned_to_those_who_subscribe_to_it(consumers: Consumers) -> None:
    await consumers.topic("orders", 2)
    await consumers.topic("a-b", 2)
    [both] = await consumers.join_first("x", topics=["orders", "a-b", "orders"])
    assert both.me.topics == ["orders", "a-b"]
    assert labels(both) == ["a-b-0", "a-b-1", "orders-0", "orders-1"]
    one = await consumers.join("y", topics=["a-b"])
    assert labels(one) == ["a-b-1"]
    assert one.group.topics == ["a-b", "orders"]


async def test_concurrent_joins_through_two_processes_own_each_partition_once(
    consumers: Consumers, second_engine: Engine
) -> None:
    await consumers.topic(partitions=9)
    await consumers.join_first("first")
    elsewhere = consumers.through(second_engine)
    joins = [(consumers, elsewhere)[number % 2].join(f"w{number}") for number in range(8)]
    memberships = await asyncio.gather(*joins)
    # One generation each, though who is answered late is told a later one's owners; none is told of two.
    assert max(membership.group.generation for membership in memberships) == 9
    told: dict[int, set[tuple[str, frozenset[TopicPartition]]]] = {}
    for membership in memberships:
        members = membership.group.members
        assigned = [partition for member in members for partition in member.assigned]
        assert len(assigned) == len(set(assigned)) == 9
        owned = {(member.member_id, frozenset(member.assigned)) for member in members}
        assert told.setdefault(membership.group.generation, owned) == owned
    owners = await consumers.owners()
    assert len(set(owners.values())) == 9


async def test_heartbeats_compare_assignments_not_generations(consumers: Consumers) -> None:
    await consumers.topic(partitions=2)
    [a, b] = await consumers.join_first("a", "b")
    # The newcomer idles: whoever had something keeps it.
    c = await consumers.join("c")
    assert labels(c) == []
    assert not (await consumers.heartbeat(a.member_id, 1)).rebalance_required
    await consumers.leave(a.member_id)
    told = await consumers.heartbeat(b.member_id, 1)
    assert told.rebalance_required
    assert (told.generation, told.topics) == (3, ["orders"])
    assert [partition.label for partition in told.assigned] == ["orders-0"]
    assert not (await consumers.heartbeat(b.member_id, 3)).rebalance_required
    assert not (await consumers.heartbeat(b.member_id)).rebalance_required
    # It was not there at the first.
    assert (await consumers.heartbeat(c.member_id, 1)).rebalance_required


async def test_a_generation_that_has_not_been_is_refused_and_keeps_nobody_alive(consumers: Consumers) -> None:
    await consumers.topic()
    [a] = await consumers.join_first("a")
    joined_at = a.me.seen_at
    consumers.clock.advance(5)
    with pytest.raises(Conflict, match=r"stale generation \(rebalance occurred\)"):
        await consumers.heartbeat(a.member_id, 101)
    assert (await consumers.engine.groups.get(consumers.principal, GROUP)).members[0].seen_at == joined_at
    await consumers.heartbeat(a.member_id, -3)
    [member] = (await consumers.engine.groups.get(consumers.principal, GROUP)).members
    assert member.seen_at == consumers.clock.now()


async def test_who_is_unknown_is_told_so(consumers: Consumers) -> None:
    await consumers.topic()
    groups, principal = consumers.engine.groups, consumers.principal
    for call in (
        groups.heartbeat(principal, "none", "m", 5),
        groups.leave(principal, "none", "m"),
        groups.get(principal, "none"),
        groups.delete(principal, "none"),
    ):
        with pytest.raises(NotFound, match="group not found"):
            await call
    await consumers.join_first("a")
    for call in (groups.heartbeat(principal, GROUP, "m", 1), groups.leave(principal, GROUP, "m")):
        with pytest.raises(NotFound, match=r"member not found \(may have been evicted\)"):
            await call
    for call in (groups.heartbeat(principal, GROUP, "", 1), groups.leave(principal, GROUP, "")):
        with pytest.raises(BadRequest, match="member_id is required"):
            await call


async def test_a_join_that_is_refused_leaves_no_group(consumers: Consumers) -> None:
    await consumers.topic()
    with pytest.raises(NotFound, match="topic not found: absent"):
        await consumers.join("a", ["orders", "absent"])
    with pytest.raises(BadRequest):
        await consumers.join("a", group="no/group")
    assert await consumers.engine.groups.list_names(consumers.principal) == []


async def test_another_tenant_sees_nothing(consumers: Consumers) -> None:
    await consumers.topic()
    [a] = await consumers.join_first("a")
    groups = consumers.engine.groups
    stranger = await make_principal(consumers.engine)
    assert await groups.list_names(stranger) == []
    with pytest.raises(NotFound, match="group not found"):
        await groups.heartbeat(stranger, GROUP, a.member_id)
    with pytest.raises(NotFound, match="topic not found: orders"):
        await groups.join(stranger, GROUP, JoinRequest(client_id="a", topics=["orders"]))


async def test_a_known_member_joins_anew_as_itself(consumers: Consumers) -> None:
    await consumers.topic("orders", 4)
    await consumers.topic("more", 1)
    [a, b] = await consumers.join_first("a", "b")
    same = await consumers.join("a", member_id=a.member_id, session_seconds=60)
    # Nothing has changed for anybody.
    assert (same.member_id, same.group.generation, labels(same)) == (a.member_id, 1, labels(a))
    assert same.me.session_seconds == 60
    changed = await consumers.join("a", ["more"], member_id=a.member_id)
    assert (changed.group.generation, labels(changed)) == (2, ["more-0"])
    assert len((await consumers.heartbeat(b.member_id)).assigned) == 4
    stranger = await consumers.join("a", member_id="a-unknown")
    assert stranger.member_id != "a-unknown"
    assert len(stranger.group.members) == 3


async def test_who_leaves_is_replaced_and_what_it_held_is_owed_at_once(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=2)
    [a, b] = await consumers.join_first("a", "b")
    await consumers.lease(a.group.id, topic, 0, a.member_id)
    await consumers.lease(a.group.id, topic, 1, b.member_id)
    consumers.clock.advance(1)
    woken = asyncio.create_task(
        consumers.engine.context.wakeups.wait(consumers.principal.tenant_id, [group_bell(a.group.id)], 10)
    )
    await asyncio.sleep(0)
    await consumers.leave(a.member_id)
    assert await woken
    now = consumers.clock.now()
    assert await consumers.owed(a.group.id) == [(10, 3, now, 1), (12, 3, now, 1)]
    rows = await consumers.rows()
    assert {row["member_id"] for row in rows.values()} == {b.member_id}
    # What the other one holds is its own.
    assert [rows[label]["in_flight"] for label in ("orders-0", "orders-1")] == [0, 2]
    with pytest.raises(NotFound, match="member not found"):
        await consumers.leave(a.member_id)


async def test_positions_outlive_members(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=1)
    await fill_partition(consumers.engine, topic, 0, start=3, end=8)
    [a] = await consumers.join_first("a")
    async with consumers.engine.context.database.session() as session:
        await session.run("update millstream.group_partitions set low = 5, lane_seqs[3] = 5")
    await consumers.leave(a.member_id)
    status = await consumers.engine.groups.get(consumers.principal, GROUP)
    assert (status.state, status.generation, status.members) == (GroupState.DEAD, 2, [])
    await fill_partition(consumers.engine, topic, 0, start=3, end=20)
    [again] = await consumers.join_first("a", starts_latest=True)
    # Generations go on where they were.
    assert again.group.generation == 3
    row = (await consumers.rows())["orders-0"]
    assert (row["low"], row["lane_seqs"][2], row["start_offset"]) == (5, 5, 3)


async def test_a_group_begins_where_it_is_told_to(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=1)
    await fill_partition(consumers.engine, topic, 0, start=3, end=8)
    await consumers.join_first("a", group="all")
    await consumers.join_first("a", group="new", starts_latest=True)
    [all_of_it, new] = [(await consumers.rows(group))["orders-0"] for group in ("all", "new")]
    assert (all_of_it["start_offset"], all_of_it["lane_bases"]) == (3, [3] * 6)
    assert (all_of_it["lane_offsets"], all_of_it["lane_seqs"]) == ([3] * 6, [0, 0, 3, 0, 0, 0])
    assert (new["start_offset"], new["lane_bases"]) == (8, [8] * 6)
    assert (new["lane_offsets"], new["lane_seqs"]) == ([8] * 6, [0, 0, 8, 0, 0, 0])
    assert all_of_it["low"] is new["low"] is None


async def test_groups_are_listed_by_name(consumers: Consumers) -> None:
    await consumers.topic()
    groups, principal = consumers.engine.groups, consumers.principal
    for name in ("b", "B", "a"):
        await consumers.join_first("w", group=name)
    [status] = (await groups.get(principal, "a")).members
    await consumers.leave(status.member_id, group="a")
    assert await groups.list_names(principal) == ["B", "a", "b"]
    listed = {summary.name: summary for summary in await groups.list_details(principal)}
    assert (listed["a"].state, listed["a"].members, listed["a"].topics) == (GroupState.DEAD, 0, [])
    assert (listed["b"].state, listed["b"].members, listed["b"].topics) == (GroupState.STABLE, 1, ["orders"])


async def test_a_deleted_group_is_gone_with_all_that_it_held(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=1)
    groups, principal = consumers.engine.groups, consumers.principal
    [a] = await consumers.join_first("a")
    await consumers.lease(a.group.id, topic, 0, a.member_id)
    b = await consumers.join("b")
    await consumers.leave(a.member_id)
    await consumers.lease(a.group.id, topic, 0, b.member_id)
    assert len(await consumers.owed(a.group.id)) == 2
    await groups.delete(principal, GROUP)
    with pytest.raises(NotFound, match="group not found"):
        await consumers.heartbeat(b.member_id)
    [again] = await consumers.join_first("a")
    # Its successor is another group.
    assert again.group.id != a.group.id
    assert again.group.generation == 1
    # What was owed, and what a member left behind, goes in the background.
    assert await groups.remove_rows() == 3
    assert await groups.remove_rows() == 0
    for table in ("deliveries", "redeliveries", "removed_groups"):
        async with consumers.engine.context.database.session() as session:
            assert await session.many(f"select from millstream.{table}") == []


async def test_the_protocol_of_a_group_is_fixed_while_it_has_members(consumers: Consumers) -> None:
    await consumers.topic()
    [a] = await consumers.join_first("a")
    request = JoinRequest(client_id="b", topics=["orders"])
    with pytest.raises(Conflict, match="group uses the eager protocol"):
        await consumers.engine.cooperative.join(consumers.principal, GROUP, request)
    await consumers.leave(a.member_id)
    joined = await consumers.engine.cooperative.join(consumers.principal, GROUP, request)
    assert (joined.group.protocol, joined.group.generation) == (Protocol.COOPERATIVE, 3)
    with pytest.raises(Conflict, match="group uses the cooperative protocol"):
        await consumers.join("c")


async def test_a_member_that_is_touched_is_seen(consumers: Consumers) -> None:
    await consumers.topic()
    [a] = await consumers.join_first("a")
    consumers.clock.advance(3)
    tenant_id, group_id = consumers.principal.tenant_id, a.group.id
    async with consumers.engine.context.database.tenant(tenant_id) as session:
        now = consumers.clock.now()
        assert await group_members.touch_member(session, tenant_id, group_id, a.member_id, now)
        assert not await group_members.touch_member(session, tenant_id, group_id, "m", now)
        # A clock that runs behind takes nothing back.
        before = now - timedelta(seconds=60)
        wanted = [(group_id, "m"), (group_id, a.member_id), (0, a.member_id)]
        assert await group_members.touch_members(session, tenant_id, wanted, before) == [False, True, False]
    [member] = (await consumers.engine.groups.get(consumers.principal, GROUP)).members
    assert member.seen_at == now


async def test_members_that_come_and_go_through_two_processes_leave_nothing_unowned(
    consumers: Consumers, second_engine: Engine
) -> None:
    topic = await consumers.topic(partitions=5)
    await consumers.join_first("stays")
    processes = (consumers, consumers.through(second_engine))
    seen: list[tuple[int, dict[str, str]]] = []

    async def come_and_go(number: int) -> None:
        for turn in range(4):
            joined = await processes[number % 2].join(f"w{number}")
            owners = {
                partition.label: member.member_id
                for member in joined.group.members
                for partition in member.assigned
            }
            seen.append((joined.group.generation, owners))
            await consumers.lease(joined.group.id, topic, number, joined.member_id, offset=3 * turn)
            await processes[(number + 1) % 2].heartbeat(joined.member_id, joined.group.generation)
            await processes[(number + 1) % 2].leave(joined.member_id)

    await asyncio.gather(*(come_and_go(number) for number in range(5)))
    [a] = (await consumers.engine.groups.get(consumers.principal, GROUP)).members
    assert await consumers.owners() == {f"orders-{number}": a.member_id for number in range(5)}
    # Whoever was told of a generation was told the same owners, and every partition had one.
    by_generation: dict[int, dict[str, str]] = {}
    for generation, owners in seen:
        assert len(owners) == 5
        assert by_generation.setdefault(generation, owners) == owners
    status = await consumers.engine.groups.get(consumers.principal, GROUP)
    assert status.generation == 1 + 2 * 20
    rows = await consumers.rows()
    assert [row["in_flight"] for row in rows.values()] == [0] * 5
    assert len(await consumers.owed(status.id)) == 2 * 20
