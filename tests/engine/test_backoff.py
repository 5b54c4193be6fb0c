"""When a failed job runs again. Contract: spooled-jobs 10.5, ruling R5 and the queue's own back-off."""

import pytest

from millstream.domain.job import JobState
from millstream.domain.queue import QueueChange
from millstream.domain.retry import Backoff, retry_delay_seconds
from tests.engine.work import Work, lease_of

COUNTS = [0, 1, 2, 3, 5, 6, 7, 10, 40, 99]
BACKOFFS = [
    None,
    Backoff(initial_seconds=0),
    Backoff(initial_seconds=1),
    Backoff(initial_seconds=1, factor=1.5),
    Backoff(initial_seconds=3, factor=1.0),
    Backoff(initial_seconds=7, factor=1.1, max_seconds=100),
    Backoff(initial_seconds=86_400, factor=100.0, max_seconds=86_400),
    Backoff(initial_seconds=5, factor=100.0, max_seconds=0),
    Backoff(initial_seconds=1, factor=2.5),
]


@pytest.mark.parametrize("backoff", BACKOFFS, ids=str)
async def test_the_statement_waits_as_long_as_the_domain_says(work: Work, backoff: Backoff | None) -> None:
    if backoff is not None:
        change = QueueChange(
            retry_initial_seconds=backoff.initial_seconds,
            retry_factor=backoff.factor,
            retry_max_seconds=backoff.max_seconds,
        )
        await work.engine.queues.configure(work.principal, "q", change)
    told: dict[int, int | None] = {}
    for count in COUNTS:
        job_id = await work.enqueue(max_retries=100)
        async with work.engine.context.database.session() as session:
            await session.run("update millstream.jobs set retry_count = $2 where id = $1", job_id, count)
        [claimed] = await work.claim()
        told[count] = (await work.fail(lease_of(claimed))).retry_in_seconds
        job = await work.job(job_id)
        assert job.retry_count == count + 1
        assert job.run_at == work.in_seconds(told[count] or 0)
        assert job.state is (JobState.RETRYING if told[count] else JobState.READY)
        await work.engine.jobs.cancel(work.principal, job_id)
    assert told == {count: retry_delay_seconds(count, backoff) for count in COUNTS}


async def test_a_back_off_without_factor_and_end_doubles_up_to_a_day(work: Work) -> None:
    await work.engine.queues.configure(work.principal, "q", QueueChange(retry_initial_seconds=10))
    expected = Backoff(initial_seconds=10)
    lease = await work.run()
    assert (await work.fail(lease)).retry_in_seconds == retry_delay_seconds(0, expected) == 10
    work.clock.advance(10)
    [again] = await work.claim()
    assert (await work.fail(lease_of(again))).retry_in_seconds == retry_delay_seconds(1, expected) == 20


@pytest.mark.parametrize("seconds", [0, 1, 86_400])
async def test_a_worker_may_choose_the_delay_itself(work: Work, seconds: int) -> None:
    await work.engine.queues.configure(work.principal, "q", QueueChange(retry_initial_seconds=500))
    lease = await work.run()
    assert (await work.fail(lease, retry_in_seconds=seconds)).retry_in_seconds == seconds
    work.clock.advance(seconds - 1)
    assert [job.id for job in await work.claim()] == ([] if seconds else [lease.job_id])
    if seconds:
        work.clock.advance(1)
        assert [job.id for job in await work.claim()] == [lease.job_id]


async def test_a_chosen_delay_gives_no_retry_that_is_not_left(work: Work) -> None:
    lease = await work.run(max_retries=0)
    assert (await work.fail(lease, retry_in_seconds=5)).retry_in_seconds is None
    assert await work.state(lease.job_id) is JobState.DEAD
