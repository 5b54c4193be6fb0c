"""Topics: creation, description, deletion, more partitions. Contract: goqueue-messaging 3, 13.1."""

import asyncio
from collections.abc import Sequence

import pytest

from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.topic import PartitionStatus
from millstream.engine.engine import Engine
from millstream.store.database import Session
from tests.conftest import make_principal
from tests.engine.topic_work import TopicWork, message, values


async def test_a_topic_has_the_numbers_it_was_given_or_the_defaults(topics: TopicWork) -> None:
    for name, partitions, retention_hours, expected in (
        ("given", 6, 24, (6, 24)),
        ("absent", None, None, (3, 168)),
        ("zero", 0, 0, (3, 168)),
        ("negative", -1, -1, (3, 168)),
    ):
        created = await topics.engine.topics.create(topics.principal, name, partitions, retention_hours)
        assert (created.partitions, created.retention_hours) == expected
        status = await topics.describe(name)
        assert status.topic == created
        assert status.topic.created_at == topics.clock.now()
        assert status.partitions == [
            PartitionStatus(partition=number, log_start=0, next_offset=0, size_bytes=0)
            for number in range(expected[0])
        ]


@pytest.mark.parametrize("name", ["", ".", "..", "__offsets", "a/b", "a b", "é", "a" * 250, "a\0"])
async def test_names_that_are_none_are_refused(topics: TopicWork, name: str) -> None:
    with pytest.raises(BadRequest):
        await topics.create(name)


