"""Receipts: what they settle, how late, and what they say when they come twice. Contract: goqueue-messaging 9."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.delivery import Acked, Extended, Nacked, Rejected
from millstream.domain.errors import BadRequest, Gone, MillstreamError, NotFound
from millstream.domain.message import ReadRequest
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine import groups_by_hand
from tests.engine.consuming import TOPIC, Consuming

Act = Callable[[Consuming, str], Awaitable[object]]
UNKNOWN = "message not found or already processed"
SUPERSEDED = "receipt expired: message was redelivered"


@pytest.fixture
async def consuming(engine: Engine, principal: Principal, clock: SteeredClock) -> Consuming:
    """A group with one member and a topic of one partition."""
    return await Consuming.begin(engine, principal, clock)


async def ack(consuming: Consuming, receipt: str) -> Acked:
    return await consuming.engine.acknowledging.ack(consuming.principal, receipt)


async def nack(consuming: Consuming, receipt: str) -> Nacked:
    return await consuming.engine.acknowledging.nack(consuming.principal, receipt, delay_seconds=5)


async def reject(consuming: Consuming, receipt: str) -> Rejected:
    return await consuming.engine.acknowledging.reject(consuming.principal, receipt, reason="broken")


async def extend(consuming: Consuming, receipt: str) -> Extended:
    return await consuming.engine.acknowledging.extend(consuming.principal, receipt, 60)


async def refusal(act: Awaitable[object]) -> tuple[type[MillstreamError], str] | None:
    try:
        await act
    except MillstreamError as error:
        return type(error), error.message
    return None


ACTS = [ack, nack, reject, extend]


@pytest.mark.parametrize("act", ACTS)
async def test_a_text_that_is_no_receipt_is_told_apart_from_one_that_is_unknown(
    consuming: Consuming, act: Act
) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    assert await refusal(act(consuming, "")) == (BadRequest, "receipt_handle is required")
    for text in (
        "x",
        message.receipt[:-1],
        message.receipt + "A",
        "é" * 40,
        "-" * 40,
        message.receipt[:36] + "!!!!",
    ):
        assert await refusal(act(consuming, text)) == (BadRequest, "invalid receipt handle format")
    forged = ("A" if message.receipt[35] != "A" else "E").join((message.receipt[:35], message.receipt[36:]))
    assert await refusal(act(consuming, forged)) == (NotFound, UNKNOWN)
    beyond = message.receipt[:36] + "AAAB"
    assert await refusal(act(consuming, beyond)) == (NotFound, UNKNOWN)


@pytest.mark.parametrize("act", ACTS)
async def test_a_receipt_is_nobody_elses(consuming: Consuming, act: Act) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    stranger = Consuming(
        consuming.engine,
        await make_principal(consuming.engine),
        consuming.clock,
        consuming.topic,
        consuming.group_id,
    )
    assert await refusal(act(stranger, message.receipt)) == (NotFound, UNKNOWN)
    assert await refusal(act(consuming, message.receipt)) is None


@pytest.mark.parametrize("act", [ack, nack, reject])
async def test_the_same_call_twice_is_answered_as_the_first_for_ten_minutes(
    consuming: Consuming, act: Act
) -> None:
    await consuming.publish("a", "b")
    [message, _] = await consuming.poll()
    first = await act(consuming, message.receipt)
    for _ in range(3):
        consuming.clock.advance(199)
        await consuming.engine.lease_ends.expire()
        await consuming.engine.lease_ends.prune()
        again = await act(consuming, message.receipt)
        if isinstance(first, Acked):
            assert isinstance(again, Acked)
            assert (again.offset, again.committed_offset) == (first.offset, first.committed_offset)
        else:
            assert again == first
    statistics = await consuming.engine.message_statistics.reliability(consuming.principal)
    assert (statistics.acks, statistics.nacks, statistics.rejects).count(1) == 1
    assert statistics.acks + statistics.nacks + statistics.rejects == 1


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("before", [ack, nack, reject])
async def test_another_call_after_a_message_was_settled_or_put_off_finds_nothing(
    consuming: Consuming, before: Act, act: Act
) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    await before(consuming, message.receipt)
    answer = await refusal(act(consuming, message.receipt))
    assert answer == (None if act is before else (NotFound, UNKNOWN))


@pytest.mark.parametrize("act", ACTS)
async def test_a_receipt_is_superseded_by_the_next_delivery(consuming: Consuming, act: Act) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    consuming.clock.advance(31)
    [again] = await consuming.poll()
    assert (again.offset, again.delivery_count) == (message.offset, 2)
    assert await refusal(act(consuming, message.receipt)) == (Gone, SUPERSEDED)
    assert await refusal(act(consuming, again.receipt)) is None
    if act is not extend:
        assert await refusal(act(consuming, message.receipt)) == (Gone, SUPERSEDED)


@pytest.mark.parametrize("act", [ack, nack, reject])
@pytest.mark.parametrize("noticed", [False, True])
async def test_a_late_receipt_still_settles_what_was_not_delivered_again(
    consuming: Consuming, act: Act, noticed: bool
) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    consuming.clock.advance(31)
    if noticed:
        assert (await consuming.engine.lease_ends.expire()).deliveries == 1
    await act(consuming, message.receipt)
    assert await consuming.poll() == []
    consuming.clock.advance(6)
    again = await consuming.poll()
    assert [one.delivery_count for one in again] == ([2] if act is nack else [])


@pytest.mark.parametrize("act", [ack, reject, extend])
async def test_a_nacked_message_is_superseded_once_it_was_delivered_again(
    consuming: Consuming, act: Act
) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, delay_seconds=5)
    assert await refusal(act(consuming, message.receipt)) == (NotFound, UNKNOWN)
    consuming.clock.advance(5)
    [again] = await consuming.poll()
    assert await refusal(act(consuming, message.receipt)) == (Gone, SUPERSEDED)
    # The call that was made with it is answered as it was.
    await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, delay_seconds=5)
    await consuming.ack(again)
    assert await refusal(act(consuming, message.receipt)) == (Gone, SUPERSEDED)


@pytest.mark.parametrize("act", [ack, reject, extend])
async def test_a_message_whose_last_nack_buried_it_is_settled(consuming: Consuming, act: Act) -> None:
    await consuming.publish("a")
    receipt = ""
    for _ in range(3):
        [message] = await consuming.poll()
        receipt = message.receipt
        await consuming.engine.acknowledging.nack(consuming.principal, receipt, delay_seconds=0)
    assert await refusal(act(consuming, receipt)) == (NotFound, UNKNOWN)


@pytest.mark.parametrize("noticed", [False, True])
async def test_an_ended_lease_is_not_extended(consuming: Consuming, noticed: bool) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    consuming.clock.advance(30)
    if noticed:
        await consuming.engine.lease_ends.expire()
    assert await refusal(extend(consuming, message.receipt)) == (NotFound, UNKNOWN)


@pytest.mark.parametrize("act", ACTS)
async def test_receipts_of_a_deleted_topic_find_nothing(consuming: Consuming, act: Act) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    await consuming.engine.topics.delete(consuming.principal, TOPIC)
    assert await refusal(act(consuming, message.receipt)) == (NotFound, UNKNOWN)


async def test_a_lease_ends_when_its_last_extension_says(consuming: Consuming) -> None:
    await consuming.publish("a", "b")
    [first, second] = await consuming.poll()
    for _ in range(3):
        consuming.clock.advance(20)
        extended = await extend(consuming, first.receipt)
        assert extended.deadline == consuming.in_seconds(60)
        await consuming.engine.lease_ends.expire()
    [again] = await consuming.poll()
    assert again.offset == second.offset
    # It may also become shorter.
    await consuming.engine.acknowledging.extend(consuming.principal, first.receipt, 2)
    consuming.clock.advance(2)
    [back] = await consuming.poll()
    assert (back.offset, back.delivery_count) == (first.offset, 2)


async def test_a_failed_message_waits_longer_each_time(consuming: Consuming) -> None:
    await consuming.publish("a")
    for failures, seconds in ((1, 1), (2, 2)):
        [message] = await consuming.poll()
        nacked = await consuming.engine.acknowledging.nack(consuming.principal, message.receipt)
        assert nacked.delivery_count == failures
        assert nacked.next_visible_at == consuming.in_seconds(seconds)
        consuming.clock.advance(seconds - 0.001)
        assert await consuming.poll() == []
        consuming.clock.advance(0.001)
    assert [one.delivery_count for one in await consuming.poll()] == [3]


@pytest.mark.parametrize("seconds", [-1.0, 671_089.0])
async def test_a_delay_out_of_bounds_is_refused(consuming: Consuming, seconds: float) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    with pytest.raises(BadRequest):
        await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, delay_seconds=seconds)
    with pytest.raises(BadRequest):
        await consuming.engine.acknowledging.extend(consuming.principal, message.receipt, -1)


async def test_a_delay_of_nothing_makes_a_message_ready_at_once(consuming: Consuming) -> None:
    await consuming.publish("a", "b")
    [message, _] = await consuming.poll()
    await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, delay_seconds=0)
    assert [one.offset for one in await consuming.poll()] == [0]


async def test_many_acknowledgements_are_judged_one_by_one(consuming: Consuming) -> None:
    await consuming.publish("a", "b", "c")
    first, second, third = await consuming.poll()
    await reject(consuming, second.receipt)
    receipts = [first.receipt, "nonsense", second.receipt, third.receipt, first.receipt]
    refusals = await consuming.engine.acknowledging.ack_many(consuming.principal, receipts)
    assert [type(one) for one in refusals] == [type(None), BadRequest, NotFound, type(None), type(None)]
    assert await consuming.low() == 3
    statistics = await consuming.engine.message_statistics.reliability(consuming.principal)
    assert (statistics.acks, statistics.deliveries, statistics.in_flight) == (2, 3, 0)


# Dead letters


async def dead_letters(
    consuming: Consuming, topic: str = f"{TOPIC}.dlq", partition: int = 0
) -> list[dict[str, object]]:
    page = await consuming.engine.reading.read(consuming.principal, topic, partition, ReadRequest())
    return [
        {**json.loads(one.value), "headers": dict(one.headers or {}), "key": one.key} for one in page.messages
    ]


async def test_a_rejected_message_is_copied_with_all_that_is_known_of_it(consuming: Consuming) -> None:
    await consuming.publish("a\x00é", key="k")
    [message] = await consuming.poll()
    consuming.clock.advance(3)
    rejected = await reject(consuming, message.receipt)
    assert rejected == Rejected(TOPIC, 0, 0, "broken", f"{TOPIC}.dlq")
    [letter] = await dead_letters(consuming)
    at = consuming.clock.now()
    stamp = (at - timedelta(seconds=3)).isoformat().replace("+00:00", "Z")
    assert letter == {
        "original_topic": TOPIC,
        "original_partition": 0,
        "original_offset": 0,
        "original_timestamp": stamp,
        "original_key": "k",
        "original_value": "a\x00é",
        "original_encoding": "utf-8",
        "original_priority": "normal",
        "delivery_attempts": 1,
        "first_delivery": stamp,
        "last_delivery": stamp,
        "dlq_time": at.isoformat().replace("+00:00", "Z"),
        "last_consumer": "ann",
        "last_group": "billing",
        "reason": "REJECTED",
        "last_error": "broken",
        "key": "k",
        "headers": {
            "x-goqueue-dlq-reason": "REJECTED",
            "x-goqueue-original-topic": TOPIC,
            "x-goqueue-original-partition": "0",
            "x-goqueue-original-offset": "0",
            "x-goqueue-delivery-attempts": "1",
            "x-goqueue-last-error": "broken",
        },
    }
    topic = await consuming.engine.topics.get(consuming.principal, f"{TOPIC}.dlq")
    assert (topic.partitions, topic.retention_hours) == (1, 336)
    statistics = await consuming.engine.message_statistics.reliability(consuming.principal)
    assert statistics.dead_lettered_by_reason == {"REJECTED": 1}
    assert statistics.dead_lettered_by_topic == {TOPIC: 1}
    assert (statistics.rejects, statistics.dead_letters) == (1, 1)


async def test_the_third_failure_is_the_last(consuming: Consuming) -> None:
    await consuming.publish("a")
    for _ in range(2):
        [message] = await consuming.poll()
        await consuming.engine.acknowledging.nack(consuming.principal, message.receipt, delay_seconds=0)
    [message] = await consuming.poll()
    nacked = await consuming.engine.acknowledging.nack(
        consuming.principal, message.receipt, delay_seconds=9, reason="again"
    )
    assert nacked == Nacked(TOPIC, 0, 0, 3, None, f"{TOPIC}.dlq")
    [letter] = await dead_letters(consuming)
    assert (letter["reason"], letter["delivery_attempts"], letter["last_error"]) == (
        "MAX_RETRIES_EXCEEDED",
        3,
        "again",
    )
    consuming.clock.advance(100)
    assert await consuming.poll() == []
    assert await consuming.low() == 1


async def test_the_third_lease_that_runs_out_is_the_last(consuming: Consuming) -> None:
    await consuming.publish("a", "b")
    for attempt in (1, 2, 3):
        assert [one.delivery_count for one in await consuming.poll()] == [attempt, attempt]
        consuming.clock.advance(30)
    ended = await consuming.engine.lease_ends.expire()
    assert ended.deliveries == 2
    assert await consuming.poll() == []
    assert [letter["original_value"] for letter in await dead_letters(consuming)] == ["a", "b"]
    assert await consuming.low() == 2


async def test_leaving_is_no_failure_however_often(consuming: Consuming) -> None:
    await consuming.publish("a")
    for attempt in range(1, 6):
        member = "ann" if attempt == 1 else f"ann{attempt}"
        if attempt > 1:
            await consuming.take_over(member)
        assert [one.delivery_count for one in await consuming.poll(member=member)] == [attempt]
        await consuming.leave(member)
    await consuming.engine.lease_ends.expire()
    await consuming.take_over("bob")
    [message] = await consuming.poll(member="bob")
    nacked = await nack(consuming, message.receipt)
    assert nacked.next_visible_at is None


async def test_a_dead_letter_that_is_rejected_stays_where_it_is(
    consuming: Consuming, engine: Engine, principal: Principal
) -> None:
    await consuming.publish("a")
    [message] = await consuming.poll()
    await reject(consuming, message.receipt)
    letters = await engine.topics.get(principal, f"{TOPIC}.dlq")
    await groups_by_hand.join(engine, principal, "undertakers", ["u"], [letters])
    [letter] = await consuming.poll(member="u", group="undertakers")
    assert (await reject(consuming, letter.receipt)).dead_letter_topic == f"{TOPIC}.dlq"
    assert TOPIC + ".dlq.dlq" not in await engine.topics.list_names(principal)
    assert await consuming.poll(member="u", group="undertakers") == []
    assert len(await dead_letters(consuming)) == 1


async def test_groups_are_independent(consuming: Consuming, engine: Engine, principal: Principal) -> None:
    await consuming.publish("a")
    await groups_by_hand.join(engine, principal, "other", ["bob"], [consuming.topic])
    [mine] = await consuming.poll()
    [theirs] = await consuming.poll(member="bob", group="other")
    await reject(consuming, mine.receipt)
    await reject(consuming, theirs.receipt)
    assert [letter["last_group"] for letter in await dead_letters(consuming)] == ["billing", "other"]
