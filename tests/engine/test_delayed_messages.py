"""Messages with a delay. Contract: goqueue-messaging 4.1, 6, 14.4."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from millstream.domain.errors import NotFound
from millstream.domain.message import PublishedMessage, RefusedMessage
from millstream.domain.topic import Priority
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.store import installation
from tests.engine.topic_work import CRITICAL, HIGH, TopicWork, message, values


async def cancel(topics: TopicWork, partition: int, offset: int) -> bool:
    try:
        await topics.engine.delayed.cancel(topics.principal, "t", partition, offset)
    except NotFound as error:
        return error.message != "delayed message not found or already delivered"
    return True


async def test_a_delayed_message_has_its_place_at_once_and_is_seen_in_time(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    answers = await topics.publish(
        message("a", partition=1, delay_seconds=30, priority=HIGH),
        message("b", partition=1),
        message("c", partition=1, deliver_at=topics.in_seconds(60)),
    )
    assert answers == [
        PublishedMessage(1, 0, HIGH, topics.in_seconds(30)),
        PublishedMessage(1, 1, Priority.NORMAL),
        PublishedMessage(1, 2, Priority.NORMAL, topics.in_seconds(60)),
    ]
    published_at = topics.clock.now()
    assert values((await topics.read(partition=1)).messages) == ["b"]
    topics.clock.advance(29.999)
    assert values((await topics.read(partition=1)).messages) == ["b"]
    topics.clock.advance(0.001)
    page = await topics.read(partition=1)
    assert values(page.messages) == ["a", "b"]
    assert {one.published_at for one in page.messages} == {published_at}
    topics.clock.advance(30)
    assert values((await topics.read(partition=1)).messages) == ["a", "b", "c"]


async def test_a_time_that_has_passed_is_no_delay(topics: TopicWork) -> None:
    await topics.create()
    answers = await topics.publish(
        message(delay_seconds=0),
        message(delay_seconds=-5),
        message(deliver_at=topics.in_seconds(-1)),
        message(deliver_at=topics.in_seconds(0)),
    )
    assert [one.deliver_at for one in answers] == [None] * 4
    assert len((await topics.read()).messages) == 4


async def test_the_longest_delay_is_taken_and_a_longer_one_refused(topics: TopicWork) -> None:
    await topics.create()
    answers = await topics.try_publish(
        message(delay_seconds=671_088.64),
        message(delay_seconds=671_088.65),
        message(deliver_at=topics.in_seconds(700_000)),
    )
    assert isinstance(answers[0], PublishedMessage)
    assert answers[1:] == [
        RefusedMessage("delay 186h24m48.65s exceeds maximum 186h24m48.64s"),
        RefusedMessage("delay 194h26m40s exceeds maximum 186h24m48.64s"),
    ]


async def test_what_is_pending_is_listed_in_the_order_of_delivery(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    await topics.publish(
        message(partition=1, delay_seconds=20),
        message(partition=0, delay_seconds=30, priority=CRITICAL),
        message(partition=0, delay_seconds=10),
        message(partition=0, delay_seconds=20),
        message(partition=1, delay_seconds=20),
        message(partition=1),
    )

    async def listed(**page: int) -> list[tuple[int, int]]:
        found = await topics.engine.delayed.list(topics.principal, "t", **page)
        return [(one.partition, one.offset) for one in found]

    expected = [(0, 1), (0, 2), (1, 0), (1, 1), (0, 0)]
    assert await listed() == expected
    assert await listed(limit=2, skip=1) == expected[1:3]
    assert (await topics.engine.delayed.list(topics.principal, "t"))[-1].priority is CRITICAL
    assert await topics.engine.delayed.list(topics.principal, "unknown") == []
    assert await cancel(topics, 0, 2)
    topics.clock.advance(10)
    assert await listed() == [(1, 0), (1, 1), (0, 0)]


async def test_one_is_found_in_the_lowest_partition_unless_that_is_named(topics: TopicWork) -> None:
    await topics.create(partitions=3)
    await topics.publish(
        message(partition=1, delay_seconds=20), message(partition=2, delay_seconds=40), message(partition=0)
    )
    get = topics.engine.delayed.get
    assert (await get(topics.principal, "t", 0)).partition == 1
    found = await get(topics.principal, "t", 0, partition=2)
    assert (found.deliver_at - found.seen_at) == timedelta(seconds=40)
    topics.clock.advance(20)
    assert (await get(topics.principal, "t", 0)).partition == 2
    for offset, partition in ((1, None), (0, 0), (0, 9)):
        with pytest.raises(NotFound, match="delayed message not found"):
            await get(topics.principal, "t", offset, partition=partition)


async def test_a_cancelled_message_is_never_seen(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    await topics.publish(message("gone", delay_seconds=20), message("comes", partition=0, delay_seconds=20))
    assert await cancel(topics, 0, 0)
    assert not await cancel(topics, 0, 0)
    assert not await cancel(topics, 0, 5)
    assert not await cancel(topics, 1, 0)
    topics.clock.advance(20)
    assert not await cancel(topics, 0, 1)
    for _ in range(2):
        assert values((await topics.read()).messages) == ["comes"]
        await topics.engine.delayed.deliver()
    assert not await cancel(topics, 0, 1)


async def test_a_cancellation_forgets_what_groups_are_owed_of_it(topics: TopicWork) -> None:
    topic_id = await topics.create()
    await topics.publish(message(delay_seconds=20), message(delay_seconds=20))
    tenant_id = topics.principal.tenant_id
    for offset, attempt in ((0, 0), (1, 0)):
        await topics.run(
            'insert into millstream.redeliveries (tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt)'
            " values ($1, 1, $2, 0, $3, 3, now(), $4)",
            tenant_id,
            topic_id,
            offset,
            attempt,
        )
    assert await cancel(topics, 0, 0)
    assert [row["offset"] for row in await topics.rows('select "offset" from millstream.redeliveries')] == [1]


async def test_a_reader_waits_for_a_cancellation_that_came_first(
    topics: TopicWork, database_dsn: str
) -> None:
    await topics.create()
    await topics.publish(message("x", delay_seconds=20))
    holder = await asyncpg.connect(database_dsn)
    try:
        for end, seen in (("rollback", ["x"]), ("commit", [])):
            await holder.execute("begin")
            await holder.execute("update millstream.delayed_messages set cancelled_at = now()")
            topics.clock.advance(20)
            read = asyncio.create_task(topics.read())
            async with asyncio.timeout(5):
                while not await holder.fetchval(  # noqa: ASYNC110 - polled with a deadline
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                    " and datname = current_database()"
                ):
                    await asyncio.sleep(0.001)
            await holder.execute(end)
            assert values((await read).messages) == seen
    finally:
        await holder.close()


async def test_totals_count_what_was_scheduled_delivered_and_cancelled(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    await topics.create("other")
    nothing = await topics.engine.delayed.statistics(topics.principal)
    assert (nothing.scheduled, nothing.pending, nothing.average_delay_seconds) == (0, 0, 0)
    await topics.publish(*(message(delay_seconds=10.0 * number) for number in (1, 2, 3, 4)))
    await topics.publish(message(delay_seconds=50), topic="other")
    await cancel(topics, 1, 1)
    topics.clock.advance(20)
    for _ in range(2):
        totals = await topics.engine.delayed.statistics(topics.principal)
        assert (totals.scheduled, totals.delivered, totals.cancelled, totals.pending) == (5, 2, 1, 2)
        assert totals.pending_by_topic == {"other": 1, "t": 1}
        assert totals.average_delay_seconds == 15
        # Once they are counted the totals are the same.
        assert (await topics.engine.delayed.deliver())[0] in (2, 0)
        await topics.engine.upkeep.fold_counters()


async def test_the_timer_announces_what_is_due_and_knows_the_next(topics: TopicWork) -> None:
    await topics.create()
    assert await topics.engine.delayed.deliver() == (0, None)
    topics.engine.delayed.hint.event.clear()
    await topics.publish(message("a", delay_seconds=10), message("b", delay_seconds=15))
    assert topics.engine.delayed.hint.event.is_set()
    assert await topics.engine.delayed.deliver() == (0, 10)
    held = asyncio.create_task(topics.read(wait_seconds=25))
    async with asyncio.timeout(10):
        while not topics.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
        topics.clock.advance(10)
        assert await topics.engine.delayed.deliver() == (1, 5)
        assert values((await held).messages) == ["a"]


async def test_pending_messages_are_limited_by_topic_and_by_partition(
    topics: TopicWork, database_dsn: str
) -> None:
    settings = EngineSettings(topics=TopicSettings(delayed_per_topic_max=5, delayed_per_partition_max=3))
    engine: Engine = await open_engine(
        topics.engine.context.database,
        settings,
        direct=lambda: installation.direct_session(database_dsn),
        clock=topics.clock,
    )
    work = TopicWork(engine, topics.principal, topics.clock)
    await work.create(partitions=2)
    later = [message(partition=0, delay_seconds=10)] * 4
    answers = await work.try_publish(*later, message("now", partition=0))
    assert [type(one) for one in answers] == [*[PublishedMessage] * 3, RefusedMessage, PublishedMessage]
    assert answers[3] == RefusedMessage("too many delayed messages are pending in partition 0")
    answers = await work.try_publish(*[message(partition=1, delay_seconds=10)] * 3)
    assert answers[2] == RefusedMessage("too many delayed messages are pending in this topic")
    await work.engine.delayed.cancel(work.principal, "t", 0, 1)
    work.clock.advance(10)
    await work.engine.delayed.deliver()
    assert len(await work.publish(*later[:3])) == 3
    await engine.close()
