"""Events that happen in one process and are listened to in another. DESIGN 5."""

import asyncio

import pytest

from millstream.domain import limits
from millstream.engine import relay
from millstream.engine.events import Event, EventKind, Subscriber
from tests.conftest import make_principal
from tests.engine.conftest import OpenEngine
from tests.engine.fellows import Fellows, GatedLine, HintLine, join, until
from tests.engine.work import Work


async def next_event(subscriber: Subscriber) -> Event:
    async with asyncio.timeout(10):
        return await subscriber.events.get()


async def is_listened_to(work: Work) -> None:
    """Return once the work's engine knows that somebody listens to its tenant."""
    await until(lambda: work.engine.hub.listens(work.principal.tenant_id))


async def logged(work: Work) -> int:
    async with work.engine.context.database.session() as session:
        row = await session.one("select count(*) as events from millstream.event_log")
    assert row is not None
    return row["events"]


async def test_a_subscriber_sees_what_happens_in_another_process(fellows: Fellows) -> None:
    here, there = fellows.here, fellows.there
    tenant_id = there.principal.tenant_id
    with there.engine.hub.subscribe(tenant_id) as subscriber:
        await is_listened_to(here)
        job_id = await here.enqueue()
        [claimed] = await here.claim()
        assert claimed.id == job_id
        await here.engine.queues.pause(here.principal, "q", None)
        seen = [await next_event(subscriber) for _ in range(3)]
    assert seen == [
        Event(EventKind.JOB_CREATED, tenant_id, "q", job_id),
        Event(EventKind.JOB_CLAIMED, tenant_id, "q", job_id),
        Event(EventKind.QUEUE_PAUSED, tenant_id, "q"),
    ]


async def test_events_of_both_processes_reach_both_once(fellows: Fellows) -> None:
    works = (fellows.here, fellows.there)
    tenant_id = fellows.here.principal.tenant_id
    with (
        fellows.here.engine.hub.subscribe(tenant_id) as first,
        fellows.there.engine.hub.subscribe(tenant_id) as second,
    ):
        for work in works:
            await until(lambda work=work: tenant_id in work.engine.relay._listened_to)
        jobs = [await work.enqueue() for work in works]
        for subscriber in (first, second):
            seen = [(await next_event(subscriber)).job_id for _ in jobs]
            assert sorted(str(job) for job in seen) == sorted(str(job) for job in jobs)
        # One more of each: nothing came twice, not even late.
        more = [await work.enqueue() for work in works]
        for subscriber in (first, second):
            seen = [(await next_event(subscriber)).job_id for _ in more]
            assert sorted(str(job) for job in seen) == sorted(str(job) for job in more)


async def test_more_events_than_one_statement_writes_arrive_in_order(
    fellows: Fellows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EVENT_LOG_ROWS_MAX", 7)
    tenant_id = fellows.here.principal.tenant_id
    with fellows.there.engine.hub.subscribe(tenant_id) as subscriber:
        await is_listened_to(fellows.here)
        for number in range(100):
            fellows.here.engine.context.tell(EventKind.JOB_CREATED, tenant_id, f"q{number}")
        seen = [(await next_event(subscriber)).queue for _ in range(100)]
    assert seen == [f"q{number}" for number in range(100)]


async def test_another_tenants_events_are_neither_written_nor_seen(fellows: Fellows) -> None:
    stranger = Work(fellows.here.engine, await make_principal(fellows.here.engine), fellows.here.clock)
    with fellows.there.engine.hub.subscribe(fellows.there.principal.tenant_id) as subscriber:
        await is_listened_to(fellows.here)
        await stranger.enqueue()
        job_id = await fellows.here.enqueue()
        assert (await next_event(subscriber)).job_id == job_id
        assert subscriber.events.empty()
    assert await logged(fellows.here) == 1


async def test_nothing_is_written_while_nobody_listens_elsewhere(fellows: Fellows) -> None:
    tenant_id = fellows.here.principal.tenant_id
    with fellows.here.engine.hub.subscribe(tenant_id) as subscriber:
        job_id = await fellows.here.enqueue()
        assert (await next_event(subscriber)).job_id == job_id
    assert fellows.here.engine.relay._events.written == 0
    assert await logged(fellows.here) == 0


async def test_events_whose_hint_was_lost_come_with_the_next_beat(
    fellows: Fellows, hint_line: HintLine, open_fellow: OpenEngine
) -> None:
    gated = GatedLine(hint_line.open)
    third = Work(await open_fellow(gated.open), fellows.here.principal, fellows.here.clock)
    await join(third.engine, *fellows.engines)
    with fellows.there.engine.hub.subscribe(third.principal.tenant_id) as subscriber:
        await is_listened_to(third)
        gated.gate.clear()
        job_id = await third.enqueue()
        await until(lambda: third.engine.relay._events.written == 1)
        async with asyncio.timeout(10):
            # Written is not yet committed.
            while not await logged(third):  # noqa: ASYNC110 - polled with a deadline
                await asyncio.sleep(0.001)
        await third.engine.relay.beat()
        await fellows.there.engine.relay.beat()
        assert (await next_event(subscriber)).job_id == job_id


async def test_listeners_are_known_from_beats_alone(
    fellows: Fellows, hint_line: HintLine, open_fellow: OpenEngine
) -> None:
    gated = GatedLine(hint_line.open)
    third = Work(await open_fellow(gated.open), fellows.here.principal, fellows.here.clock)
    await join(third.engine, *fellows.engines)
    gated.gate.clear()
    tenant_id = third.principal.tenant_id
    with third.engine.hub.subscribe(tenant_id) as subscriber:
        assert not fellows.here.engine.hub.listens(tenant_id)
        await third.engine.relay.beat()
        await fellows.here.engine.relay.beat()
        assert fellows.here.engine.hub.listens(tenant_id)
        job_id = await fellows.here.enqueue()
        assert (await next_event(subscriber)).job_id == job_id


async def test_who_listens_no_more_is_no_longer_written_for(
    fellows: Fellows, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = fellows.engines
    tenant_id = fellows.here.principal.tenant_id
    with there.hub.subscribe(tenant_id):
        await is_listened_to(fellows.here)
    monkeypatch.setattr(relay, "LISTENS_BELIEVED_SECONDS", 0)
    here.relay._believe_listener(tenant_id)
    await there.relay.beat()
    await here.relay.beat()
    assert not here.hub.listens(tenant_id)


async def test_events_are_kept_for_a_minute(fellows: Fellows) -> None:
    here = fellows.here
    with fellows.there.engine.hub.subscribe(here.principal.tenant_id) as subscriber:
        await is_listened_to(here)
        await here.enqueue()
        await next_event(subscriber)
    here.clock.advance(relay.EVENTS_KEPT_SECONDS)
    assert await here.engine.relay.prune_events() == 0
    here.clock.advance(1)
    assert await here.engine.relay.prune_events() == 1
    assert await logged(here) == 0
