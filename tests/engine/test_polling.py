"""What polls hand out."""

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine
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
