"""Publishing to topics: routing, order, refusals, idempotency keys. Contract: goqueue-messaging 4."""

import asyncio

import pytest

from millstream.domain import limits
from millstream.domain.errors import BadRequest, NotFound
from millstream.domain.message import NewMessage, PublishedMessage, RefusedMessage
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine
from millstream.engine.partition import partition_of
from millstream.engine.wakeups import topic_bell
from tests.engine.topic_work import CRITICAL, HIGH, LOW, TopicWork, message, values


async def test_messages_without_a_key_go_round_from_partition_0(topics: TopicWork) -> None:
    await topics.create(partitions=3)
    first = await topics.publish(message("a"))
    assert first == [PublishedMessage(0, 0, Priority.NORMAL)]
    rest = await topics.publish(*(message(str(number)) for number in range(5)), message("keyed", key="alice"))
    assert [(one.partition, one.offset) for one in rest] == [(1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (1, 2)]
    assert [(await topics.publish(message(key="")))[0].partition for _ in range(2)] == [0, 1]


async def test_a_key_decides_and_a_given_partition_decides_over_it(topics: TopicWork) -> None:
    await topics.create(partitions=6)
    answers = await topics.publish(
        message("1", key="user-123"), message("2", key="user-123"), message("3", key="user-123", partition=4)
    )
    at = partition_of("user-123", 6)
    assert [(one.partition, one.offset) for one in answers] == [(at, 0), (at, 1), (4, 0)]
    assert (await topics.read(partition=4)).messages[0].key == "user-123"


async def test_what_was_published_is_read_as_it_was(topics: TopicWork) -> None:
    await topics.create()
    given = [
        message(' {"a":  1}\n'),
        message("", key="tombstone"),
        message("nul \0 é 日本 \U0001f600", key="\0"),
        message("h", key="k", headers={"trace": "1", "": ""}),
        message("x" * 100_000, priority=LOW),
    ]
    await topics.publish(*given)
    read = await topics.read_all()
    assert [(one.value, one.key, one.headers, one.priority, one.offset) for one in read] == [
        (one.value, one.key, one.headers, one.priority, offset) for offset, one in enumerate(given)
    ]
    assert {one.published_at for one in read} == {topics.clock.now()}


async def test_offsets_are_dense_over_all_priorities_in_the_order_of_the_array(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    given = [
        message(str(number), partition=number % 2, priority=Priority(number * 7 % 5)) for number in range(60)
    ]
    answers = await topics.publish(*given)
    for partition in (0, 1):
        assert [one.offset for one in answers if one.partition == partition] == list(range(30))
        assert values(await topics.read_all(partition=partition)) == [
            one.value for one in given if one.partition == partition
        ]


async def test_one_bad_message_is_refused_and_its_neighbours_are_not(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    answers = await topics.try_publish(
        message("first"),
        RefusedMessage("value is required"),
        message(partition=2),
        message(partition=-1),
        message("\ud800"),
        message(key="\udc00"),
        message(headers={"a": "\ud83d"}),
        message("v" * (limits.VALUE_BYTES_MAX + 1)),
        message("é" * (limits.VALUE_BYTES_MAX // 2 + 1)),
        message(key="k" * (limits.KEY_BYTES_MAX + 1)),
        message(headers={"h": "x" * limits.HEADERS_BYTES_MAX}),
        message("last"),
    )
    assert [
        one.error if isinstance(one, RefusedMessage) else (one.partition, one.offset) for one in answers
    ] == [
        (0, 0),
        "value is required",
        "invalid partition 2 (topic has 2 partitions)",
        "invalid partition -1 (topic has 2 partitions)",
        *["value, key and headers must not hold half of a surrogate pair"] * 3,
        *["value is larger than 16777216 bytes"] * 2,
        "key is larger than 65535 bytes",
        "headers are larger than 65535 bytes",
        (1, 0),
    ]
    assert sum(one.next_offset for one in (await topics.describe()).partitions) == 2


async def test_the_largest_of_everything_is_taken(topics: TopicWork) -> None:
    await topics.create()
    value, key = "é" * (limits.VALUE_BYTES_MAX // 2), "k" * limits.KEY_BYTES_MAX
    headers = {"h": "x" * (limits.HEADERS_BYTES_MAX - 1)}
    await topics.publish(message(value, key=key, headers=headers), message("after"))
    page = await topics.read()
    assert (page.messages[0].value, page.messages[0].key, page.messages[0].headers) == (value, key, headers)


async def test_a_publish_where_all_are_refused_stores_nothing(topics: TopicWork) -> None:
    await topics.create()
    assert await topics.try_publish(message(partition=9)) == [
        RefusedMessage("invalid partition 9 (topic has 1 partitions)")
    ]
    assert (await topics.describe()).partitions[0].next_offset == 0


async def test_nothing_too_much_and_an_unknown_topic_are_refused_whole(topics: TopicWork) -> None:
    await topics.create()
    with pytest.raises(BadRequest, match="at least one message required"):
        await topics.publish()
    with pytest.raises(BadRequest, match="10000"):
        await topics.publish(*[message()] * (limits.PUBLISHED_MESSAGES_MAX + 1))
    with pytest.raises(NotFound, match="topic not found"):
        await topics.publish(message(), topic="unknown")


async def test_a_large_publish_is_stored_in_rows_of_a_bounded_size(topics: TopicWork) -> None:
    await topics.create()
    answers = await topics.publish(*(message(str(number)) for number in range(limits.PUBLISHED_MESSAGES_MAX)))
    assert [one.offset for one in answers] == list(range(limits.PUBLISHED_MESSAGES_MAX))
    await topics.publish(*(message("x" * 50_000) for _ in range(20)))
    rows = await topics.rows(
        "select record_count, size_bytes, last_offset - base_offset + 1 as span from millstream.record_batches"
    )
    assert sum(row["record_count"] for row in rows) == limits.PUBLISHED_MESSAGES_MAX + 20
    assert all(row["record_count"] == row["span"] for row in rows)
    assert max(row["record_count"] for row in rows) <= limits.BATCH_RECORDS
    assert max(row["size_bytes"] for row in rows) <= 2 * limits.BATCH_RECORD_BYTES + 10
    assert values(await topics.read_all())[:10_000] == [str(number) for number in range(10_000)]


async def test_publishes_at_once_share_rows_and_keep_their_own_offsets(topics: TopicWork) -> None:
    await topics.create(partitions=3)
    sizes = [1, 5, 40, 2, 100, 7]

    async def publish(publisher: int) -> list[tuple[NewMessage, PublishedMessage]]:
        given = [
            message(
                f"{publisher}-{number}", key=f"k{number % 11}", priority=Priority((publisher + number) % 5)
            )
            for number in range(sizes[publisher % len(sizes)])
        ]
        return list(zip(given, await topics.publish(*given), strict=True))

    published = [
        pair for pairs in await asyncio.gather(*(publish(number) for number in range(60))) for pair in pairs
    ]
    for partition in range(3):
        there = sorted(
            ((answer.offset, given.value) for given, answer in published if answer.partition == partition)
        )
        assert [offset for offset, _ in there] == list(range(len(there)))
        assert [(one.offset, one.value) for one in await topics.read_all(partition=partition)] == there
    assert (await topics.rows("select count(distinct batch_id) as batches from millstream.record_batches"))[
        0
    ]["batches"] < 60


async def test_publishers_in_two_processes_leave_no_gap(topics: TopicWork, second_engine: Engine) -> None:
    await topics.create(partitions=2)
    elsewhere = TopicWork(second_engine, topics.principal, topics.clock)

    async def publish(work: TopicWork, name: str) -> list[PublishedMessage]:
        answers: list[PublishedMessage] = []
        for number in range(20):
            answers += await work.publish(
                message(f"{name}{number}", partition=0, priority=HIGH if number % 3 else CRITICAL),
                message(f"{name}{number}", partition=1),
            )
        return answers

    answers = await asyncio.gather(
        *(
            publish(work, f"{name}{caller}-")
            for caller in range(4)
            for name, work in (("a", topics), ("b", elsewhere))
        )
    )
    offsets = sorted(one.offset for several in answers for one in several if one.partition == 0)
    assert offsets == list(range(160))
    for partition in (0, 1):
        assert len(await topics.read_all(partition=partition)) == 160
    lanes = await topics.rows(
        "select lane, lane_first, record_count from millstream.record_batches where partition = 0"
        " order by lane, base_offset"
    )
    nexts = {1: 0, 2: 0}
    for row in lanes:
        assert row["lane_first"] == nexts[row["lane"]]
        nexts[row["lane"]] += row["record_count"]
    [partition_row] = await topics.rows("select lane_nexts from millstream.partitions where partition = 0")
    assert partition_row["lane_nexts"][:2] == [nexts[1], nexts[2]]


async def test_times_of_a_partition_never_go_back(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(message("1"))
    topics.clock.advance(-60)
    await topics.publish(message("2"))
    first, second = await topics.read_all()
    assert second.published_at == first.published_at


async def test_a_publish_wakes_those_who_wait_for_the_topic(topics: TopicWork) -> None:
    topic_id = await topics.create()
    waits = [
        asyncio.create_task(
            topics.engine.context.wakeups.wait(topics.principal.tenant_id, [topic_bell(topic_id)], 30)
        )
        for _ in range(3)
    ]
    await asyncio.sleep(0)
    await topics.publish(message())
    assert await asyncio.gather(*waits) == [True] * 3


async def test_a_repeated_key_is_answered_with_what_became_of_the_first(topics: TopicWork) -> None:
    await topics.create(partitions=3)
    await topics.create("other")
    given = [message("a"), message(partition=7), message("d", delay_seconds=30)]
    first = await topics.try_publish(*given, key="once")
    again = await asyncio.gather(*(topics.try_publish(message("ignored"), key="once") for _ in range(5)))
    assert all(answers == first for answers in again)
    assert [type(one) for one in first] == [PublishedMessage, RefusedMessage, PublishedMessage]
    assert sum(one.next_offset for one in (await topics.describe()).partitions) == 2
    assert (await topics.publish(message(), topic="other", key="once"))[0].offset == 0
    # It holds for a day.
    topics.clock.advance(limits.PUBLISH_KEY_SECONDS - 1)
    assert await topics.try_publish(message("ignored"), key="once") == first
    topics.clock.advance(2)
    assert await topics.try_publish(message("new"), key="once") != first


async def test_keys_are_forgotten_after_a_day(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(message(), key="once")
    assert await topics.engine.publishing.prune_keys() == 0
    topics.clock.advance(limits.PUBLISH_KEY_SECONDS + 1)
    assert await topics.engine.publishing.prune_keys() == 1


async def test_of_publishes_at_once_with_one_key_one_is_done(
    topics: TopicWork, second_engine: Engine
) -> None:
    await topics.create()
    elsewhere = TopicWork(second_engine, topics.principal, topics.clock)
    answers = await asyncio.gather(
        *(work.publish(message(), key="once") for work in (topics, elsewhere) for _ in range(4))
    )
    assert answers == [[PublishedMessage(0, 0, Priority.NORMAL)]] * 8
    assert (await topics.describe()).partitions[0].next_offset == 1


async def test_an_append_is_part_of_its_transaction(topics: TopicWork) -> None:
    await topics.create()
    topic = await topics.engine.topics.get(topics.principal, "t")
    async with topics.engine.context.database.session() as session:
        await session.run("begin")
        await topics.engine.publishing.append(session, topic, [message("never")])
        await session.run("rollback")
    async with topics.engine.context.database.transaction() as session:
        answers = await topics.engine.publishing.append(session, topic, [message("kept", priority=HIGH)])
    assert answers == [PublishedMessage(0, 0, HIGH)]
    assert values(await topics.read_all()) == ["kept"]
