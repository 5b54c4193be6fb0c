"""Messages that are published inside a caller's own transaction."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from millstream import inline
from millstream.domain.message import NewMessage, ReadRequest
from millstream.domain.topic import Priority
from tests.engine.work import Work


async def read(work: Work, topic: str, partition: int = 0) -> list[str]:
    """Return the visible values of a partition in the order of the log."""
    page = await work.engine.reading.read(
        work.principal, topic, partition, ReadRequest(limit=1000, by_priority=False)
    )
    return [message.value for message in page.messages]


@pytest.fixture
async def topic(work: Work) -> str:
    await work.engine.topics.create(work.principal, "orders", partitions=1)
    return "orders"


async def test_a_message_is_appended_after_its_transaction_commits(
    work: Work, topic: str, connection: psycopg.Connection
) -> None:
    inline.publish(connection, topic, "ä 1", key="k", headers={"a": "b"}, priority="HIGH")
    assert await work.engine.inline.take() == 0
    connection.commit()
    assert await work.engine.inline.take() == 1
    page = await work.engine.reading.read(work.principal, topic, 0, ReadRequest())
    [message] = page.messages
    assert (message.offset, message.value, message.key, message.headers, message.priority) == (
        0,
        "ä 1",
        "k",
        {"a": "b"},
        Priority.HIGH,
    )


async def test_what_was_rolled_back_is_not_published(
    work: Work, topic: str, connection: psycopg.Connection
) -> None:
    inline.publish(connection, topic, "never")
    connection.rollback()
    assert await work.engine.inline.take() == 0
    assert await read(work, topic) == []


async def test_what_was_committed_before_comes_first(
    work: Work, topic: str, connection: psycopg.Connection, other_connection: psycopg.Connection
) -> None:
    # The first transaction began first and commits last; only what comes after a commit is ordered by it.
    inline.publish(connection, topic, "slow 1")
    inline.publish(other_connection, topic, "cause")
    other_connection.commit()
    inline.publish(connection, topic, "effect of cause")
    assert await work.engine.inline.take() == 1
    connection.commit()
    inline.publish(other_connection, topic, "effect of slow")
    other_connection.commit()
    assert await work.engine.inline.take() == 3
    assert await read(work, topic) == ["cause", "slow 1", "effect of cause", "effect of slow"]


async def test_an_open_transaction_holds_up_no_other_publisher(
    work: Work, topic: str, connection: psycopg.Connection
) -> None:
    inline.publish(connection, topic, "held")
    [published] = await work.engine.publishing.publish(work.principal, topic, [NewMessage(value="over http")])
    assert published
    assert await read(work, topic) == ["over http"]
    connection.commit()
    await work.engine.inline.take()
    assert await read(work, topic) == ["over http", "held"]


async def test_messages_with_a_delay_wait_for_it(
    work: Work, topic: str, connection: psycopg.Connection
) -> None:
    inline.publish(connection, topic, "in an hour", delay_seconds=3600)
    inline.publish(connection, topic, "in two", deliver_at=datetime.now(UTC) + timedelta(hours=2))
    inline.publish(connection, topic, "at once", deliver_at=datetime.now(UTC) - timedelta(hours=2))
    connection.commit()
    assert await work.engine.inline.take() == 3
    assert await read(work, topic) == ["at once"]
    work.clock.advance(3601)
    assert await read(work, topic) == ["in an hour", "at once"]


async def test_a_chosen_partition_is_kept_and_a_key_has_always_the_same(
    work: Work, connection: psycopg.Connection
) -> None:
    await work.engine.topics.create(work.principal, "wide", partitions=6)
    for number in range(4):
        inline.publish(connection, "wide", f"chosen {number}", partition=5)
        inline.publish(connection, "wide", f"keyed {number}", key="user-123")
    connection.commit()
    await work.engine.inline.take()
    assert await read(work, "wide", 5) == [f"chosen {number}" for number in range(4)]
    assert await read(work, "wide", 1) == [f"keyed {number}" for number in range(4)]


async def test_messages_of_a_topic_that_is_gone_go_with_it(
    work: Work, topic: str, connection: psycopg.Connection
) -> None:
    await work.engine.topics.create(work.principal, "kept", partitions=1)
    inline.publish(connection, topic, "lost with its topic")
    inline.publish(connection, "kept", "kept")
    connection.commit()
    await work.engine.topics.delete(work.principal, topic)
    assert await work.engine.inline.take() == 2
    assert await work.engine.inline.take() == 0
    assert await read(work, "kept") == ["kept"]


REFUSED = [
    ({"topic": "unknown"}, inline.Unknown, "topic not found: unknown"),
    ({"priority": "urgent"}, inline.InvalidArgument, "priority"),
    ({"partition": 1}, inline.InvalidArgument, "invalid partition 1"),
    ({"partition": -1}, inline.InvalidArgument, "invalid partition -1"),
    ({"value": "\0"}, inline.InvalidArgument, "NUL"),
    ({"value": "\udcff"}, inline.InvalidArgument, "surrogates"),
    ({"value": None}, inline.InvalidArgument, "value"),
    ({"key": "k" * 65_536}, inline.TooLarge, "key"),
    ({"value": "v" * 16_777_217}, inline.TooLarge, "value"),
    ({"headers": {"h": "v" * 65_536}}, inline.TooLarge, "headers"),
    ({"headers": {"h": 1}}, inline.InvalidArgument, "headers"),
    ({"delay_seconds": 671_089}, inline.InvalidArgument, "delay"),
    ({"organization": "nobody"}, inline.Unknown, "nobody"),
]


@pytest.mark.parametrize(("options", "kind", "said"), REFUSED)
async def test_bad_messages_are_refused_by_name(
    options: dict[str, object],
    kind: type[Exception],
    said: str,
    work: Work,
    topic: str,
    connection: psycopg.Connection,
) -> None:
    arguments: dict[str, object] = {"topic": topic, "value": "", **options}
    with pytest.raises(kind, match=said):
        inline.publish(connection, **arguments)  # pyright: ignore[reportArgumentType] - some are meant to be wrong
    connection.rollback()
    assert await work.engine.inline.take() == 0
