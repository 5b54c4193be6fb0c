"""What one process tells another: wake-ups, changes, and how the line between them survives. DESIGN 5, ruling R25."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import AuthenticationFailed
from millstream.engine import claims, relay
from millstream.engine.credentials import KeyMaker
from millstream.engine.engine import Engine
from millstream.engine.hints import Ready
from millstream.store import tenants
from millstream.store.relay import CHANNEL
from tests.conftest import make_principal
from tests.engine.conftest import OpenEngine
from tests.engine.fellows import (
    Fellows,
    GatedLine,
    HintLine,
    Overheard,
    claim_and_wait,
    is_waited_for,
    join,
    relay_sessions,
    until,
)
from tests.engine.work import Work


@pytest.fixture(autouse=True)
def nobody_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave waking to the relay: a waiting claim that polled would hide a hint that never came."""
    monkeypatch.setattr(claims, "LOOK_AGAIN_SECONDS", 60)


@pytest.fixture
async def overheard(database_dsn: str) -> AsyncIterator[Overheard]:
    connection = await asyncpg.connect(database_dsn)
    made = Overheard()
    await made.listen(connection)
    yield made
    await connection.close()


# ---------------------------------------------------------------------------------------------------------- alone


async def test_a_process_alone_holds_no_line_and_says_nothing(
    work: Work, database_dsn: str, overheard: Overheard
) -> None:
    await work.engine.relay.beat()
    await work.enqueue()
    await work.engine.context.invalidations.tenant_changed(work.principal.tenant_id)
    assert await relay_sessions(database_dsn) == []
    # Somebody else's word comes through, so what was said before it would have.
    async with work.engine.context.database.session() as session:
        await session.run("select pg_notify($1, $2)", CHANNEL, f'["{uuid4()}",[["l",7]]]')
    await until(lambda: bool(overheard.hints))
    assert len(overheard.hints) == 1


@pytest.mark.parametrize("hint_line", ["postgres"], indirect=True)
async def test_a_process_whose_fellow_has_left_is_alone_again(fellows: Fellows, database_dsn: str) -> None:
    here, there = fellows.engines
    assert len(await relay_sessions(database_dsn)) == 2
    await there.relay.stop()
    await here.relay.beat()
    assert here.relay.fellows == frozenset()
    assert not here.relay.is_connected
    async with asyncio.timeout(10):
        while await relay_sessions(database_dsn):  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.01)


async def test_a_process_that_beats_no_more_is_given_up(fellows: Fellows, clock: SteeredClock) -> None:
    here, there = fellows.engines
    clock.advance(relay.LIVE_SECONDS)
    await here.relay.beat()
    assert here.relay.fellows == {there.context.process_id}
    clock.advance(1)
    await here.relay.beat()
    assert here.relay.fellows == frozenset()
    clock.advance(relay.FORGOTTEN_SECONDS)
    await here.relay.beat()
    async with here.context.database.session() as session:
        [row] = await session.many("select id from millstream.processes")
    assert row["id"] == here.context.process_id


# ------------------------------------------------------------------------------------------------------- wake-ups


async def test_a_claim_that_waits_is_woken_by_a_job_enqueued_in_another_process(fellows: Fellows) -> None:
    claim = claim_and_wait(fellows.there)
    await is_waited_for(fellows.here)
    job_id = await fellows.here.enqueue()
    assert await claim == [job_id]


async def test_as_many_claims_are_woken_as_there_are_jobs(fellows: Fellows) -> None:
    waiting = [claim_and_wait(fellows.there, worker=f"w{number}") for number in range(4)]
    await is_waited_for(fellows.here)
    jobs = await asyncio.gather(*(fellows.here.enqueue() for _ in waiting))
    assert sorted(job for [job] in await asyncio.gather(*waiting)) == sorted(jobs)


@pytest.mark.parametrize("hint_line", ["postgres"], indirect=True)
async def test_queues_that_nobody_waits_for_are_not_mentioned(fellows: Fellows, overheard: Overheard) -> None:
    claim = claim_and_wait(fellows.there)
    await is_waited_for(fellows.here)
    await fellows.here.enqueue("other")
    job_id = await fellows.here.enqueue()
    assert await claim == [job_id]
    assert [hint for hint in overheard.hints if isinstance(hint, Ready)] == [
        Ready(fellows.here.principal.tenant_id, "q", 1)
    ]


