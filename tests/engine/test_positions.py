"""Positions: committed offsets, explicit commits, resets. Contract: goqueue-messaging 10, 14.5, 14.10."""

from datetime import datetime

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import AccessDenied, BadRequest, Conflict, Gone, NotFound
from millstream.domain.group_position import (
    ALL_PARTITIONS,
    CommitRequest,
    PartitionOffset,
    ResetRequest,
    ResetStrategy,
)
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine
from tests.engine import groups_by_hand
from tests.engine.consuming import GROUP, TOPIC, Consuming


@pytest.fixture
async def consuming(engine: Engine, principal: Principal, clock: SteeredClock) -> Consuming:
    """A group with one member and a topic of one partition."""
    return await Consuming.begin(engine, principal, clock)


async def commit(
    consuming: Consuming,
    offset: int,
    *,
    partition: int = 0,
    member: str = "ann",
    generation: int | None = None,
) -> None:
    request = CommitRequest(
        member_id=member, offsets=[PartitionOffset(TOPIC, partition, offset)], generation=generation
    )
    await consuming.engine.positions.commit(consuming.principal, GROUP, request)


async def reset(
    consuming: Consuming,
    strategy: ResetStrategy,
    group: str = GROUP,
    *,
    partition: int = 0,
    offset: int | None = None,
    timestamp: datetime | None = None,
    dry_run: bool = False,
) -> list[int]:
    request = ResetRequest(
        topic=TOPIC,
        strategy=strategy,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        dry_run=dry_run,
    )
    positions = await consuming.engine.positions.reset(consuming.principal, group, request)
    return [one.offset for one in positions]


async def listed(consuming: Consuming, group: str = GROUP) -> dict[str, dict[int, int]]:
    positions = await consuming.engine.positions.list(consuming.principal, group)
    return {topic: dict(offsets) for topic, offsets in positions.offsets.items()}


async def test_a_group_without_settled_messages_has_no_offsets(consuming: Consuming) -> None:
    assert await listed(consuming, "nobody") == {}
    await consuming.publish("a")
    assert await listed(consuming) == {}
    [message] = await consuming.poll()
    await consuming.ack(message)
    assert await listed(consuming) == {TOPIC: {0: 1}}
    other = await consuming.engine.positions.list(consuming.principal, GROUP, "other")
    assert (other.offsets, other.generation) == ({}, 1)


async def test_the_committed_offset_follows_the_contracts_example(consuming: Consuming) -> None:
    await consuming.publish(*"abcde")
    messages = await consuming.poll()
    await consuming.ack(messages[0], messages[2], messages[4])
    assert await listed(consuming) == {TOPIC: {0: 1}}
    await consuming.ack(messages[1])
    assert await listed(consuming) == {TOPIC: {0: 3}}
    await consuming.engine.acknowledging.reject(consuming.principal, messages[3].receipt)
    assert await listed(consuming) == {TOPIC: {0: 5}}


async def test_messages_of_other_lanes_that_were_not_handed_out_hold_the_committed_offset(
    consuming: Consuming,
) -> None:
    await consuming.publish("n0", "n1")
    await consuming.publish("c2", priority=Priority.CRITICAL)
    [critical, first] = await consuming.poll(2)
    await consuming.ack(critical)
    assert await consuming.low() == 0
    await consuming.ack(first)
    assert await consuming.low() == 1
    await consuming.ack(*await consuming.poll())
    assert await consuming.low() == 3


async def test_a_delayed_message_that_is_not_due_does_not_hold_the_position_back(
    consuming: Consuming,
) -> None:
    await consuming.publish("a")
    [first] = await consuming.poll()
    await consuming.publish("soon", "later", "at last", delay_seconds=3)
    # Nobody has asked for messages since.
    await consuming.ack(first)
    assert await listed(consuming) == {TOPIC: {0: 4}}


async def test_a_delayed_message_that_is_due_unseen_holds_the_position_back(consuming: Consuming) -> None:
    await consuming.publish("a")
    [first] = await consuming.poll()
    await consuming.publish("for long", delay_seconds=500)
    await consuming.publish("soon", "too", delay_seconds=3)
    consuming.clock.advance(5)
    await consuming.ack(first)
    assert await listed(consuming) == {TOPIC: {0: 2}}
    await consuming.ack(*await consuming.poll())
    assert await listed(consuming) == {TOPIC: {0: 4}}


