"""Dead letters larger than anything that may be published, and dead-letter topics that are in the way.

Contract: goqueue-messaging 9.7, 9.8.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from millstream.domain import limits
from millstream.domain.clock import SteeredClock
from millstream.domain.delivery import DeliveredMessage
from millstream.domain.message import Message, NewMessage, PublishedMessage, ReadRequest
from millstream.domain.tenant import Principal
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.engine import groups_by_hand
from tests.engine.consuming import GROUP, TOPIC, Consuming

OWN_HEADERS = {
    "x-goqueue-dlq-reason",
    "x-goqueue-original-topic",
    "x-goqueue-original-partition",
    "x-goqueue-original-offset",
    "x-goqueue-delivery-attempts",
}


@pytest.fixture
async def consuming(engine: Engine, principal: Principal, clock: SteeredClock) -> Consuming:
    """A group with one member and a topic of one partition."""
    return await Consuming.begin(engine, principal, clock)


async def publish(consuming: Consuming, message: NewMessage) -> None:
    [outcome] = await consuming.engine.publishing.publish(
        consuming.principal, consuming.topic.name, [message]
    )
    assert isinstance(outcome, PublishedMessage), outcome


async def letters_of(consuming: Consuming, topic: str = f"{TOPIC}.dlq", partition: int = 0) -> list[Message]:
    page = await consuming.engine.reading.read(consuming.principal, topic, partition, ReadRequest())
    return list(page.messages)


async def reject(consuming: Consuming, message: DeliveredMessage) -> None:
    await consuming.engine.acknowledging.reject(consuming.principal, message.receipt, reason="broken")


async def nack_to_the_last(consuming: Consuming, message: DeliveredMessage) -> None:
    for _ in range(2):
        await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, delay_seconds=0)
        [message] = await consuming.poll()
    nacked = await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, reason="broken")
    assert nacked.next_visible_at is None


async def let_expire(consuming: Consuming, _: DeliveredMessage) -> None:
    for _attempt in range(2):
        consuming.clock.advance(31)
        assert (await consuming.engine.lease_ends.expire()).deliveries == 1
        [_message] = await consuming.poll()
    consuming.clock.advance(31)
    assert (await consuming.engine.lease_ends.expire()).deliveries == 1


Death = Callable[[Consuming, DeliveredMessage], Awaitable[None]]
DEATHS = [reject, nack_to_the_last, let_expire]


async def assert_settled(consuming: Consuming) -> None:
    consuming.clock.advance(1000)
    await consuming.engine.lease_ends.expire()
    assert await consuming.poll() == []
    assert await consuming.low() == 1


@pytest.mark.slow
@pytest.mark.parametrize("death", DEATHS)
async def test_the_largest_message_becomes_a_dead_letter_larger_than_any_message(
    consuming: Consuming, death: Death
) -> None:
    # Quotes are two bytes each in the letter.
    value = '"' * limits.VALUE_BYTES_MAX
    headers = {"k": "v" * (limits.HEADERS_BYTES_MAX - 1)}
    await publish(consuming, NewMessage(value, "x" * limits.KEY_BYTES_MAX, headers=headers))
    [message] = await consuming.poll()
    await death(consuming, message)
    [letter] = await letters_of(consuming)
    assert json.loads(letter.value)["original_value"] == value
    assert letter.key == "x" * limits.KEY_BYTES_MAX
    assert letter.headers is not None
    assert letter.headers["k"] == headers["k"]
    assert set(letter.headers) >= OWN_HEADERS
    await assert_settled(consuming)


@pytest.mark.parametrize("death", DEATHS)
async def test_the_longest_topic_name_has_room_for_the_suffix(
    engine: Engine, principal: Principal, clock: SteeredClock, death: Death
) -> None:
    name = "t" * limits.TOPIC_NAME_CHARS_MAX
    topic = await engine.topics.create(principal, name, 1)
    group_id = await groups_by_hand.join(engine, principal, GROUP, ["ann"], [topic])
    consuming = Consuming(engine, principal, clock, topic, group_id)
    await publish(consuming, NewMessage("a"))
    [message] = await consuming.poll()
    await death(consuming, message)
    await assert_settled(consuming)
    # It is a topic as any: it can be read, and a group can be handed its messages.
    letters = await engine.topics.get(principal, f"{name}.dlq")
    assert [json.loads(one.value)["original_value"] for one in await letters_of(consuming, letters.name)] == [
        "a"
    ]
    await groups_by_hand.join(engine, principal, "undertakers", ["u"], [letters])
    [letter] = await consuming.poll(member="u", group="undertakers")
    assert letter.topic == letters.name


@pytest.mark.parametrize("death", DEATHS)
async def test_limits_that_were_lowered_keep_no_message(
    database_dsn: str, engine: Engine, principal: Principal, clock: SteeredClock, death: Death
) -> None:
    before = await Consuming.begin(engine, principal, clock, partitions=3)
    await before.publish("a", partition=2)
    settings = TopicSettings(partitions_max=1, delayed_per_topic_max=0, delayed_per_partition_max=0)
    database = await Database.open(database_dsn, min_size=1, max_size=5)
    after = await open_engine(
        database,
        EngineSettings(key_hash_cost=4, topics=settings),
        direct=lambda: installation.direct_session(database_dsn),
        clock=clock,
    )
    consuming = before.elsewhere(after)
    [message] = await consuming.poll()
    await death(consuming, message)
    assert await consuming.low(2) == 1
    assert len(await letters_of(consuming, partition=2)) == 1
    await after.close()
    await database.close()


@pytest.mark.slow
async def test_many_large_messages_that_end_together_are_copied_once_each(consuming: Consuming) -> None:
    # Several pages of what is copied at once.
    values = [str(number) * (limits.VALUE_BYTES_MAX - 100) for number in range(6)]
    for value in values:
        await publish(consuming, NewMessage(value))
    for _ in range(3):
        while await consuming.poll():
            pass
        consuming.clock.advance(31)
        await consuming.engine.lease_ends.expire()
    originals = []
    offset = 0
    while page := (
        await consuming.engine.reading.read(
            consuming.principal, f"{TOPIC}.dlq", 0, ReadRequest(offset=offset)
        )
    ).messages:
        originals += [json.loads(one.value)["original_value"] for one in page]
        offset += len(page)
    assert originals == values
    assert await consuming.low() == 6


async def test_a_dead_letter_topic_that_is_deleted_meanwhile_is_made_again(
    consuming: Consuming, database_dsn: str
) -> None:
    engine, principal = consuming.engine, consuming.principal
    await consuming.publish("a", "b")
    first, second = await consuming.poll()
    await reject(consuming, first)
    old = await engine.topics.get(principal, f"{TOPIC}.dlq")
    holder, watcher = await asyncpg.connect(database_dsn), await asyncpg.connect(database_dsn)
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.partitions where topic_id = $1 for update", old.id)
    deletion = asyncio.create_task(engine.topics.delete(principal, old.name))
    await waiting(watcher, 1)
    rejection = asyncio.create_task(reject(consuming, second))
    await waiting(watcher, 2)
    await block.rollback()
    await asyncio.gather(deletion, rejection)
    [letter] = await letters_of(consuming)
    assert json.loads(letter.value)["original_value"] == "b"
    assert (await engine.topics.get(principal, old.name)).id != old.id
    await holder.close()
    await watcher.close()
    assert await consuming.low() == 2


async def waiting(watcher: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(10):
        while not await watcher.fetchval(  # noqa: ASYNC110 - polled with a deadline
            "select count(*) >= $1 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'",
            count,
        ):
            await asyncio.sleep(0.005)