@pytest.mark.parametrize("hint_line", ["postgres"], indirect=True)
async def test_a_job_that_wakes_a_claim_of_its_own_process_is_not_mentioned(
    fellows: Fellows, overheard: Overheard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "WAITS_ANNOUNCED_SECONDS", 60)
    # Both have announced the queue and looked once more for that; from now on they are only woken.
    for mine, other in ((fellows.here, fellows.there), (fellows.there, fellows.here)):
        claim = claim_and_wait(mine)
        await is_waited_for(other)
        await until(lambda mine=mine: not mine.engine.relay._announcing)
        job_id = await mine.enqueue()
        assert await claim == [job_id]
    said = len(overheard.hints)
    elsewhere = claim_and_wait(fellows.there)
    own = claim_and_wait(fellows.here, worker="own")
    for work in (fellows.here, fellows.there):
        await until(lambda work=work: bool(work.engine.context.wakeups.waiting_queues()))
    first = await fellows.here.enqueue()
    assert await own == [first]
    second = await fellows.here.enqueue()
    assert await elsewhere == [second]
    assert overheard.hints[said:] == [Ready(fellows.here.principal.tenant_id, "q", 1)]


async def test_a_job_enqueued_while_its_queue_is_announced_is_found(
    fellows: Fellows, hint_line: HintLine, open_fellow: OpenEngine
) -> None:
    gated = GatedLine(hint_line.open)
    third = Work(await open_fellow(gated.open), fellows.here.principal, fellows.here.clock)
    await join(third.engine, *fellows.engines)
    gated.gate.clear()
    claim = claim_and_wait(third)
    await until(lambda: bool(third.engine.context.wakeups.waiting_queues()))
    # It has looked already, and nobody knows yet that it waits: nobody tells it of the job.
    job_id = await fellows.here.enqueue()
    gated.gate.set()
    assert await claim == [job_id]


async def test_a_resumed_queue_wakes_claims_in_other_processes(fellows: Fellows) -> None:
    await fellows.here.engine.queues.pause(fellows.here.principal, "q", None)
    job_id = await fellows.here.enqueue()
    claim = claim_and_wait(fellows.there)
    await is_waited_for(fellows.here)
    await fellows.here.engine.queues.resume(fellows.here.principal, "q")
    assert await claim == [job_id]


async def test_a_job_that_became_due_wakes_claims_in_other_processes(
    fellows: Fellows, clock: SteeredClock
) -> None:
    job_id = await fellows.here.enqueue(run_at=fellows.here.in_seconds(60))
    claim = claim_and_wait(fellows.there)
    await is_waited_for(fellows.here)
    clock.advance(60)
    # The waiting claim may have looked for itself just now, which promotes too.
    await fellows.here.engine.claiming.promote()
    assert await claim == [job_id]


async def test_more_queues_than_fit_into_one_message_are_announced(fellows: Fellows) -> None:
    queues = [f"{number:03}-" + "x" * 90 for number in range(150)]
    waiting = [claim_and_wait(fellows.there, queue) for queue in queues]
    for queue in queues:
        await is_waited_for(fellows.here, queue)
    jobs = await asyncio.gather(*(fellows.here.enqueue(queue) for queue in queues))
    assert [job for [job] in await asyncio.gather(*waiting)] == jobs


async def test_what_a_newcomer_could_not_hear_is_told_again(
    fellows: Fellows, hint_line: HintLine, open_fellow: OpenEngine
) -> None:
    claim = claim_and_wait(fellows.there)
    await is_waited_for(fellows.here)
    third = Work(await open_fellow(hint_line.open), fellows.here.principal, fellows.here.clock)
    await join(third.engine, *fellows.engines)
    await is_waited_for(third)
    job_id = await third.enqueue()
    assert await claim == [job_id]


# --------------------------------------------------------------------------------------------------------- changes


async def secret_of(engine: Engine, tenant_id: int) -> str:
    """Give the tenant a key, and return its secret."""
    async with engine.context.database.session() as session:
        pepper = bytes.fromhex(await tenants.get_setting(session, "api_key_pepper"))
        key = await KeyMaker(pepper=pepper, hash_cost=4).make()
        await session.run(
            "insert into millstream.api_keys (tenant_id, id, name, key_prefix, digest, hash)"
            " values ($1, $2, 'key', $3, $4, $5)",
            tenant_id,
            uuid4(),
            key.prefix,
            key.digest,
            key.hash,
        )
    return key.secret


async def revoke_all(engine: Engine, tenant_id: int) -> None:
    async with engine.context.database.session() as session:
        await session.run("update millstream.api_keys set is_active = false where tenant_id = $1", tenant_id)
    await engine.context.invalidations.tenant_changed(tenant_id)


