"""The cooperative protocol, from its calls to the rows. Contract: goqueue-messaging 12."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from millstream.domain.consumer_group import GroupState, JoinRequest, Membership, Protocol, TopicPartition
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.rebalance import RebalanceState
from millstream.engine.cooperative import CooperativeHeartbeat, Revocation
from millstream.engine.engine import Engine
from tests.engine.group_work import GROUP, Consumers
from tests.engine.topics_by_hand import delete_topic, grow_topic


async def join(consumers: Consumers, client_id: str, topics: Sequence[str] = ("orders",)) -> Membership:
    request = JoinRequest(client_id=client_id, topics=topics)
    async with asyncio.timeout(10):
        return await consumers.engine.cooperative.join(consumers.principal, GROUP, request)


async def beat(consumers: Consumers, member_id: str, generation: int) -> CooperativeHeartbeat:
    return await consumers.engine.cooperative.heartbeat(consumers.principal, GROUP, member_id, generation)


async def revoke(
    consumers: Consumers, member_id: str, generation: int, partitions: Sequence[TopicPartition]
) -> Revocation:
    return await consumers.engine.cooperative.revoke(
        consumers.principal, GROUP, member_id, generation, partitions
    )


async def settle(consumers: Consumers) -> int:
    """Have all members do what they are told until the group is stable; returns its generation."""
    cooperative, principal = consumers.engine.cooperative, consumers.principal
    async with asyncio.timeout(10):
        while True:
            status = await cooperative.get(principal, GROUP)
            if status.group.state is GroupState.STABLE:
                return status.group.generation
            for member in status.group.members:
                told = await beat(consumers, member.member_id, status.group.generation)
                if told.to_revoke:
                    await revoke(consumers, member.member_id, told.generation, told.to_revoke)


async def shares(consumers: Consumers) -> list[int]:
    owners = await consumers.owners()
    return sorted(Counter(owner for owner in owners.values() if owner is not None).values())


async def test_a_newcomer_gets_its_share_by_heartbeats(consumers: Consumers) -> None:
    await consumers.topic(partitions=6)
    a = await join(consumers, "a")
    assert (a.group.protocol, a.group.generation, a.is_leader) == (Protocol.COOPERATIVE, 1, True)
    # Alone it has nothing to wait for.
    told = await beat(consumers, a.member_id, 1)
    assert (told.state, told.rebalance_required) == (RebalanceState.COMPLETE, False)
    assert told.assigned is not None
    assert len(told.assigned) == 6

    b = await join(consumers, "b")
    assert (b.group.generation, b.group.state, b.me.assigned) == (2, GroupState.REBALANCING, [])
    told = await beat(consumers, a.member_id, 1)
    assert (told.state, told.generation, told.rebalance_required) == (RebalanceState.PENDING_REVOKE, 1, True)
    assert told.revocation_deadline == consumers.clock.now() + timedelta(seconds=60)
    assert told.assigned is None
    assert told.to_revoke is not None
    assert len(told.to_revoke) == 3
    idle = await beat(consumers, b.member_id, 2)
    assert (idle.state, idle.to_revoke, idle.revocation_deadline) == (
        RebalanceState.PENDING_REVOKE,
        None,
        None,
    )

    answer = await revoke(consumers, a.member_id, 1, told.to_revoke[:2])
    assert answer == Revocation(pending=1, state=RebalanceState.PENDING_REVOKE)
    # What was given up belongs to nobody until all of it is.
    assert Counter((await consumers.owners()).values()) == {a.member_id: 4, None: 2}
    again = await beat(consumers, a.member_id, 1)
    assert again.to_revoke == told.to_revoke[2:]
    answer = await revoke(consumers, a.member_id, 1, told.to_revoke)
    assert answer == Revocation(pending=0, state=RebalanceState.PENDING_ASSIGN)
    assert await shares(consumers) == [3, 3]

    told = await beat(consumers, a.member_id, 1)
    assert (told.state, told.generation, told.rebalance_required) == (RebalanceState.PENDING_ASSIGN, 2, True)
    assert told.assigned is not None
    assert len(told.assigned) == 3
    consumers.clock.advance(2)
    assert (await beat(consumers, a.member_id, 2)).state is RebalanceState.PENDING_ASSIGN
    told = await beat(consumers, b.member_id, 2)
    assert (told.state, told.rebalance_required) == (RebalanceState.COMPLETE, False)
    assert told.assigned is not None
    assert len(told.assigned) == 3
    assert (await beat(consumers, a.member_id, 2)).state is RebalanceState.COMPLETE

    status = await consumers.engine.cooperative.get(consumers.principal, GROUP)
    assert (status.group.state, status.rebalance_state) == (GroupState.STABLE, RebalanceState.COMPLETE)
    counted = status.statistics
    assert (counted.total, counted.successful, counted.failed) == (2, 2, 0)
    assert (counted.partitions_assigned, counted.partitions_revoked) == (9, 3)
    assert counted.last_duration_ms == 2000


@pytest.mark.parametrize(("partitions", "members", "expected"), [(2, 2, [1, 1]), (6, 3, [2, 2, 2])])
async def test_shares_end_even(
    consumers: Consumers, partitions: int, members: int, expected: list[int]
) -> None:
    await consumers.topic(partitions=partitions)
    for number in range(members):
        await join(consumers, f"w{number}")
    assert await settle(consumers) == members
    assert await shares(consumers) == expected


async def test_a_member_that_does_not_obey_in_time_is_not_waited_for(
    consumers: Consumers, second_engine: Engine
) -> None:
    await consumers.topic(partitions=4)
    a = await join(consumers, "a")
    await beat(consumers, a.member_id, 1)
    b = await join(consumers, "b")
    for _ in range(3):
        consumers.clock.advance(20)
        for member in (a, b):
            await consumers.heartbeat(member.member_id)
    # Found by the sweep of any process, or by the heartbeat of whoever waits.
    assert await second_engine.groups.sweep() == 1
    assert await shares(consumers) == [2, 2]
    await settle(consumers)
    c = await join(consumers, "c")
    for _ in range(3):
        consumers.clock.advance(20)
        for member in (a, b, c):
            await consumers.heartbeat(member.member_id)
    told = await beat(consumers, c.member_id, 3)
    assert (told.state, told.generation) == (RebalanceState.PENDING_ASSIGN, 3)
    assert await shares(consumers) == [1, 1, 2]
    counted = await consumers.engine.cooperative.statistics(consumers.principal, GROUP)
    assert counted.revocation_timeouts == 2


async def test_rebalances_survive_a_restart(consumers: Consumers, second_engine: Engine) -> None:
    await consumers.topic(partitions=4)
    a = await join(consumers, "a")
    await beat(consumers, a.member_id, 1)
    await join(consumers, "b")
    await consumers.engine.close()
    after = consumers.through(second_engine)
    told = await beat(after, a.member_id, 1)
    assert told.to_revoke is not None
    await revoke(after, a.member_id, 1, told.to_revoke)
    await settle(after)
    assert await shares(after) == [2, 2]


async def test_who_leaves_or_falls_silent_amid_a_rebalance_begins_another(consumers: Consumers) -> None:
    await consumers.topic(partitions=6)
    a = await join(consumers, "a")
    await beat(consumers, a.member_id, 1)
    b = await join(consumers, "b")
    await consumers.leave(b.member_id)
    told = await beat(consumers, a.member_id, 1)
    # What it was to give up it keeps.
    assert (told.state, told.generation) == (RebalanceState.PENDING_ASSIGN, 3)
    assert told.assigned is not None
    assert len(told.assigned) == 6
    c = await join(consumers, "c")
    consumers.clock.advance(31)
    await beat(consumers, c.member_id, 4)
    assert await consumers.engine.groups.sweep() == 1
    assert await settle(consumers) == 5
    assert set((await consumers.owners()).values()) == {c.member_id}
    counted = await consumers.engine.cooperative.statistics(consumers.principal)
    assert (counted.total, counted.failed, counted.successful) == (5, 3, 2)


async def test_partitions_that_come_and_go_are_handed_over_the_same_way(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=2)
    for name in ("a", "b"):
        await join(consumers, name)
    await settle(consumers)
    before = await consumers.owners()
    await grow_topic(consumers.engine, topic, 6)
    assert await settle(consumers) == 3
    after = await consumers.owners()
    assert before.items() <= after.items()
    assert await shares(consumers) == [3, 3]
    await delete_topic(consumers.engine, topic)
    assert await settle(consumers) == 4
    assert await consumers.owners() == {}


async def test_a_member_that_drops_a_topic_gives_it_up_with_that(consumers: Consumers) -> None:
    await consumers.topic("orders", 2)
    await consumers.topic("other", 2)
    a = await join(consumers, "a", ["orders", "other"])
    await settle(consumers)
    request = JoinRequest(client_id="a", topics=["other"], member_id=a.member_id)
    again = await consumers.engine.cooperative.join(consumers.principal, GROUP, request)
    assert again.member_id == a.member_id
    assert [partition.label for partition in again.me.assigned] == ["other-0", "other-1"]


async def test_calls_that_make_no_sense_are_refused(consumers: Consumers) -> None:
    await consumers.topic(partitions=2)
    cooperative, principal = consumers.engine.cooperative, consumers.principal
    for call in (
        beat(consumers, "m", 1),
        revoke(consumers, "m", 1, []),
        cooperative.get(principal, GROUP),
        cooperative.get_assignment(principal, GROUP, "m"),
        cooperative.statistics(principal, GROUP),
    ):
        with pytest.raises(NotFound, match="group not found"):
            await call
    a = await join(consumers, "a")
    for call in (
        beat(consumers, "m", 1),
        revoke(consumers, "m", 1, []),
        cooperative.get_assignment(principal, GROUP, "m"),
    ):
        with pytest.raises(NotFound, match=r"member not found \(may have been evicted\)"):
            await call
    for call in (
        beat(consumers, "", 1),
        revoke(consumers, "", 1, []),
        cooperative.get_assignment(principal, GROUP, ""),
    ):
        with pytest.raises(BadRequest, match="member_id is required"):
            await call
    with pytest.raises(Conflict, match=r"stale generation \(rebalance occurred\)"):
        await beat(consumers, a.member_id, 2)
    await settle(consumers)
    with pytest.raises(Conflict, match="no active rebalance"):
        await revoke(consumers, a.member_id, 1, [])
    await join(consumers, "b")
    with pytest.raises(Conflict, match=r"^stale generation$"):
        await revoke(consumers, a.member_id, 3, [])
    # What is not its own, or not there at all, moves nothing.
    stray = [TopicPartition("orders", 99), TopicPartition("absent", 0)]
    assert (await revoke(consumers, a.member_id, 1, stray)).pending == 1


async def test_an_eager_group_answers_cooperative_questions(consumers: Consumers) -> None:
    await consumers.topic(partitions=2)
    [a, b] = await consumers.join_first("a", "b")
    told = await beat(consumers, a.member_id, 1)
    assert (told.protocol, told.state, told.rebalance_required) == (
        Protocol.EAGER,
        RebalanceState.COMPLETE,
        False,
    )
    assert told.assigned == a.me.assigned
    with pytest.raises(Conflict, match="no active rebalance"):
        await revoke(consumers, a.member_id, 1, [])
    generation, member = await consumers.engine.cooperative.get_assignment(
        consumers.principal, GROUP, b.member_id
    )
    assert (generation, member) == (1, b.me)
    status = await consumers.engine.cooperative.get(consumers.principal, GROUP)
    assert (status.group.protocol, status.rebalance_state) == (Protocol.EAGER, RebalanceState.NONE)


async def test_joins_and_revocations_at_once_through_two_processes_end_even(
    consumers: Consumers, second_engine: Engine
) -> None:
    await consumers.topic(partitions=12)
    elsewhere = consumers.through(second_engine)
    await asyncio.gather(*(join((consumers, elsewhere)[number % 2], f"w{number}") for number in range(6)))
    generations = await asyncio.gather(settle(consumers), settle(elsewhere), return_exceptions=True)
    assert {generation for generation in generations if not isinstance(generation, Conflict)} <= {6}
    assert await settle(consumers) == 6
    assert await shares(consumers) == [2] * 6
