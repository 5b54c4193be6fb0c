"""Many deliveries at once, and none in the way of others."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from threading import Event

import pytest

from millstream.domain import limits
from millstream.domain.errors import InvalidField
from millstream.domain.job import NewJob
from millstream.domain.webhook import DeliveryStatus, WebhookEvent
from millstream.engine import delivering
from millstream.engine.delivering import DeliverySettings
from millstream.engine.engine import EngineSettings, open_engine
from millstream.store import installation
from tests.engine.hooks import deliveries, send, subscribe
from tests.engine.work import Work
from tests.receiver import Receiver, listening


@pytest.fixture
def stuck() -> Iterator[Receiver]:
    """A receiver that takes requests and answers none until the test is over."""
    over = Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        over.wait(60)
        handler.close_connection = True

    with listening() as opened:
        opened.respond = respond
        yield opened
        over.set()


async def enqueue(work: Work, jobs: int) -> None:
    for start in range(0, jobs, 50):
        new = [NewJob(queue="q", payload="{}") for _ in range(min(50, jobs - start))]
        await work.engine.jobs.enqueue_many(work.principal, new)


async def test_a_receiver_that_hangs_leaves_room_for_the_others(
    work: Work, receiver: Receiver, stuck: Receiver
) -> None:
    await subscribe(work, stuck.url, WebhookEvent.JOB_CREATED)
    good = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await enqueue(work, 150)
    async with asyncio.timeout(60):
        while len(receiver.received) < 150:
            await work.engine.delivering.dispatch()
            await asyncio.sleep(0)
    assert stuck.most_at_once <= limits.DELIVERIES_PER_RECEIVER_MAX
    assert receiver.most_at_once <= limits.DELIVERIES_PER_RECEIVER_MAX
    async with asyncio.timeout(30):
        while len(await deliveries(work, good, DeliveryStatus.SUCCESS)) < 100:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0)


async def test_many_webhooks_of_one_host_share_its_room(work: Work, stuck: Receiver) -> None:
    for number in range(4):
        await subscribe(work, f"{stuck.url}/{number}", WebhookEvent.JOB_CREATED)
    await enqueue(work, 40)
    while await work.engine.delivering.dispatch():
        continue
    rows = await in_flight(work)
    assert rows == limits.DELIVERIES_PER_HOST_MAX


async def in_flight(work: Work) -> int:
    async with work.engine.context.database.session() as session:
        row = await session.one(
            "select count(*) as claimed from millstream.outgoing_deliveries where claim_id is not null"
        )
    assert row is not None
    return int(row["claimed"])


async def test_a_host_that_did_not_answer_gets_little_until_it_does(work: Work, receiver: Receiver) -> None:
    with listening() as gone:
        url = gone.url
        port = gone.port
    webhook = await subscribe(work, url, WebhookEvent.JOB_CREATED)
    await enqueue(work, 1)
    assert await send(work) == 1
    await enqueue(work, 10)
    assert await work.engine.delivering.dispatch() == limits.DELIVERIES_PER_TROUBLED_HOST_MAX
    await work.engine.delivering.settle()
    with listening(port) as back:
        assert await work.engine.delivering.dispatch() == limits.DELIVERIES_PER_TROUBLED_HOST_MAX
        await work.engine.delivering.settle()
        assert await work.engine.delivering.dispatch() == 6
        await work.engine.delivering.settle()
        work.clock.advance(1)
        await send(work)
        assert len(back.received) == 11
    assert {row.status for row in await deliveries(work, webhook)} == {DeliveryStatus.SUCCESS}


async def test_a_round_comes_to_every_receiver(
    work: Work, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIVERS_PER_CLAIM_MAX", 2)
    for number in range(5):
        await subscribe(work, f"{receiver.url}/{number}", WebhookEvent.JOB_CREATED)
    await enqueue(work, 1)
    begun = [await work.engine.delivering.dispatch()]
    while work.engine.delivering.round_goes_on:
        begun.append(await work.engine.delivering.dispatch())
    assert begun == [2, 2, 1]
    await work.engine.delivering.settle()
    assert {request.path for request in receiver.received} == {f"/hook/{number}" for number in range(5)}


async def test_stopping_gives_back_what_is_under_way(
    work: Work, database_dsn: str, stuck: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "STOP_SECONDS", 0.1)
    webhook = await subscribe(work, stuck.url, WebhookEvent.JOB_CREATED)
    await enqueue(work, 3)
    leaving = await open_engine(
        work.engine.context.database,
        direct=lambda: installation.direct_session(database_dsn),
        clock=work.clock,
    )
    assert await leaving.delivering.dispatch() == 3
    await asyncio.to_thread(stuck.wait, 3)
    await leaving.close()
    assert await leaving.delivering.dispatch() == 0
    rows = await deliveries(work, webhook)
    assert {(row.status, row.attempts) for row in rows} == {(DeliveryStatus.PENDING, 0)}
    # Another process has them at once.
    stuck.respond = None
    assert await send(work) == 3
    assert {request.delivery_id for request in stuck.received} == {str(row.id) for row in rows}
    assert len(stuck.received) == 6


async def test_how_often_is_a_setting(work: Work, database_dsn: str, receiver: Receiver) -> None:
    receiver.status = 500
    engine = await open_engine(
        work.engine.context.database,
        EngineSettings(deliveries=DeliverySettings(attempts=1, local_http=True)),
        direct=lambda: installation.direct_session(database_dsn),
        clock=work.clock,
    )
    elsewhere = Work(engine, work.principal, work.clock)
    webhook = await subscribe(elsewhere, receiver.url, WebhookEvent.JOB_CREATED)
    await elsewhere.enqueue()
    await send(elsewhere)
    [delivery] = await deliveries(elsewhere, webhook)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.FAILED, 1)
    await engine.close()


async def test_in_production_receivers_of_this_machine_are_not_called(
    work: Work, database_dsn: str, receiver: Receiver
) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    engine = await open_engine(
        work.engine.context.database,
        EngineSettings(deliveries=DeliverySettings(local_http=False)),
        direct=lambda: installation.direct_session(database_dsn),
        clock=work.clock,
    )
    elsewhere = Work(engine, work.principal, work.clock)
    with pytest.raises(InvalidField, match="Invalid webhook URL"):
        await subscribe(elsewhere, receiver.url)
    await elsewhere.enqueue()
    await elsewhere.complete(await elsewhere.run("other", completion_webhook=receiver.url))
    await send(elsewhere)
    assert {row.error for row in await deliveries(work, webhook)} == {"Invalid webhook URL"}
    assert receiver.received == []
    await engine.close()


async def test_a_delivery_that_could_not_be_recorded_is_sent_again(
    work: Work, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    async with work.engine.context.database.session() as session, session.together():
        await session.run("set local role millstream_owner")
        await session.run(
            "alter table millstream.outgoing_deliveries add constraint none_arrives check (status <> 2) not valid"
        )
    assert await send(work) == 1
    async with work.engine.context.database.session() as session, session.together():
        await session.run("set local role millstream_owner")
        await session.run("alter table millstream.outgoing_deliveries drop constraint none_arrives")
    work.clock.advance(delivering.CLAIM_SECONDS)
    assert await send(work) == 1
    [delivery] = await deliveries(work, webhook)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.SUCCESS, 1)
    assert {request.delivery_id for request in receiver.received} == {str(delivery.id)}
