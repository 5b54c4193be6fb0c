"""What polls hand out."""

import asyncio
from datetime import datetime

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.delivery import PollRequest
from millstream.domain.errors import Conflict, NotFound
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine
from millstream.engine.wakeups import group_bell
from tests.engine import groups_by_hand
from tests.engine.consuming import Consuming


@pytest.fixture
async def consuming(engine: Engine, principal: Principal, clock: SteeredClock) -> Consuming:
    """A group with one member and a topic of one partition."""
    return await Consuming.begin(engine, principal, clock)


async def test_messages_are_handed_out_once_and_in_their_order(consuming: Consuming) -> None:
    await consuming.publish("a", "b", "c")
    first = await consuming.poll(2)
    assert [(one.value, one.offset, one.delivery_count) for one in first] == [("a", 0, 1), ("b", 1, 1)]
    assert first[0].deadline == consuming.in_seconds(30)
    assert await consuming.polled_values() == ["c"]
    assert await consuming.poll() == []


async def test_what_is_acknowledged_is_settled_and_moves_the_committed_offset(consuming: Consuming) -> None:
    await consuming.publish("a", "b", "c")
    messages = await consuming.poll()
    assert await consuming.low() is None
    await consuming.ack(messages[1])
    assert await consuming.low() == 0
    acked = await consuming.engine.acknowledging.ack(consuming.principal, messages[0].receipt)
    assert (acked.committed_offset, acked.offset_advanced, acked.in_flight) == (1, True, 1)
    await consuming.ack(messages[2])
    assert await consuming.low() == 3
    consuming.clock.advance(60)
    assert await consuming.poll() == []


async def test_more_urgent_messages_come_first(consuming: Consuming) -> None:
    await consuming.publish("n0", "n1")
    await consuming.publish("c0", priority=Priority.CRITICAL)
    await consuming.publish("b0", priority=Priority.BACKGROUND)
    assert await consuming.polled_values(2) == ["c0", "n0"]
    assert await consuming.polled_values() == ["n1", "b0"]


async def test_a_page_goes_by_priority_then_partition_then_offset(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock, partitions=2)
    await consuming.publish("n0", "n1", partition=0)
    await consuming.publish("n2", partition=1)
    await consuming.publish("c", partition=1, priority=Priority.CRITICAL)
    assert await consuming.polled_values() == ["c", "n0", "n1", "n2"]


async def test_a_busy_partition_does_not_keep_a_member_from_the_others(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock, partitions=3)
    for partition in range(3):
        await consuming.publish(*[f"{partition}"] * 20, partition=partition)
    served: list[set[str]] = []
    for _ in range(3):
        clock.advance(1)
        served.append(set(await consuming.polled_values(10)))
    assert served == [{"0"}, {"1"}, {"2"}]


async def test_what_waits_too_long_gets_a_tenth(consuming: Consuming) -> None:
    await consuming.publish(*[f"low{number}" for number in range(10)], priority=Priority.LOW)
    consuming.clock.advance(31)
    await consuming.publish(*["urgent"] * 100, priority=Priority.CRITICAL)
    values = await consuming.polled_values(50)
    # Inside the page it is sorted by priority.
    assert values == ["urgent"] * 45 + [f"low{number}" for number in range(5)]
    singles = [(await consuming.polled_values(1))[0] for _ in range(20)]
    assert singles.count("urgent") == 18
    assert singles[9] == singles[19][:-1] + "5" == "low5"


async def test_what_waits_too_long_in_another_partition_gets_its_share(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock, partitions=2)
    await consuming.publish("low", partition=1, priority=Priority.LOW)
    clock.advance(31)
    await consuming.publish(*["urgent"] * 100, partition=0, priority=Priority.CRITICAL)
    assert "low" in await consuming.polled_values(10)


async def test_a_member_holds_no_more_than_its_share(consuming: Consuming) -> None:
    await consuming.publish(*[str(number) for number in range(1_500)])
    first = await consuming.poll(900)
    second = await consuming.poll(900)
    assert (len(first), len(second)) == (900, 100)
    assert await consuming.poll() == []
    await consuming.ack(*first[:3])
    assert [one.offset for one in await consuming.poll()] == [1_000, 1_001, 1_002]


async def test_a_message_with_a_delay_is_handed_out_when_it_is_due_and_not_before(
    consuming: Consuming,
) -> None:
    await consuming.publish("later", delay_seconds=10, priority=Priority.CRITICAL)
    await consuming.publish("now")
    [now] = await consuming.poll()
    assert now.value == "now"
    await consuming.ack(now)
    # What is not due does not hold the committed offset.
    assert await consuming.low() == 2
    consuming.clock.advance(9.999)
    assert await consuming.poll() == []
    consuming.clock.advance(0.001)
    [later] = await consuming.poll()
    assert (later.offset, later.delivery_count, later.priority) == (0, 1, Priority.CRITICAL)
    assert (later.deadline - later.published_at).total_seconds() == 40
    consuming.clock.advance(31)
    [again] = await consuming.poll()
    assert (again.offset, again.delivery_count) == (0, 2)
    await consuming.ack(again)
    assert await consuming.low() == 2


async def test_a_cancelled_message_is_settled_for_every_group(consuming: Consuming) -> None:
    await consuming.publish("passed", delay_seconds=10)
    assert await consuming.poll() == []
    await consuming.publish("not passed", delay_seconds=10)
    for offset in (0, 1):
        await consuming.engine.delayed.cancel(consuming.principal, "orders", 0, offset)
    consuming.clock.advance(20)
    assert await consuming.poll() == []