async def test_a_name_is_taken_once(topics: TopicWork, second_engine: Engine) -> None:
    with pytest.raises(BadRequest, match="1000"):
        await topics.create("wide", partitions=1001)
    elsewhere = TopicWork(second_engine, topics.principal, topics.clock)
    outcomes = await asyncio.gather(
        *(work.create("a" * 249) for work in (topics, elsewhere) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in outcomes].count(Conflict) == 5
    assert str(next(one for one in outcomes if isinstance(one, Conflict))) == "topic already exists"


async def test_names_are_listed_in_order_and_by_tenant(topics: TopicWork) -> None:
    assert await topics.engine.topics.list_names(topics.principal) == []
    for name in ("b", "a.dlq", "B", "a", "a-1"):
        await topics.create(name)
    stranger = await make_principal(topics.engine)
    await topics.engine.topics.create(stranger, "theirs")
    assert await topics.engine.topics.list_names(topics.principal) == ["B", "a", "a-1", "a.dlq", "b"]
    for call in (topics.engine.topics.describe, topics.engine.topics.get, topics.engine.topics.delete):
        with pytest.raises(NotFound, match="topic not found"):
            await call(topics.principal, "theirs")


async def test_a_description_follows_what_was_published(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    await topics.publish(
        *(message("v" * 100, partition=0) for _ in range(20)), message(partition=1, delay_seconds=9)
    )
    first, second = (await topics.describe()).partitions
    assert (first.next_offset, second.next_offset) == (20, 1)
    [stored] = await topics.rows("select sum(length(records)) as bytes from millstream.record_batches")
    assert first.size_bytes + second.size_bytes == stored["bytes"]


async def test_a_deleted_topic_is_gone_everywhere_at_once(topics: TopicWork, second_engine: Engine) -> None:
    await topics.create(partitions=2)
    elsewhere = TopicWork(second_engine, topics.principal, topics.clock)
    await elsewhere.publish(message("old"), message("later", delay_seconds=5), key="once")
    await topics.read()
    await topics.engine.topics.delete(topics.principal, "t")
    with pytest.raises(NotFound, match="topic not found"):
        await topics.engine.topics.delete(topics.principal, "t")
    with pytest.raises(NotFound, match="topic not found"):
        await topics.publish(message())
    # The other process has not heard of it: its publish finds no partition.
    with pytest.raises(NotFound, match="topic not found"):
        await elsewhere.publish(message())
    with pytest.raises(NotFound, match="topic not found"):
        await elsewhere.publish(message(delay_seconds=5))
    with pytest.raises(NotFound, match="topic not found"):
        await elsewhere.read()
    assert await topics.engine.topics.list_names(topics.principal) == []
    # A later topic of the same name starts clean, while the rows of the former are still being removed.
    await topics.create(partitions=1)
    assert (await elsewhere.publish(message("new"), key="once"))[0].offset == 0
    assert values(await topics.read_all()) == ["new"]
    assert await topics.engine.delayed.list(topics.principal, "t") == []
    assert (await topics.engine.delayed.statistics(topics.principal)).pending == 0


async def test_rows_of_deleted_topics_go_in_the_background(topics: TopicWork) -> None:
    topic_id = await topics.create(partitions=2)
    tenant_id = topics.principal.tenant_id
    await topics.publish(message(), message(delay_seconds=60), key="once")
    await topics.run(
        "insert into millstream.consumer_groups (tenant_id, name, created_at, updated_at) values ($1, 'g', now(), now())",
        tenant_id,
    )
    [group] = await topics.rows("select id from millstream.consumer_groups")
    await topics.run(
        "insert into millstream.group_partitions (tenant_id, group_id, topic_id, partition, start_offset, lane_bases,"
        " lane_offsets, lane_seqs, updated_at) values ($1, $2, $3, 0, 0, '{}', '{}', '{}', now())",
        tenant_id,
        group["id"],
        topic_id,
    )
    await topics.run(
        'insert into millstream.redeliveries (tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt)'
        " values ($1, $2, $3, 0, 0, 3, now(), 1)",
        tenant_id,
        group["id"],
        topic_id,
    )
    await topics.run(
        "insert into millstream.deliveries (tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset,"
        " message_count, outcomes, leased, first_delivered_at, delivered_at, deadline)"
        " values ($1, $2, $3, 0, 3, 'm', 1, 0, 1, '\\x00', 1, now(), now(), now())",
        tenant_id,
        group["id"],
        topic_id,
    )
    await topics.create("kept")
    await topics.publish(message("stays"), topic="kept")
    await topics.engine.topics.delete(topics.principal, "t")
    assert await topics.rows("select from millstream.group_partitions") == []
    while await topics.engine.log_retention.remove_deleted():
        pass
    for table in ("record_batches", "partitions", "topics"):
        [left] = await topics.rows(f"select count(*) as rows from millstream.{table}")
        assert left["rows"] == (3 if table == "partitions" else 1) or table == "partitions"
    for table in ("redeliveries", "deliveries", "delayed_messages", "publish_keys"):
        assert await topics.rows(f"select from millstream.{table}") == [], table
    assert values(await topics.read_all("kept")) == ["stays"]


async def test_groups_are_told_within_the_transaction_of_a_change(topics: TopicWork) -> None:
    topic_id = await topics.create(partitions=2)
    told: list[tuple[int, int, int | None]] = []

    async def changed(session: Session, tenant_id: int, changed_id: int) -> list[int]:
        row = await session.one(
            "select partitions from millstream.topics where id = $1 and deleted_at is null", changed_id
        )
        told.append((tenant_id, changed_id, None if row is None else row["partitions"]))
        return [7]

    woken: list[tuple[int, Sequence[int]]] = []
    topics.engine.topics.on_change(changed, lambda tenant_id, groups: woken.append((tenant_id, groups)))
    assert await topics.engine.topics.add_partitions(topics.principal, "t", 5) == (2, 5)
    await topics.engine.topics.delete(topics.principal, "t")
    tenant_id = topics.principal.tenant_id
    assert told == [(tenant_id, topic_id, 5), (tenant_id, topic_id, None)]
    assert woken == [(tenant_id, [7])] * 2


async def test_partitions_are_added_at_the_end(topics: TopicWork, second_engine: Engine) -> None:
    await topics.create(partitions=2)
    await topics.publish(message("a", partition=1))
    add = topics.engine.topics.add_partitions
    for count, text in (
        (2, "greater than the current 2"),
        (0, "above 0"),
        (-1, "above 0"),
        (1001, "1000 at most"),
    ):
        with pytest.raises(BadRequest, match=text):
            await add(topics.principal, "t", count)
    with pytest.raises(BadRequest, match="internal"):
        await add(topics.principal, "__t", 4)
    with pytest.raises(NotFound, match="topic not found"):
        await add(topics.principal, "unknown", 4)
    assert await add(topics.principal, "t", 4) == (2, 4)
    assert (await topics.publish(message(partition=3)))[0].offset == 0
    assert [one.next_offset for one in (await topics.describe()).partitions] == [0, 1, 0, 1]
    assert (await second_engine.topics.get(topics.principal, "t")).partitions == 4


async def test_a_topic_is_found_or_created_within_a_transaction(topics: TopicWork) -> None:
    async with topics.engine.context.database.transaction() as session:
        found = [
            await topics.engine.topics.find_or_create(
                session, topics.principal.tenant_id, "t.dlq", partitions=4, retention_hours=336
            )
            for _ in range(2)
        ]
    assert found[0] == found[1] == await topics.engine.topics.get(topics.principal, "t.dlq")


async def test_topics_of_a_removed_tenant_go_with_it(topics: TopicWork) -> None:
    await topics.create(partitions=2)
    await topics.publish(message(), message(delay_seconds=60), key="once")
    await topics.engine.removal.remove(topics.principal.organization_id, unless_active=True)
    while await topics.engine.removal.sweep():
        pass
    for table in (
        "topics",
        "partitions",
        "record_batches",
        "delayed_messages",
        "publish_keys",
        "counter_deltas",
    ):
        assert await topics.rows(f"select from millstream.{table}") == [], table
