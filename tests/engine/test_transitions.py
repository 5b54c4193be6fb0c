"""Every transition of a job, legal and illegal. Contract: spooled-jobs 3.15, 10.1."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from millstream.domain.errors import Conflict, LeaseExpired, MillstreamError, NotFound
from millstream.domain.job import JobState, Lease
from tests.conftest import make_principal
from tests.engine.work import Work, without_id

S = JobState
STATES = list(JobState)
FINISHED = {S.DEAD, S.COMPLETED, S.CANCELLED}


async def claim(work: Work, lease: Lease) -> None:
    await work.claim()


async def claim_later(work: Work, lease: Lease) -> None:
    work.clock.advance(601)
    await work.claim()


async def complete(work: Work, lease: Lease) -> None:
    await work.complete(lease)


async def complete_without_lease(work: Work, lease: Lease) -> None:
    await work.complete(without_id(lease))


async def fail(work: Work, lease: Lease) -> None:
    await work.fail(lease)


async def fail_without_lease(work: Work, lease: Lease) -> None:
    await work.fail(without_id(lease))


async def fail_at_once(work: Work, lease: Lease) -> None:
    await work.fail(lease, retry_in_seconds=0)


async def renew(work: Work, lease: Lease) -> None:
    await work.renew(lease)


async def cancel(work: Work, lease: Lease) -> None:
    await work.engine.jobs.cancel(work.principal, lease.job_id)


async def retry(work: Work, lease: Lease) -> None:
    await work.engine.jobs.retry(work.principal, lease.job_id)


async def retry_dead(work: Work, lease: Lease) -> None:
    await work.retry_dead(job_ids=(lease.job_id,))


async def set_priority(work: Work, lease: Lease) -> None:
    await work.engine.jobs.set_priority(work.principal, lease.job_id, 9)


async def promote(work: Work, lease: Lease) -> None:
    await work.engine.claiming.promote()


async def promote_later(work: Work, lease: Lease) -> None:
    work.clock.advance(600)
    await work.engine.claiming.promote()


async def reap(work: Work, lease: Lease) -> None:
    await work.engine.settling.reap()


async def reap_later(work: Work, lease: Lease) -> None:
    work.clock.advance(3_601)
    await work.engine.settling.reap()


Trigger = Callable[[Work, Lease], Awaitable[None]]
Outcome = JobState | type[MillstreamError]
NOT_RUNNING: dict[JobState, Outcome] = {
    **dict.fromkeys([S.READY, S.SCHEDULED, S.RETRYING, S.BLOCKED], LeaseExpired),
    **dict.fromkeys(FINISHED, Conflict),
}
NOT_RUNNING_WITHOUT_LEASE: dict[JobState, Outcome] = dict.fromkeys(STATES, Conflict)
# What each trigger makes of a job in each state; a state that is not named stays as it is.
TABLE: list[tuple[Trigger, dict[JobState, Outcome]]] = [
    (claim, {S.READY: S.RUNNING}),
    (claim_later, {S.READY: S.RUNNING, S.SCHEDULED: S.RUNNING, S.RETRYING: S.RUNNING}),
    (complete, {**NOT_RUNNING, S.RUNNING: S.COMPLETED}),
    (complete_without_lease, {**NOT_RUNNING_WITHOUT_LEASE, S.RUNNING: S.COMPLETED}),
    (fail, {**NOT_RUNNING, S.RUNNING: S.RETRYING}),
    (fail_without_lease, {**NOT_RUNNING_WITHOUT_LEASE, S.RUNNING: S.RETRYING}),
    (fail_at_once, {**NOT_RUNNING, S.RUNNING: S.READY}),
    (renew, {**NOT_RUNNING, S.RUNNING: S.RUNNING}),
    (
        cancel,
        {
            **dict.fromkeys([S.READY, S.SCHEDULED, S.RETRYING, S.BLOCKED], S.CANCELLED),
            S.RUNNING: Conflict,
            **dict.fromkeys(FINISHED, Conflict),
        },
    ),
    (retry, {**dict.fromkeys(STATES, Conflict), S.DEAD: S.READY}),
    (retry_dead, {S.DEAD: S.READY}),
    (set_priority, {S.RUNNING: NotFound, **dict.fromkeys(FINISHED, NotFound)}),
    (promote, {}),
    (promote_later, {S.SCHEDULED: S.READY, S.RETRYING: S.READY}),
    (reap, {}),
    (reap_later, {S.RUNNING: S.READY}),
]


@pytest.mark.parametrize(("trigger", "outcomes"), TABLE, ids=[trigger.__name__ for trigger, _ in TABLE])
async def test_each_state_answers_as_the_contract_says(
    work: Work, trigger: Trigger, outcomes: dict[JobState, Outcome]
) -> None:
    for state in STATES:
        # Nothing of the state before may be claimable, due or parent to this one.
        lease = await work.in_state(state)
        before = await work.job(lease.job_id)
        assert before.state is state
        outcome = outcomes.get(state, state)
        if isinstance(outcome, JobState):
            await trigger(work, lease)
            assert (await work.job(lease.job_id)).state is outcome, state.name
        else:
            with pytest.raises(outcome) as refused:
                await trigger(work, lease)
            assert type(refused.value) is outcome, state.name
            assert await work.job(lease.job_id) == before, state.name
        await clear(work)


async def clear(work: Work) -> None:
    async with work.engine.context.database.session() as session:
        for table in ("jobs", "jobs_dead", "jobs_done", "job_events"):
            await session.run(f"delete from millstream.{table}")


UNKNOWN = [complete, complete_without_lease, fail, fail_without_lease, renew, cancel, set_priority]


@pytest.mark.parametrize("trigger", UNKNOWN)
async def test_an_unknown_job_is_not_found(work: Work, trigger: Trigger) -> None:
    with pytest.raises(NotFound):
        await trigger(work, Lease(job_id=uuid4(), worker_id="w", lease_id=uuid4()))


async def test_retrying_an_unknown_job_is_a_conflict(work: Work) -> None:
    with pytest.raises(Conflict):
        await work.engine.jobs.retry(work.principal, uuid4())


async def test_a_completed_job_keeps_who_did_it_under_which_lease(work: Work) -> None:
    lease = await work.run()
    work.clock.advance(5)
    await work.complete(lease, '{"sum":3}')
    job = await work.job(lease.job_id)
    assert (job.worker_id, job.lease_id, job.result) == ("w", lease.lease_id, '{"sum":3}')
    assert job.completed_at == job.updated_at == work.clock.now()
    assert job.retry_count == 0


async def test_a_failed_attempt_leaves_nothing_of_its_lease(work: Work) -> None:
    lease = await work.run(max_retries=2)
    failed = await work.fail(lease, "first")
    assert failed.retry_in_seconds == 1
    job = await work.job(lease.job_id)
    assert (job.state, job.retry_count, job.last_error) == (S.RETRYING, 1, "first")
    assert job.run_at == work.in_seconds(1)
    assert (job.worker_id, job.lease_id, job.lease_expires_at) == (None, None, None)


async def test_a_job_has_one_attempt_more_than_retries(work: Work) -> None:
    job_id = await work.enqueue(max_retries=2)
    waits: list[int | None] = []
    for _ in range(3):
        work.clock.advance(60)
        [claimed] = await work.claim()
        failed = await work.fail(Lease(job_id=job_id, worker_id="w", lease_id=claimed.lease_id))
        waits.append(failed.retry_in_seconds)
    assert waits == [1, 2, None]
    job = await work.job(job_id)
    # The count of the last retry stays: a dead letter is not a retry.
    assert (job.state, job.retry_count, job.last_error) == (S.DEAD, 2, "boom")
    assert (job.worker_id, job.lease_id, job.lease_expires_at) == (None, None, None)
    work.clock.advance(10_000)
    assert await work.claim() == []


async def test_a_lease_moves_earlier_and_later(work: Work) -> None:
    lease = await work.run(lease_seconds=100)
    assert await work.renew(lease, 5) == work.in_seconds(5)
    assert (await work.job(lease.job_id)).lease_expires_at == work.in_seconds(5)
    assert await work.renew(lease, 3_600) == work.in_seconds(3_600)
    assert (await work.job(lease.job_id)).lease_id == lease.lease_id
    assert len(await work.history(lease.job_id)) == 2


@pytest.mark.parametrize("trigger", [complete, fail, renew])
async def test_a_lease_that_ran_out_is_refused_even_before_it_is_reaped(work: Work, trigger: Trigger) -> None:
    lease = await work.run(lease_seconds=30)
    work.clock.advance(30)
    with pytest.raises(LeaseExpired):
        await trigger(work, lease)
    assert await work.state(lease.job_id) is S.RUNNING
    # Without a lease id the worker id is the fence, for as long as it is still the one.
    await trigger(work, without_id(lease))


@pytest.mark.parametrize("trigger", [complete, fail, renew])
async def test_a_late_worker_cannot_touch_a_job_that_was_taken_over(work: Work, trigger: Trigger) -> None:
    late = await work.run(worker="late", lease_seconds=30)
    work.clock.advance(31)
    await work.engine.settling.reap()
    [claimed] = await work.claim(worker="w")
    assert claimed.id == late.job_id
    with pytest.raises(LeaseExpired):
        await trigger(work, late)
    with pytest.raises(Conflict):
        await trigger(work, without_id(late))
    job = await work.job(late.job_id)
    assert (job.state, job.worker_id, job.lease_id) == (S.RUNNING, "w", claimed.lease_id)


@pytest.mark.parametrize("trigger", [complete, fail, renew])
async def test_another_worker_cannot_use_a_lease_that_it_learnt_of(work: Work, trigger: Trigger) -> None:
    lease = await work.run(worker="w")
    with pytest.raises(Conflict):
        await trigger(work, Lease(job_id=lease.job_id, worker_id="x", lease_id=lease.lease_id))
    assert await work.state(lease.job_id) is S.RUNNING


async def test_another_tenants_job_is_unknown(work: Work) -> None:
    lease = await work.run()
    stranger = Work(work.engine, await make_principal(work.engine), work.clock)
    for trigger in UNKNOWN:
        with pytest.raises(NotFound):
            await trigger(stranger, lease)
    with pytest.raises(NotFound):
        await stranger.job(lease.job_id)
    assert await stranger.claim() == []
    assert await work.state(lease.job_id) is S.RUNNING
