"""One key, one job. Contract: spooled-jobs 10.2, ruling R24."""

import asyncio
from typing import Any

import asyncpg
import pytest

from millstream.domain.errors import MillstreamError, RowLocked
from millstream.domain.job import Enqueued, JobState, NewJob
from millstream.engine import batcher as batchers
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of


def keyed(key: str, **options: Any) -> NewJob:
    return NewJob(queue=options.pop("queue", "q"), payload="{}", idempotency_key=key, **options)


async def enqueue(work: Work, job: NewJob) -> Enqueued:
    return await work.engine.jobs.enqueue(work.principal, job)


async def count(work: Work) -> int:
    return sum((await work.engine.jobs.counts(work.principal)).values())


async def test_a_second_create_finds_the_first_and_changes_nothing_but_updated_at(work: Work) -> None:
    first = await enqueue(work, keyed("k", priority=3))
    work.clock.advance(10)
    second = await enqueue(work, keyed("k", queue="other", priority=9))
    assert (first.created, second.created) == (True, False)
    assert second.id == first.id
    job = await work.job(first.id)
    assert (job.queue, job.priority) == ("q", 3)
    assert job.updated_at == work.clock.now()
    assert job.created_at == work.in_seconds(-10)
    assert await count(work) == 1


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.DEAD, JobState.COMPLETED, JobState.CANCELLED])
async def test_a_key_is_held_whatever_became_of_its_job(work: Work, state: JobState) -> None:
    first = await enqueue(work, keyed("k", max_retries=0))
    if state is JobState.CANCELLED:
        await work.engine.jobs.cancel(work.principal, first.id)
    else:
        [claimed] = await work.claim()
        if state is JobState.COMPLETED:
            await work.complete(lease_of(claimed))
        elif state is JobState.DEAD:
            await work.fail(lease_of(claimed))
    assert await work.state(first.id) is state
    work.clock.advance(10)
    again = await enqueue(work, keyed("k"))
    assert (again.id, again.created) == (first.id, False)
    job = await work.job(first.id)
    assert job.state is state
    assert job.updated_at == work.clock.now()


async def test_equal_keys_of_one_batch_create_one_job(work: Work) -> None:
    answers = await work.engine.jobs.enqueue_many(
        work.principal, [keyed("a"), keyed("b"), keyed("a"), keyed("c"), keyed("a")]
    )
    enqueued = [answer for answer in answers if isinstance(answer, Enqueued)]
    assert [answer.created for answer in enqueued] == [True, True, False, True, False]
    assert enqueued[0].id == enqueued[2].id == enqueued[4].id
    assert await count(work) == 3


async def test_of_many_creates_at_once_one_creates(work: Work) -> None:
    answers = await asyncio.gather(*(enqueue(work, keyed("k")) for _ in range(40)))
    assert sum(answer.created for answer in answers) == 1
    assert len({answer.id for answer in answers}) == 1
    assert await count(work) == 1


async def test_of_many_creates_in_two_processes_one_creates(work: Work, second_engine: Engine) -> None:
    elsewhere = Work(second_engine, work.principal, work.clock)
    for key in ("a", "b", "c", "d"):
        answers = await asyncio.gather(
            *(enqueue(where, keyed(key)) for where in (work, elsewhere) for _ in range(10))
        )
        assert sum(answer.created for answer in answers) == 1
        assert len({answer.id for answer in answers}) == 1
    assert await count(work) == 4


async def test_tenants_do_not_share_keys(work: Work) -> None:
    other = Work(work.engine, await make_principal(work.engine), work.clock)
    first, second = await asyncio.gather(enqueue(work, keyed("k")), enqueue(other, keyed("k")))
    assert first.created
    assert second.created
    assert first.id != second.id


async def test_purging_a_dead_letter_frees_its_key(work: Work) -> None:
    first = await enqueue(work, keyed("k", max_retries=0))
    [claimed] = await work.claim()
    await work.fail(lease_of(claimed))
    assert await work.purge_dead() == 1
    again = await enqueue(work, keyed("k"))
    assert again.created
    assert again.id != first.id


# Forced interleavings with an open transaction that holds the key


async def test_a_create_beside_an_open_transaction_that_makes_its_key_waits_for_its_outcome(
    work: Work, database_dsn: str
) -> None:
    await enqueue(work, keyed("warm"))
    for outcome in ("commit", "rollback"):
        connection = await asyncpg.connect(database_dsn)
        try:
            await connection.execute("begin")
            theirs = await connection.fetchval(
                "insert into millstream.idempotency_keys values ($1, $2, gen_random_uuid()) returning job_id",
                work.principal.tenant_id,
                outcome,
            )
            create = asyncio.create_task(enqueue(work, keyed(outcome)))
            # Neighbours are answered meanwhile.
            neighbours = await asyncio.gather(*(enqueue(work, keyed(f"{outcome}{n}")) for n in range(20)))
            assert all(neighbour.created for neighbour in neighbours)
            assert not create.done()
            await connection.execute(outcome)
            created = await create
            assert created.created == (outcome == "rollback")
            assert (created.id == theirs) == (outcome == "commit")
        finally:
            await connection.close()


async def test_a_create_whose_key_stays_locked_is_refused_and_creates_nothing(
    work: Work, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batchers, "LOCKED_ROW_SECONDS_MAX", 0.3)
    connection = await asyncpg.connect(database_dsn)
    try:
        await connection.execute("begin")
        await connection.execute(
            "insert into millstream.idempotency_keys values ($1, 'k', gen_random_uuid())",
            work.principal.tenant_id,
        )
        with pytest.raises(RowLocked):
            await enqueue(work, keyed("k"))
        await connection.execute("rollback")
    finally:
        await connection.close()
    assert await count(work) == 0
    assert (await enqueue(work, keyed("k"))).created


async def test_a_hit_on_a_job_that_is_locked_harms_no_neighbour(work: Work, database_dsn: str) -> None:
    first = await enqueue(work, keyed("k"))
    connection = await asyncpg.connect(database_dsn)
    try:
        await connection.execute("begin")
        await connection.execute("select from millstream.jobs where id = $1 for update", first.id)
        answers = await work.engine.jobs.enqueue_many(
            work.principal, [NewJob(queue="q", payload="{}"), keyed("k")]
        )
        assert not any(isinstance(answer, MillstreamError) for answer in answers)
        new, hit = (answer for answer in answers if isinstance(answer, Enqueued))
        assert new.created
        assert (hit.id, hit.created) == (first.id, False)
        await connection.execute("rollback")
    finally:
        await connection.close()
    assert await count(work) == 2