async def test_a_revoked_key_is_refused_by_every_process_once_the_revocation_is_answered(
    fellows: Fellows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but an acknowledgement can end the wait.
    monkeypatch.setattr(relay, "ACKNOWLEDGED_SECONDS_MAX", 60)
    here, there = fellows.engines
    tenant_id = fellows.here.principal.tenant_id
    secret = await secret_of(here, tenant_id)
    other = await make_principal(here)
    other_secret = await secret_of(here, other.tenant_id)
    for engine in (here, there):
        for each in (secret, other_secret):
            await engine.credentials.authenticate(each)
            assert engine.credentials.cached(each) is not None
    async with asyncio.timeout(20):
        await revoke_all(here, tenant_id)
    for engine in (here, there):
        assert engine.credentials.cached(secret) is None
        with pytest.raises(AuthenticationFailed):
            await engine.credentials.authenticate(secret)
        await engine.credentials.authenticate(other_secret)


async def test_a_process_that_does_not_answer_holds_a_revocation_up_for_a_moment_only(
    fellows: Fellows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ACKNOWLEDGED_SECONDS_MAX", 0.05)
    here, there = fellows.engines
    async with here.context.database.session() as session:
        await session.run(
            "insert into millstream.processes (id, started_at, beat_at) values ($1, $2, $2)",
            uuid4(),
            fellows.here.clock.now(),
        )
    tenant_id = fellows.here.principal.tenant_id
    secret = await secret_of(here, tenant_id)
    await there.credentials.authenticate(secret)
    async with asyncio.timeout(20):
        await revoke_all(here, tenant_id)
    await until(lambda: there.credentials.cached(secret) is None)


async def test_a_change_while_the_line_is_down_is_told_when_it_is_back(
    fellows: Fellows, monkeypatch: pytest.MonkeyPatch, hint_line: HintLine
) -> None:
    monkeypatch.setattr(relay, "ACKNOWLEDGED_SECONDS_MAX", 60)
    here, _ = fellows.engines
    assert await hint_line.cut() == 2
    async with asyncio.timeout(20):
        await here.context.invalidations.tenant_changed(fellows.here.principal.tenant_id)


async def test_a_key_that_was_read_before_its_revocation_is_not_believed_after_it(work: Work) -> None:
    engine = work.engine
    secret = await secret_of(engine, work.principal.tenant_id)
    reading = asyncio.create_task(engine.credentials.authenticate(secret))
    # The look-up has begun, and is overtaken.
    for _ in range(3):
        await asyncio.sleep(0)
    assert engine.credentials._look_ups
    engine.context.invalidations.forget(work.principal.tenant_id)
    await reading
    assert engine.credentials.cached(secret) is None
    await engine.credentials.authenticate(secret)
    assert engine.credentials.cached(secret) is not None


# -------------------------------------------------------------------------------------------------------- the line


async def test_a_line_that_is_cut_is_opened_again(
    hint_line: HintLine, open_fellow: OpenEngine, clock: SteeredClock
) -> None:
    lines = [GatedLine(hint_line.open) for _ in range(2)]
    here, there = [await open_fellow(line.open) for line in lines]
    await join(here, there)
    principal = await make_principal(here)
    claim = claim_and_wait(Work(there, principal, clock))
    await is_waited_for(Work(here, principal, clock))
    assert await hint_line.cut() == 2
    for line, engine in zip(lines, (here, there), strict=True):
        await until(lambda line=line, engine=engine: line.opened == 2 and engine.relay.is_connected)
    job_id = await Work(here, principal, clock).enqueue()
    assert await claim == [job_id]


async def test_a_line_that_falls_silent_is_replaced(
    fellows: Fellows, hint_line: HintLine, open_fellow: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PING_SECONDS", 0.05)
    monkeypatch.setattr(relay, "SILENT_SECONDS", 0.2)
    deaf = GatedLine(hint_line.open, deaf=1)
    third = Work(await open_fellow(deaf.open), fellows.here.principal, fellows.here.clock)
    await join(third.engine, *fellows.engines)
    assert deaf.opened >= 2
    claim = claim_and_wait(third)
    await is_waited_for(fellows.here)
    job_id = await fellows.here.enqueue()
    assert await claim == [job_id]


async def test_an_idle_line_is_pinged(
    hint_line: HintLine, open_fellow: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PING_SECONDS", 0.02)
    lines = [GatedLine(hint_line.open) for _ in range(2)]
    engines = [await open_fellow(line.open) for line in lines]
    await join(*engines)
    for engine in engines:
        heard_at = engine.relay._heard_at
        # Nobody waits, listens or enqueues: what comes back is the ping.
        await until(lambda engine=engine, heard_at=heard_at: engine.relay._heard_at > heard_at)
    assert [line.opened for line in lines] == [1, 1]


@pytest.mark.parametrize("hint_line", ["postgres"], indirect=True)
async def test_a_strangers_words_are_ignored(fellows: Fellows) -> None:
    claim = claim_and_wait(fellows.there)
    await is_waited_for(fellows.here)
    async with fellows.here.engine.context.database.session() as session:
        for words in ("", "{", "[1]", f'["{uuid4()}",[["z"],["r",1]]]', "x" * 7_000):
            await session.run("select pg_notify($1, $2)", CHANNEL, words)
    job_id = await fellows.here.enqueue()
    assert await claim == [job_id]