async def test_a_commit_settles_what_lies_below_it(consuming: Consuming) -> None:
    await consuming.publish(*"abcdef")
    messages = await consuming.poll(4)
    await consuming.engine.acknowledging.nack(consuming.principal, messages[0].receipt, delay_seconds=0)
    await commit(consuming, 3)
    assert await listed(consuming) == {TOPIC: {0: 3}}
    with pytest.raises(NotFound):
        await consuming.ack(messages[1])
    # What is leased above it stays leased.
    assert await consuming.polled_values() == ["e", "f"]
    await consuming.ack(messages[3])
    consuming.clock.advance(31)
    assert await consuming.polled_values() == ["e", "f"]


async def test_a_commit_ahead_passes_what_was_not_handed_out_yet(consuming: Consuming) -> None:
    await consuming.publish("a", "b")
    await consuming.publish("c", priority=Priority.LOW)
    await consuming.publish("d", "e")
    await commit(consuming, 3)
    assert await consuming.polled_values() == ["d", "e"]


async def test_a_commit_backwards_replays_what_was_settled(consuming: Consuming) -> None:
    await consuming.publish(*"abcde")
    messages = await consuming.poll()
    await consuming.ack(*messages[:4])
    await commit(consuming, 2)
    assert await listed(consuming) == {TOPIC: {0: 2}}
    # The last one is leased still.
    again = await consuming.poll()
    assert [(one.value, one.delivery_count) for one in again] == [("c", 1), ("d", 1)]
    await consuming.ack(*again, messages[4])
    assert await listed(consuming) == {TOPIC: {0: 5}}


async def test_what_is_acknowledged_after_a_commit_below_it_is_not_handed_out_again(
    consuming: Consuming,
) -> None:
    # As a client works that commits after each message and acknowledges besides.
    await consuming.publish(*"abcde")
    messages = await consuming.poll(4)
    await commit(consuming, 1)
    await consuming.ack(*messages[1:3])
    assert await listed(consuming) == {TOPIC: {0: 3}}
    # Those that are passed by do not make the page short.
    assert await consuming.polled_values(1) == ["e"]
    await consuming.ack(messages[3])
    assert await listed(consuming) == {TOPIC: {0: 4}}
    # What was settled since goes with the next commit, as with the first.
    await commit(consuming, 2)
    assert await consuming.polled_values() == ["c", "d"]


async def test_a_commit_backwards_leaves_what_waits_waiting(consuming: Consuming) -> None:
    await consuming.publish(*"abc")
    first, second, third = await consuming.poll()
    await consuming.engine.acknowledging.nack(consuming.principal, second.receipt, delay_seconds=50)
    await consuming.ack(first, third)
    await commit(consuming, 0)
    assert await consuming.polled_values() == ["a", "c"]
    consuming.clock.advance(50)
    assert [(one.value, one.delivery_count) for one in await consuming.poll()] == [
        ("a", 2),
        ("b", 2),
        ("c", 2),
    ]


async def test_a_commit_beyond_the_end_waits_for_the_log_to_come_there(consuming: Consuming) -> None:
    await commit(consuming, 3)
    assert await listed(consuming) == {TOPIC: {0: 3}}
    await consuming.publish("a", "b")
    assert await consuming.poll() == []
    await consuming.publish("c", "d", "e")
    assert await consuming.polled_values() == ["d", "e"]


async def test_a_commit_keeps_what_is_not_due_and_a_reset_forgets_it(consuming: Consuming) -> None:
    await consuming.publish("due", delay_seconds=5)
    await consuming.publish("later", delay_seconds=50)
    consuming.clock.advance(6)
    await commit(consuming, 2)
    assert await consuming.poll() == []
    consuming.clock.advance(50)
    assert await consuming.polled_values() == ["later"]
    await consuming.publish("forgotten", delay_seconds=50)
    assert await consuming.poll() == []
    await reset(consuming, ResetStrategy.LATEST)
    consuming.clock.advance(60)
    assert await consuming.poll() == []


