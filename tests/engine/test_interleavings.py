"""Two processes at one job, their order forced by a lock that a third session holds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest

from millstream.domain.errors import Conflict, LeaseExpired, MillstreamError
from millstream.domain.job import JobState, Lease
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine
from tests.engine.work import Work, lease_of


@pytest.fixture
def elsewhere(work: Work, second_engine: Engine) -> Work:
    """The same tenant in another process."""
    return Work(second_engine, work.principal, work.clock)


@pytest.fixture
async def holder(database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A third session in an open transaction."""
    connection: asyncpg.Connection = await asyncpg.connect(database_dsn)
    await connection.execute("begin")
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection: asyncpg.Connection = await asyncpg.connect(database_dsn)
    yield connection
    await connection.close()


async def hold(holder: asyncpg.Connection, job_id: UUID) -> None:
    await holder.execute("select from millstream.jobs where id = $1 for update", job_id)


async def both_wait(watcher: asyncpg.Connection, count: int = 2) -> None:
    async with asyncio.timeout(10):
        while not await watcher.fetchval(  # noqa: ASYNC110 - polled with a deadline
            "select count(*) >= $1 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'",
            count,
        ):
            await asyncio.sleep(0.001)


async def outcome(act: Awaitable[object]) -> type[MillstreamError] | None:
    try:
        await act
    except MillstreamError as error:
        return type(error)
    return None


Act = Callable[[Work, Lease], Awaitable[object]]


async def complete(work: Work, lease: Lease) -> object:
    return await work.complete(lease)


async def fail(work: Work, lease: Lease) -> object:
    return await work.fail(lease, retry_in_seconds=60)


async def renew(work: Work, lease: Lease) -> object:
    return await work.renew(lease)


