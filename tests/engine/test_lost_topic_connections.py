"""Connections lost in the middle of polls and acknowledgements: callers get the truth, or are told that it is not known."""

from collections.abc import AsyncIterator

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import OutcomeUnknown
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.engine.consuming import Consuming
from tests.engine.line import Line, open_line


@pytest.fixture
async def near(engine: Engine, principal: Principal, clock: SteeredClock) -> Consuming:
    """A group with one member, on connections of its own."""
    return await Consuming.begin(engine, principal, clock)


@pytest.fixture
async def line_and_far(
    database_dsn: str, near: Consuming, clock: SteeredClock
) -> AsyncIterator[tuple[Line, Consuming]]:
    """The same group on an engine whose connections go over a line."""
    async with open_line(database_dsn) as (line, dsn):
        database = await Database.open(dsn, min_size=1, max_size=5)
        engine = await open_engine(
            database, direct=lambda: installation.direct_session(database_dsn), clock=clock
        )
        yield line, near.elsewhere(engine)
        await engine.close()
        await database.close()


async def test_settlements_whose_commit_was_lost_are_answered_as_they_were_recorded(
    near: Consuming, line_and_far: tuple[Line, Consuming]
) -> None:
    line, far = line_and_far
    acknowledging = far.engine.acknowledging
    await near.publish("a", "b", "c")
    first, second, third = await near.poll()
    line.lose_answer_to = b"commit"
    acked = await acknowledging.ack(far.principal, first.receipt)
    assert (acked.offset, acked.committed_offset) == (0, 0)
    line.lose_answer_to = b"commit"
    nacked = await acknowledging.nack(far.principal, second.receipt, delay_seconds=7)
    assert nacked.next_visible_at == near.in_seconds(7)
    line.lose_answer_to = b"commit"
    rejected = await acknowledging.reject(far.principal, third.receipt, reason="broken")
    assert rejected.dead_letter_topic == "orders.dlq"
    assert line.cuts == 3
    statistics = await near.engine.message_statistics.reliability(near.principal)
    assert (statistics.acks, statistics.nacks, statistics.rejects, statistics.dead_letters) == (1, 1, 1, 1)
    near.clock.advance(7)
    assert [one.value for one in await near.poll()] == ["b"]


async def test_an_acknowledgement_that_never_arrived_settles_nothing(
    near: Consuming, line_and_far: tuple[Line, Consuming]
) -> None:
    line, far = line_and_far
    await near.publish("a")
    [message] = await near.poll()
    line.lose_question = b"commit"
    with pytest.raises(OutcomeUnknown):
        await far.engine.acknowledging.ack(far.principal, message.receipt)
    assert await near.low() is None
    await far.ack(message)
    assert await near.low() == 1


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_poll_whose_answer_was_lost_leases_and_counts_nothing(
    near: Consuming, line_and_far: tuple[Line, Consuming], arrived: bool
) -> None:
    line, far = line_and_far
    await near.publish("a", "b")
    if arrived:
        line.lose_answer_to = b"commit"
    else:
        line.lose_question = b"commit"
    with pytest.raises(OutcomeUnknown):
        await far.poll()
    assert line.cuts == 1
    assert [(one.value, one.delivery_count) for one in await near.poll()] == [("a", 1), ("b", 1)]