async def test_a_commit_is_refused_as_a_whole(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock, partitions=2, members=("ann", "bob"))
    with pytest.raises(NotFound, match="member not found"):
        await commit(consuming, 1, member="zoe")
    with pytest.raises(AccessDenied, match="partition not assigned to this member"):
        await commit(consuming, 1, partition=1)
    with pytest.raises(Conflict):
        await commit(consuming, 1, generation=101)
    with pytest.raises(BadRequest):
        await commit(consuming, -1)
    both = [PartitionOffset(TOPIC, 0, 1), PartitionOffset(TOPIC, 1, 1)]
    with pytest.raises(AccessDenied):
        await engine.positions.commit(principal, GROUP, CommitRequest(member_id="ann", offsets=both))
    with pytest.raises(NotFound, match="group not found"):
        await engine.positions.commit(principal, "x", CommitRequest(member_id="ann", offsets=both))
    with pytest.raises(BadRequest, match="offsets are required"):
        await engine.positions.commit(principal, GROUP, CommitRequest(member_id="ann", offsets=[]))
    assert await listed(consuming) == {}
    await commit(consuming, 7, generation=1)
    assert await listed(consuming) == {TOPIC: {0: 7}}


async def test_resets_go_where_their_strategies_say(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock, partitions=2)
    await consuming.publish("a", "b", partition=0)
    clock.advance(10)
    moment = clock.now()
    await consuming.publish("c", partition=0)
    await consuming.publish("d", partition=1)
    assert await reset(consuming, ResetStrategy.EARLIEST, partition=ALL_PARTITIONS) == [0, 0]
    assert await reset(consuming, ResetStrategy.LATEST, partition=ALL_PARTITIONS) == [3, 1]
    assert await reset(consuming, ResetStrategy.TIMESTAMP, timestamp=moment, partition=ALL_PARTITIONS) == [
        2,
        0,
    ]
    assert await listed(consuming) == {TOPIC: {0: 2, 1: 0}}
    # Without a partition it is the first one's.
    assert await reset(consuming, ResetStrategy.OFFSET, offset=1) == [1]
    assert await reset(consuming, ResetStrategy.EARLIEST, dry_run=True) == [0]
    assert await consuming.polled_values() == ["b", "c", "d"]
    for strategy in (ResetStrategy.OFFSET, ResetStrategy.TIMESTAMP):
        with pytest.raises(BadRequest):
            await reset(consuming, strategy)
    with pytest.raises(NotFound):
        await reset(consuming, ResetStrategy.EARLIEST, partition=7)


async def test_a_reset_drops_leases_and_replays(consuming: Consuming) -> None:
    await consuming.publish(*"abc")
    first, second, third = await consuming.poll()
    await consuming.ack(first)
    await consuming.engine.acknowledging.nack(consuming.principal, second.receipt, delay_seconds=50)
    await reset(consuming, ResetStrategy.EARLIEST)
    with pytest.raises(Gone):
        await consuming.ack(third)
    assert [(one.value, one.delivery_count) for one in await consuming.poll()] == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
    ]
    consuming.clock.advance(60)
    assert len(await consuming.poll()) == 3


async def test_a_reset_makes_the_group_that_there_is_not_yet(
    consuming: Consuming, engine: Engine, principal: Principal
) -> None:
    await consuming.publish(*"abc")
    await reset(consuming, ResetStrategy.OFFSET, "early", offset=2, dry_run=True)
    assert await listed(consuming, "early") == {}
    await reset(consuming, ResetStrategy.OFFSET, "early", offset=2)
    assert await listed(consuming, "early") == {TOPIC: {0: 2}}
    async with engine.context.database.session() as session:
        row = await session.one("select id from millstream.consumer_groups where name = 'early'")
    assert row is not None
    await groups_by_hand.put_member(engine, principal, row["id"], "bob", {consuming.topic.id: [0]})
    async with engine.context.database.session() as session:
        await session.run("update millstream.group_members set generation = 0")
    assert [one.value for one in await consuming.poll(member="bob", group="early")] == ["c"]
