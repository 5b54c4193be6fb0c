"""Compaction on request. Contract: goqueue-messaging 13.3."""

import pytest

from millstream.domain.errors import BadRequest, NotFound
from millstream.domain.message import NewMessage
from millstream.domain.topic import CompactedPartition, Priority
from tests.engine.topic_work import TopicWork, message, values


async def compact(topics: TopicWork, **options: object) -> list[CompactedPartition]:
    return await topics.engine.compaction.compact(
        topics.principal,
        "t",
        **options,  # pyright: ignore[reportArgumentType] - named by the tests as its parameters are
    )


def versions(keys: str, count: int) -> list[NewMessage]:
    return [
        message(f"{key}{number}", key=key, priority=Priority(number % 5))
        for number in range(count)
        for key in keys
    ]


async def test_the_last_of_each_key_stays_at_its_offset(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(*versions("abc", 4), message("no key"), message("no key either"))
    before = await topics.read_all()
    [tried] = await compact(topics, dry_run=True)
    assert await topics.read_all() == before
    [done] = await compact(topics)
    assert done == tried
    assert (done.records_before, done.records_after, done.records_removed) == (14, 5, 9)
    assert done.dirty_ratio == pytest.approx(9 / 14)
    after = await topics.read_all()
    assert after == before[9:]
    # Numbers stay, space does not; and the next offset is the next one.
    partition = (await topics.describe()).partitions[0]
    assert (partition.log_start, partition.next_offset) == (0, 14)
    [stored] = await topics.rows("select sum(length(records)) as bytes from millstream.record_batches")
    assert partition.size_bytes == stored["bytes"]
    page = await topics.read(limit=3, by_priority=False)
    assert (values(page.messages), page.next_offset) == (["a3", "b3", "c3"], 12)
    [again] = await compact(topics)
    assert (again.records_before, again.records_removed, again.dirty_ratio) == (5, 0, 0.0)


async def test_messages_without_a_key_are_all_kept(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(*(message(str(number)) for number in range(9)), message("x", key="k"))
    [done] = await compact(topics)
    assert (done.records_removed, done.dirty_ratio) == (0, 0.0)
    assert len(await topics.read_all()) == 10


async def test_a_partition_that_is_clean_enough_is_left_alone(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(message("1", key="a"), message("2", key="a"), message("3", key="b"))
    [done] = await compact(topics)
    assert (done.records_removed, done.dirty_ratio) == (0, pytest.approx(1 / 3))
    assert len(await topics.read_all()) == 3


async def test_a_tombstone_goes_after_a_day(topics: TopicWork) -> None:
    await topics.create()
    await topics.publish(message("1", key="a"), message("2", key="a"), message("", key="a"))
    assert (await compact(topics))[0].records_removed == 2
    assert [(one.key, one.value) for one in await topics.read_all()] == [("a", "")]
    topics.clock.advance(86_400)
    await topics.publish(*(message(str(number), key="b") for number in range(4)))
    assert (await compact(topics))[0].records_removed == 4
    assert values(await topics.read_all()) == ["3"]


async def test_what_is_leased_owed_hidden_or_not_committed_stays(topics: TopicWork) -> None:
    topic_id = await topics.create()
    names = ("leased", "owed", "settled", "open", "aborted")
    for name in names:
        await topics.publish(message(name, key="k"))
    await topics.publish(
        message("pending", key="k", delay_seconds=60), message("cancelled", key="k", delay_seconds=60)
    )
    await topics.engine.delayed.cancel(topics.principal, "t", 0, 6)
    await topics.publish(*(message(f"new {number}", key="k") for number in range(8)))
    tenant_id = topics.principal.tenant_id
    await topics.run(
        "insert into millstream.group_partitions (tenant_id, group_id, topic_id, partition, start_offset, lane_bases,"
        " lane_offsets, lane_seqs, updated_at) values ($1, 1, $2, 0, 0, '{}', '{}', '{}', now())",
        tenant_id,
        topic_id,
    )
    # Of one delivery of offsets 0 and 2 the second is settled.
    await topics.run(
        "insert into millstream.deliveries (tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset,"
        " message_count, offsets, outcomes, leased, lowest_leased, first_delivered_at, delivered_at, deadline)"
        " values ($1, 1, $2, 0, 3, 'm', 1, 0, 2, '\\x0000000000000002', '\\x0001', 1, 0, now(), now(), now())",
        tenant_id,
        topic_id,
    )
    await topics.run(
        'insert into millstream.redeliveries (tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt)'
        " values ($1, 1, $2, 0, 1, 3, now(), 1)",
        tenant_id,
        topic_id,
    )
    await topics.run(
        "update millstream.record_batches set transaction_state = base_offset - 2 where base_offset = 3"
    )
    await topics.run("update millstream.record_batches set transaction_state = 3 where base_offset = 4")
    assert (await compact(topics))[0].records_removed == 8
    await topics.run(
        "update millstream.record_batches set transaction_state = 2 where transaction_state is not null"
    )
    topics.clock.advance(60)
    assert values(await topics.read_all()) == ["leased", "owed", "open", "aborted", "pending", "new 7"]
    # Now they are like any other.
    await topics.run("delete from millstream.deliveries")
    await topics.run("delete from millstream.redeliveries")
    assert (await compact(topics))[0].records_removed == 5


async def test_partitions_are_chosen_and_checked(topics: TopicWork) -> None:
    await topics.create(partitions=3)
    for partition in range(3):
        await topics.publish(*(message(str(number), key="k", partition=partition) for number in range(4)))
    assert [one.partition for one in await compact(topics, partitions=[2, 0, 2])] == [2, 0]
    assert [len(await topics.read_all(partition=partition)) for partition in range(3)] == [1, 4, 1]
    with pytest.raises(BadRequest, match="invalid partition 3"):
        await compact(topics, partitions=[0, 3])
    with pytest.raises(NotFound, match="topic not found"):
        await topics.engine.compaction.compact(topics.principal, "unknown")
