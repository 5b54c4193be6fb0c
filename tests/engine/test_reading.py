"""Reading a partition without a group. Contract: goqueue-messaging 5, 14.10."""

import asyncio

import pytest

from millstream.domain import limits
from millstream.domain.errors import NotFound
from millstream.domain.topic import Priority
from tests.engine.topic_work import CRITICAL, LOW, TopicWork, message, values


async def test_a_page_is_one_stretch_of_the_log_sorted_inside(topics: TopicWork) -> None:
    await topics.create()
    order = [2, 0, 4, 2, 0, 1, 3, 2]
    await topics.publish(
        *(message(str(place), priority=Priority(level)) for place, level in enumerate(order))
    )
    page = await topics.read(limit=5)
    assert values(page.messages) == ["1", "4", "0", "3", "2"]
    assert page.next_offset == 5
    assert values((await topics.read(limit=5, by_priority=False)).messages) == ["0", "1", "2", "3", "4"]
    assert values((await topics.read(offset=5)).messages) == ["5", "7", "6"]


async def test_an_offset_below_the_log_is_raised_and_one_beyond_it_finds_nothing(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(message("old"))
    topics.clock.advance(200 * 3600)
    await topics.publish(message("new"))
    await topics.engine.log_retention.prune()
    page = await topics.read(offset=0)
    assert (values(page.messages), page.next_offset) == (["new"], 2)
    assert ((await topics.read(offset=7)).messages, (await topics.read(offset=7)).next_offset) == ([], 7)


async def test_an_empty_partition_reads_as_nothing(topics: TopicWork) -> None:
    await topics.create()
    page = await topics.read()
    assert (page.messages, page.next_offset, page.pending_delayed_from) == ([], 0, None)


async def test_unknown_topics_and_partitions_are_not_found(topics: TopicWork) -> None:
    await topics.create()
    with pytest.raises(NotFound, match="topic not found"):
        await topics.read("unknown")
    with pytest.raises(NotFound, match="partition 1 not found"):
        await topics.read(partition=1)


async def test_a_page_never_holds_more_than_its_bytes_but_at_least_one_message(topics: TopicWork) -> None:
    await topics.create()
    large = limits.READ_BYTES_MAX // 3
    for number in range(4):
        await topics.publish(message(str(number) * large, priority=Priority(number)))
    first = await topics.read()
    assert len(first.messages) == 3
    assert first.next_offset == 3
    assert (await topics.read(offset=3)).next_offset == 4


async def test_times_select_exactly(topics: TopicWork) -> None:
    await topics.create()
    start = topics.clock.now()
    for number in range(40):
        await topics.publish(
            *(
                message(f"{number}", priority=Priority((number + extra) % 5))
                for extra in range(number % 3 + 1)
            )
        )
        topics.clock.advance(10)
    everything = await topics.read_all()
    for seconds in (-5, 0, 5, 10, 195, 200, 390, 391, 1000):
        at = topics.in_seconds(seconds - 400)
        assert at == start.fromtimestamp(start.timestamp() + seconds, start.tzinfo)
        page = await topics.read(from_time=at, limit=1000, by_priority=False)
        assert page.messages == [one for one in everything if one.published_at >= at]
        assert page.next_offset == len(everything)
        page = await topics.read(to_time=at, limit=1000, by_priority=False)
        expected = [one for one in everything if one.published_at < at]
        assert page.messages == expected
        assert page.next_offset == len(expected)
    # The later of the two starts wins, and a page goes on where its limit ended it.
    page = await topics.read(from_time=topics.in_seconds(-200), offset=2, limit=3, by_priority=False)
    assert page.messages == [one for one in everything if one.published_at >= topics.in_seconds(-200)][:3]
    assert (await topics.read(from_time=topics.in_seconds(-399), offset=70)).messages[0].offset >= 70


async def test_an_empty_page_waits_for_a_publish(topics: TopicWork) -> None:
    await topics.create()
    held = asyncio.create_task(topics.read(wait_seconds=20))
    async with asyncio.timeout(10):
        while not topics.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
        await topics.publish(message("here"))
        assert values((await held).messages) == ["here"]


async def test_a_held_page_ends_after_its_time_and_at_shutdown(topics: TopicWork) -> None:
    await topics.create()
    assert (await topics.read(wait_seconds=0.01)).messages == []
    held = asyncio.create_task(topics.read(wait_seconds=20))
    async with asyncio.timeout(10):
        while not topics.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
        topics.engine.reading.close()
        assert (await held).messages == []


async def test_hidden_messages_are_passed_and_the_first_pending_one_is_told(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(
        message("0"),
        *(message(f"later {number}", delay_seconds=60) for number in range(30)),
        message("31", priority=LOW),
        message("32", priority=CRITICAL),
    )
    await topics.engine.delayed.cancel(topics.principal, "t", 0, 1)
    page = await topics.read(limit=2, by_priority=False)
    assert (values(page.messages), page.next_offset, page.pending_delayed_from) == (["0", "31"], 32, 2)
    page = await topics.read(offset=1, limit=1)
    assert (values(page.messages), page.next_offset, page.pending_delayed_from) == (["31"], 32, 2)
    page = await topics.read(offset=32)
    assert (values(page.messages), page.next_offset, page.pending_delayed_from) == (["32"], 33, None)
    topics.clock.advance(60)
    page = await topics.read(limit=3, by_priority=False)
    assert values(page.messages) == ["0", "later 1", "later 2"]
    assert page.pending_delayed_from is None


async def test_a_long_hidden_run_is_passed_in_one_read(topics: TopicWork) -> None:
    await topics.create()
    for _ in range(3):
        await topics.publish(*(message(delay_seconds=60) for _ in range(1000)))
    await topics.publish(*(message(str(number)) for number in range(5)))
    page = await topics.read(limit=2)
    assert (values(page.messages), page.next_offset, page.pending_delayed_from) == (["0", "1"], 3002, 0)


async def test_an_open_transaction_ends_the_read_and_an_aborted_one_is_passed(topics: TopicWork) -> None:
    await topics.create()
    for number in range(6):
        await topics.publish(message(str(number), priority=Priority(number % 3)))
    await topics.run("update millstream.record_batches set transaction_state = 3 where base_offset = 1")
    await topics.run("update millstream.record_batches set transaction_state = 2 where base_offset = 2")
    await topics.run("update millstream.record_batches set transaction_state = 1 where base_offset = 4")
    page = await topics.read(by_priority=False)
    assert (values(page.messages), page.next_offset) == (["0", "2", "3"], 4)
    assert (await topics.read(offset=4)).next_offset == 4
    await topics.run("update millstream.record_batches set transaction_state = 2 where base_offset = 4")
    await topics.run("update millstream.partitions set stable_offset = 5")
    page = await topics.read(by_priority=False, offset=3)
    assert (values(page.messages), page.next_offset) == (["3", "4"], 5)
