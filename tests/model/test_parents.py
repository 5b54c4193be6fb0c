"""What random steps rarely build: a chain of jobs that wait for each other. Contract: spooled-jobs 10.7."""

from uuid import UUID

import pytest

from millstream.domain.job import ClaimRequest, DeadSelection, Failure, JobState, Lease, NewJob
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine

QUEUE = "q"


async def _fail_next(engine: Engine, principal: Principal) -> UUID:
    [claimed] = await engine.jobs.claim(principal, ClaimRequest(queue=QUEUE, worker_id="w"))
    lease = Lease(job_id=claimed.id, worker_id="w", lease_id=claimed.lease_id)
    await engine.jobs.fail(principal, Failure(lease=lease, error="no luck"))
    return claimed.id


async def _bury_new(engine: Engine, principal: Principal, parent: UUID | None) -> UUID:
    new = NewJob(queue=QUEUE, payload="{}", max_retries=0, parent_job_id=parent)
    enqueued = await engine.jobs.enqueue(principal, new)
    assert await _fail_next(engine, principal) == enqueued.id
    return enqueued.id


async def _retry_dead(engine: Engine, principal: Principal, job_id: UUID) -> None:
    await engine.jobs.retry_dead(principal, DeadSelection(job_ids=(job_id,), limit=1))


@pytest.mark.parametrize(("end", "state"), [("cancel", JobState.CANCELLED), ("fail", JobState.DEAD)])
async def test_what_waits_for_a_job_that_can_never_start_is_cancelled_too(
    engine: Engine, principal: Principal, end: str, state: JobState
) -> None:
    first = await _bury_new(engine, principal, None)
    second = await _bury_new(engine, principal, first)
    third = (await engine.jobs.enqueue(principal, NewJob(queue=QUEUE, payload="{}", parent_job_id=second))).id
    await _retry_dead(engine, principal, second)
    await _retry_dead(engine, principal, first)
    chain = [first, second, third]
    waiting = await engine.jobs.statuses(principal, chain)
    assert [job.state for job in waiting] == [JobState.READY, JobState.BLOCKED, JobState.BLOCKED]

    if end == "cancel":
        await engine.jobs.cancel(principal, first)
    else:
        assert await _fail_next(engine, principal) == first

    ended = await engine.jobs.statuses(principal, chain)
    assert [job.state for job in ended] == [state, JobState.CANCELLED, JobState.CANCELLED]
    for job_id in (second, third):
        assert "parent" in ((await engine.jobs.get(principal, job_id)).last_error or "")