async def test_a_new_group_is_handed_what_was_delayed_and_is_due_long_since(
    consuming: Consuming, engine: Engine, principal: Principal
) -> None:
    await consuming.publish(*[str(number) for number in range(5)], delay_seconds=10)
    consuming.clock.advance(100)
    await groups_by_hand.join(engine, principal, "late", ["bob"], [consuming.topic])
    first = await consuming.poll(3, member="bob", group="late")
    second = await consuming.poll(3, member="bob", group="late")
    assert [one.offset for one in (*first, *second)] == [0, 1, 2, 3, 4]


async def test_unknown_groups_and_members_and_generations_ahead_are_refused(consuming: Consuming) -> None:
    with pytest.raises(NotFound, match="group not found"):
        await consuming.poll(group="nobody")
    with pytest.raises(NotFound, match="evicted"):
        await consuming.poll(member="zoe")
    with pytest.raises(Conflict):
        await consuming.poll(generation=2)
    assert await consuming.poll(generation=1) == []


async def test_only_owned_partitions_are_polled(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock, partitions=4, members=("ann", "bob"))
    for partition in range(4):
        await consuming.publish(str(partition), partition=partition)
    assert await consuming.polled_values() == ["0", "2"]
    await groups_by_hand.own(engine, principal, consuming.group_id, "bob", consuming.topic.id, 0)
    # What was handed out stays with whom it was handed to.
    assert await consuming.polled_values(member="bob") == ["1", "3"]
    clock.advance(30)
    assert await consuming.polled_values(member="bob") == ["0", "1", "3"]


async def test_a_held_poll_is_answered_by_what_is_published(consuming: Consuming) -> None:
    polling = asyncio.create_task(consuming.poll(wait_seconds=20))
    await until_waiting(consuming.engine, consuming)
    await consuming.publish("a")
    async with asyncio.timeout(5):
        assert [one.value for one in await polling] == ["a"]


async def test_a_full_member_waits_until_it_settles_something(consuming: Consuming) -> None:
    await consuming.publish(*[str(number) for number in range(1_001)])
    held = await consuming.poll(1_000)
    polling = asyncio.create_task(consuming.poll(wait_seconds=20))
    await until_waiting(consuming.engine, consuming)
    await consuming.ack(held[0])
    async with asyncio.timeout(5):
        assert [one.offset for one in await polling] == [1_000]


async def test_a_poll_that_is_given_up_leaves_no_lease(consuming: Consuming) -> None:
    polling = asyncio.create_task(consuming.poll(wait_seconds=20))
    await until_waiting(consuming.engine, consuming)
    polling.cancel()
    await asyncio.wait([polling])
    assert consuming.engine.context.wakeups.waiting_queues() == []


async def test_what_nobody_was_told_of_is_delivered_as_if_it_never_was(consuming: Consuming) -> None:
    await consuming.publish("a", "b", delay_seconds=None)
    [_, second] = await consuming.poll()
    await consuming.engine.acknowledging.nack(consuming.principal, second.receipt, delay_seconds=0)
    consuming.clock.advance(30)
    engine, principal = consuming.engine, consuming.principal
    polled = await engine.polling.poll(principal, "billing", PollRequest(member_id="ann"))
    assert [one.delivery_count for one in polled.messages] == [2, 2]
    engine.polling.give_back(principal, polled)
    again: list[int] = []
    async with asyncio.timeout(10):
        while not again:
            again = [one.delivery_count for one in await consuming.poll()]
    assert again == [2, 2]
    assert await consuming.low() == 0


async def test_a_row_that_was_never_answered_for_counts_nothing(consuming: Consuming) -> None:
    await consuming.publish("a", "b")
    engine, principal = consuming.engine, consuming.principal
    polled = await engine.polling.poll(principal, "billing", PollRequest(member_id="ann"))
    engine.polling.give_back(principal, polled)
    await engine.polling.close()
    async with engine.context.database.session() as session:
        row = await session.one("select unsettled, low from millstream.group_partitions")
        assert row is not None
        assert (row["unsettled"], row["low"]) == (0, 0)
        owed = await session.many("select attempt from millstream.redeliveries")
        assert [one["attempt"] for one in owed] == [0, 0]


async def test_two_processes_hand_out_and_settle_everything_once(
    consuming: Consuming, second_engine: Engine
) -> None:
    there = consuming.elsewhere(second_engine)
    await consuming.publish(*[str(number) for number in range(400)])
    seen: list[int] = []

    async def consume(side: Consuming) -> None:
        while messages := await side.poll(7):
            seen.extend(one.offset for one in messages)
            refusals = await side.engine.acknowledging.ack_many(
                side.principal, [one.receipt for one in messages]
            )
            assert refusals == [None] * len(messages)

    await asyncio.gather(consume(consuming), consume(there), consume(consuming), consume(there))
    assert sorted(seen) == list(range(400))
    assert await consuming.low() == 400


async def test_whoever_polls_or_settles_is_alive(consuming: Consuming) -> None:
    async def seen_at() -> datetime:
        async with consuming.engine.context.database.session() as session:
            row = await session.one("select seen_at from millstream.group_members")
        assert row is not None
        return row["seen_at"]

    await consuming.publish("a")
    consuming.clock.advance(10)
    [message] = await consuming.poll()
    assert await seen_at() == consuming.clock.now()
    consuming.clock.advance(10)
    await consuming.engine.acknowledging.extend(consuming.principal, message.receipt, 60)
    assert await seen_at() == consuming.clock.now()
    consuming.clock.advance(10)
    await consuming.ack(message)
    assert await seen_at() == consuming.clock.now()


async def until_waiting(engine: Engine, consuming: Consuming) -> None:
    bell = (consuming.principal.tenant_id, group_bell(consuming.group_id))
    async with asyncio.timeout(10):
        while bell not in engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
