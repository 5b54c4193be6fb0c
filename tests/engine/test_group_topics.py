"""What becomes of groups when topics are deleted or grow. Contract: goqueue-messaging 3.4, 7.7, 13.1."""

import asyncio

from tests.engine.group_work import GROUP, Consumers, labels
from tests.engine.topics_by_hand import delete_topic, fill_partition, grow_topic


async def test_new_partitions_are_assigned_and_read_from_their_beginning(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=2)
    for partition in range(2):
        await fill_partition(consumers.engine, topic, partition, start=0, end=9)
    [a, b] = await consumers.join_first("a", "b", starts_latest=True)
    await grow_topic(consumers.engine, topic, 5)
    told = await consumers.heartbeat(a.member_id, 1)
    assert (told.rebalance_required, told.generation) == (True, 2)
    assert [partition.partition for partition in told.assigned] == [0, 1, 2]
    rows = await consumers.rows()
    assert [row["start_offset"] for row in rows.values()] == [9, 9, 0, 0, 0]
    assert rows["orders-4"]["member_id"] == b.member_id
    counted = await consumers.engine.cooperative.statistics(consumers.principal, GROUP)
    assert counted.by_reason == {
        "member_joined": 1,
        "member_left": 0,
        "member_timeout": 0,
        "partitions_changed": 1,
    }


async def test_a_group_without_members_finds_new_partitions_when_it_has_some_again(
    consumers: Consumers,
) -> None:
    topic = await consumers.topic(partitions=1)
    [a] = await consumers.join_first("a")
    await consumers.leave(a.member_id)
    await grow_topic(consumers.engine, topic, 2)
    await fill_partition(consumers.engine, topic, 1, start=0, end=9)
    [again] = await consumers.join_first("a", starts_latest=True)
    assert labels(again) == ["orders-0", "orders-1"]
    # The group knew the topic: what was added to it since is all news.
    assert (await consumers.rows())["orders-1"]["start_offset"] == 0


async def test_a_deleted_topic_takes_positions_and_leases_with_it(consumers: Consumers) -> None:
    orders, other = await consumers.topic("orders", 2), await consumers.topic("other", 2)
    [a] = await consumers.join_first("a", topics=["orders", "other"])
    [idle] = await consumers.join_first("i", group="idle")
    await consumers.leave(idle.member_id, group="idle")
    await consumers.lease(a.group.id, orders, 0, a.member_id)
    await consumers.lease(a.group.id, other, 0, a.member_id)
    await delete_topic(consumers.engine, orders)
    told = await consumers.heartbeat(a.member_id, 1)
    assert told.rebalance_required
    assert [partition.label for partition in told.assigned] == ["other-0", "other-1"]
    assert told.topics == ["other"]
    assert list(await consumers.rows()) == ["other-0", "other-1"]
    assert await consumers.rows("idle") == {}
    async with consumers.engine.context.database.session() as session:
        leased = await session.many("select topic_id from millstream.deliveries where finished_at is null")
    assert [row["topic_id"] for row in leased] == [other.id]
    # A successor of the same name is another topic: it is read from where its readers begin.
    again = await consumers.topic("orders", 1)
    await fill_partition(consumers.engine, again, 0, start=0, end=5)
    joined = await consumers.join("a", ["orders"], member_id=a.member_id, starts_latest=True)
    assert labels(joined) == ["orders-0"]
    assert (await consumers.rows())["orders-0"]["start_offset"] == 5


async def test_a_member_whose_only_topic_is_gone_lives_on_with_nothing(consumers: Consumers) -> None:
    topic = await consumers.topic()
    [a] = await consumers.join_first("a")
    await delete_topic(consumers.engine, topic)
    told = await consumers.heartbeat(a.member_id, 1)
    assert (told.rebalance_required, told.assigned, told.topics) == (True, [], [])
    await consumers.leave(a.member_id)


async def test_groups_that_do_not_read_a_topic_do_not_notice(consumers: Consumers) -> None:
    orders = await consumers.topic("orders", 1)
    await consumers.topic("other", 1)
    [a] = await consumers.join_first("a", topics=["other"])
    await grow_topic(consumers.engine, orders, 3)
    assert (await consumers.heartbeat(a.member_id)).generation == 1


async def test_partitions_that_are_added_while_members_join_are_all_assigned(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=2)
    other = await consumers.topic("other", 2)
    await consumers.join_first("a", topics=["other"])
    joins = [consumers.join(f"w{number}", ["orders", "other"]) for number in range(4)]
    await asyncio.gather(
        *joins, grow_topic(consumers.engine, topic, 9), grow_topic(consumers.engine, other, 7)
    )
    owners = await consumers.owners()
    assert len(owners) == 16
    assert None not in owners.values()
