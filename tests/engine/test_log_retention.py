"""Retention of messages. Contract: goqueue-messaging 14.4, 14.9."""

from millstream.domain.clock import SteeredClock
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine
from tests.engine.consuming import Consuming
from tests.engine.topic_work import CRITICAL, HIGH, LOW, TopicWork, message, values

HOUR = 3600.0


async def log_start(topics: TopicWork, partition: int = 0) -> int:
    return (await topics.describe()).partitions[partition].log_start


async def stored(topics: TopicWork) -> int:
    [row] = await topics.rows(
        "select coalesce(sum(record_count), 0) as records from millstream.record_batches"
    )
    return row["records"]


async def test_expired_messages_leave_the_front_and_their_offsets_are_not_used_again(
    topics: TopicWork,
) -> None:
    await topics.create(partitions=2, retention_hours=2)
    await topics.publish(
        *(message(f"old {level}", priority=Priority(level), partition=0) for level in (3, 0, 3, 1))
    )
    topics.clock.advance(HOUR)
    await topics.publish(*(message("young", priority=Priority(level), partition=0) for level in (4, 0, 0)))
    topics.clock.advance(HOUR)
    assert await topics.engine.log_retention.prune() == 0
    assert await log_start(topics) == 0
    topics.clock.advance(1)
    assert await topics.engine.log_retention.prune() == 3
    status = (await topics.describe()).partitions
    assert [(one.log_start, one.next_offset) for one in status] == [(4, 7), (0, 0)]
    assert await stored(topics) == 3
    [row] = await topics.rows(
        "select lane_starts, lane_nexts, size_bytes from millstream.partitions where partition = 0"
    )
    assert (row["lane_starts"], row["lane_nexts"]) == ([1, 1, 0, 2, 0, 0], [3, 1, 0, 2, 1, 0])
    [kept] = await topics.rows("select sum(length(records)) as bytes from millstream.record_batches")
    assert row["size_bytes"] == kept["bytes"]
    topics.clock.advance(HOUR)
    await topics.engine.log_retention.prune()
    assert (await log_start(topics), await stored(topics)) == (7, 0)
    assert (await topics.publish(message("next", partition=0)))[0].offset == 7
    assert values(await topics.read_all()) == ["next"]


async def test_each_topic_has_its_own_retention(topics: TopicWork) -> None:
    await topics.create("short", retention_hours=1)
    await topics.create("long", retention_hours=1000)
    for name in ("short", "long"):
        await topics.publish(message(), topic=name)
    topics.clock.advance(2 * HOUR)
    await topics.engine.log_retention.prune()
    assert [len(await topics.read_all(name)) for name in ("short", "long")] == [0, 1]


async def test_a_delayed_message_lives_its_time_from_its_delivery(topics: TopicWork) -> None:
    await topics.create(retention_hours=1)
    await topics.publish(
        message("first"),
        message("waits", delay_seconds=2 * HOUR, priority=HIGH),
        message("last"),
        message("cancelled", delay_seconds=10, priority=HIGH),
    )
    await topics.engine.delayed.cancel(topics.principal, "t", 0, 3)
    topics.clock.advance(1.5 * HOUR)
    await topics.publish(message("young"))
    await topics.engine.log_retention.prune()
    # The append of the waiting message is kept whole.
    assert await log_start(topics) == 0
    topics.clock.advance(HOUR)
    await topics.engine.log_retention.prune()
    assert values((await topics.read()).messages) == ["waits", "first", "last", "young"]
    topics.clock.advance(HOUR)
    await topics.engine.delayed.deliver()
    await topics.engine.log_retention.prune()
    assert (await topics.read()).messages == []
    [row] = await topics.rows("select delayed_counts, delayed_pending from millstream.partitions")
    assert (row["delayed_counts"], row["delayed_pending"]) == ([0, 0, 0, 0, 0], 0)
    assert await topics.rows("select from millstream.delayed_messages") == []


async def test_what_is_held_of_each_priority_with_a_delay_is_counted(topics: TopicWork) -> None:
    await topics.create(retention_hours=1)
    for level in (CRITICAL, LOW, LOW, HIGH):
        await topics.publish(message(priority=level, delay_seconds=60))
    await topics.engine.delayed.cancel(topics.principal, "t", 0, 1)
    [row] = await topics.rows("select delayed_counts from millstream.partitions")
    assert row["delayed_counts"] == [1, 1, 0, 1, 0]


async def test_leased_messages_stay_until_their_lease_ends_and_owed_ones_do_not(topics: TopicWork) -> None:
    topic_id = await topics.create(retention_hours=1)
    for number in range(3):
        await topics.publish(message(str(number)))
    tenant_id = topics.principal.tenant_id
    await topics.run(
        "insert into millstream.group_partitions (tenant_id, group_id, topic_id, partition, start_offset, lane_bases,"
        " lane_offsets, lane_seqs, updated_at) values ($1, 1, $2, 0, 0, '{}', '{}', '{}', now())",
        tenant_id,
        topic_id,
    )
    await topics.run(
        "insert into millstream.deliveries (tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset,"
        " message_count, outcomes, leased, lowest_leased, first_delivered_at, delivered_at, deadline)"
        " values ($1, 1, $2, 0, 3, 'm', 1, 1, 1, '\\x00', 1, 1, now(), now(), now())",
        tenant_id,
        topic_id,
    )
    await topics.run(
        'insert into millstream.redeliveries (tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt)'
        " values ($1, 1, $2, 0, 0, 3, now(), 1)",
        tenant_id,
        topic_id,
    )
    topics.clock.advance(2 * HOUR)
    await topics.engine.log_retention.prune()
    assert (await log_start(topics), await stored(topics)) == (3, 2)
    assert await topics.rows("select from millstream.redeliveries") == []
    await topics.run("update millstream.deliveries set leased = 0, lowest_leased = null, finished_at = now()")
    await topics.engine.log_retention.prune()
    assert await stored(topics) == 0


async def test_what_was_leased_when_it_expired_is_settled_and_is_not_delivered_again(
    engine: Engine, principal: Principal, clock: SteeredClock
) -> None:
    consuming = await Consuming.begin(engine, principal, clock)
    await consuming.publish("acked", "rejected", "nacked", "left alone")
    clock.advance(consuming.topic.retention_hours * HOUR - 1)
    acked, rejected, nacked, _ = await consuming.poll()
    clock.advance(2)
    await engine.log_retention.prune()
    await consuming.ack(acked)
    letter = await engine.acknowledging.reject(principal, rejected.receipt)
    assert letter.dead_letter_topic == "orders.dlq"
    await engine.acknowledging.nack(principal, nacked.receipt, delay_seconds=0)
    assert await consuming.poll() == []
    clock.advance(30)
    assert await consuming.poll() == []
    await engine.log_retention.prune()
    assert (await engine.topics.describe(principal, "orders")).partitions[0].size_bytes == 0