async def test_of_two_completions_one_is_done_and_the_other_told_so(
    work: Work, elsewhere: Work, holder: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    lease = await work.run()
    await hold(holder, lease.job_id)
    both = [asyncio.create_task(outcome(complete(where, lease))) for where in (work, elsewhere)]
    await both_wait(watcher)
    await holder.execute("rollback")
    assert set(await asyncio.gather(*both)) == {None, Conflict}
    assert await work.state(lease.job_id) is JobState.COMPLETED
    async with work.engine.context.database.session() as session:
        rows = await session.many("select sum(amount) as done from millstream.counter_deltas where kind = 2")
    assert rows[0]["done"] == 1


async def test_of_many_completions_at_once_exactly_one_is_done(work: Work, elsewhere: Work) -> None:
    lease = await work.run()
    outcomes = await asyncio.gather(
        *(outcome(complete(where, lease)) for where in (work, elsewhere) for _ in range(10))
    )
    assert sorted(outcomes, key=str) == sorted([None, *[Conflict] * 19], key=str)


@pytest.mark.parametrize(
    ("first", "second"), [(complete, fail), (fail, complete), (complete, renew), (fail, renew)]
)
async def test_of_a_success_and_a_failure_the_one_that_comes_first_counts(
    work: Work,
    elsewhere: Work,
    holder: asyncpg.Connection,
    watcher: asyncpg.Connection,
    first: Act,
    second: Act,
) -> None:
    lease = await work.run()
    await hold(holder, lease.job_id)
    both = [
        asyncio.create_task(outcome(first(work, lease))),
        asyncio.create_task(outcome(second(elsewhere, lease))),
    ]
    await both_wait(watcher)
    await holder.execute("rollback")
    won, lost = await asyncio.gather(*both)
    state = await work.state(lease.job_id)
    if state is JobState.COMPLETED:
        done, other = (won, lost) if first is complete else (lost, won)
        refusal = Conflict
    else:
        assert state is JobState.RETRYING
        done, other = (won, lost) if first is fail else (lost, won)
        refusal = LeaseExpired
    assert done is None
    # A renewal may have come before the end of the attempt.
    assert other is refusal or (second is renew and other is None)


async def claim_on(connection: asyncpg.Connection, job_id: UUID) -> None:
    await connection.execute(
        "update millstream.jobs set state = 5, worker_id = 'other', lease_id = gen_random_uuid(),"
        " lease_expires_at = '2100-01-01', started_at = now() where id = $1",
        job_id,
    )


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_cancel_beside_a_claim_that_is_not_committed_waits_for_its_outcome(
    work: Work, holder: asyncpg.Connection, watcher: asyncpg.Connection, end: str
) -> None:
    job_id = await work.enqueue()
    await claim_on(holder, job_id)
    task = asyncio.create_task(outcome(work.engine.jobs.cancel(work.principal, job_id)))
    await both_wait(watcher, 1)
    await holder.execute(end)
    claimed = end == "commit"
    assert await task is (Conflict if claimed else None)
    assert await work.state(job_id) is (JobState.RUNNING if claimed else JobState.CANCELLED)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_claim_beside_a_cancel_that_is_not_committed_takes_the_next_job(
    work: Work, holder: asyncpg.Connection, end: str
) -> None:
    best = await work.enqueue(priority=5)
    second = await work.enqueue()
    await holder.execute("delete from millstream.jobs where id = $1", best)
    # It does not wait: the row is skipped.
    assert [job.id for job in await work.claim(limit=1)] == [second]
    await holder.execute(end)
    assert [job.id for job in await work.claim(limit=1)] == ([] if end == "commit" else [best])


async def test_a_claim_and_a_cancel_at_once_agree_on_what_happened(work: Work, elsewhere: Work) -> None:
    for _ in range(15):
        job_id = await work.enqueue()
        claimed, cancelled = await asyncio.gather(
            work.claim(), outcome(elsewhere.engine.jobs.cancel(work.principal, job_id))
        )
        if cancelled is None:
            assert claimed == []
            assert await work.state(job_id) is JobState.CANCELLED
        else:
            assert cancelled is Conflict
            assert [job.id for job in claimed] == [job_id]
            await work.complete(lease_of(claimed[0]))


async def test_claims_of_two_processes_never_share_a_job(work: Work, elsewhere: Work) -> None:
    ids = {await work.enqueue() for _ in range(60)}
    handed = await asyncio.gather(*(where.claim(limit=4) for where in (work, elsewhere) for _ in range(10)))
    jobs = [job.id for claimed in handed for job in claimed]
    assert len(jobs) == len(set(jobs))
    left = await work.claim(limit=100)
    assert {*jobs, *(job.id for job in left)} == ids


async def test_a_completion_and_the_end_of_its_lease_agree(
    work: Work, elsewhere: Work, holder: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    lease = await work.run(lease_seconds=30)
    await hold(holder, lease.job_id)
    completion = asyncio.create_task(outcome(complete(work, lease)))
    await both_wait(watcher, 1)
    work.clock.advance(31)
    # The row is held: the reaper passes over it and waits for nobody.
    assert await elsewhere.engine.settling.reap() == []
    await holder.execute("rollback")
    ended = await completion
    reaped = await elsewhere.engine.settling.reap()
    state = await work.state(lease.job_id)
    assert (ended, len(reaped), state) in [
        (None, 0, JobState.COMPLETED),
        (LeaseExpired, 1, JobState.READY),
    ]


async def test_a_dead_letter_is_retried_once_however_many_ask(work: Work, elsewhere: Work) -> None:
    job_id = await work.die()
    revived = await asyncio.gather(
        *(where.retry_dead(job_ids=(job_id,)) for where in (work, elsewhere) for _ in range(5))
    )
    assert sorted(revived) == [*[[]] * 9, [job_id]]
    assert len(await work.claim(limit=10)) == 1


async def test_upkeep_of_two_processes_at_once_counts_everything_once(work: Work, elsewhere: Work) -> None:
    await work.engine.workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    for _ in range(30):
        await work.complete(await work.run())
    await asyncio.gather(
        *(where.engine.upkeep.fold_counters() for where in (work, elsewhere) for _ in range(4))
    )
    async with work.engine.context.database.session() as session:
        rows = await session.many("select kind, subject, amount from millstream.counters order by kind")
        left = await session.many("select 1 from millstream.counter_deltas")
    assert [(row["kind"], row["subject"], row["amount"]) for row in rows] == [
        (1, "", 30),
        (2, "", 30),
        (4, "w", 30),
    ]
    assert left == []
