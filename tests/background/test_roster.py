"""What each loop's step does to a real database. Contract: spooled-jobs 11."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import asyncpg
import pytest

from millstream.background import loop as loops
from millstream.background.loop import Loop, Step
from millstream.background.roster import loops_of
from millstream.domain import limits
from millstream.domain.errors import NotFound
from millstream.domain.job import ClaimRequest, JobEventKind, JobState, NewJob
from millstream.domain.plan import PLANS
from millstream.domain.worker import NewWorker, WorkerStatus
from millstream.observe.signals import RecordedSignals
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of

DAY = 86_400


@pytest.fixture
def step(work: Work) -> Callable[[str], "asyncio.Future[Step]"]:
    """Take one step of the loop of that name."""
    roster = {loop.name: loop for loop in loops_of(work.engine)}

    def take(name: str) -> "asyncio.Future[Step]":
        return asyncio.ensure_future(roster[name].step())

    return take


Take = Callable[[str], "asyncio.Future[Step]"]


def loop_named(work: Work, name: str) -> Loop:
    return next(loop for loop in loops_of(work.engine) if loop.name == name)


async def test_every_step_of_the_roster_runs_on_an_empty_database(work: Work) -> None:
    for loop in loops_of(work.engine):
        step = await loop.step()
        if loop.name not in {"partitioner", "partition_dropper"}:
            assert step.done == 0, loop.name
        assert step.next_seconds is None, loop.name


def test_the_loops_run_as_often_as_the_contract_wants(work: Work) -> None:
    longest = {
        "promoter": 5,
        "lease_reaper": 10,
        "expirer": 30,
        "worker_retirer": 30,
        "pruner": 300,
        "gauge_refresher": 15,
    }
    intervals = {loop.name: loop.interval_seconds for loop in loops_of(work.engine)}
    for name, seconds in longest.items():
        assert intervals[name] <= seconds, name


async def test_the_reaper_gives_back_what_ran_out(work: Work, step: Take) -> None:
    lease = await work.run(lease_seconds=30)
    work.clock.advance(31)
    assert (await step("lease_reaper")).done == 1
    assert await work.state(lease.job_id) is JobState.READY
    assert (await step("lease_reaper")).done == 0


async def test_a_full_step_is_followed_by_the_next_at_once(
    work: Work, step: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REAPED_ROWS_MAX", 2)
    for _ in range(3):
        await work.run(lease_seconds=30)
    work.clock.advance(31)
    assert await step("lease_reaper") == Step(2, 0.0)
    assert await step("lease_reaper") == Step(1, None)


async def test_the_promoter_makes_due_jobs_ready_and_tells_when_the_next_is_due(
    work: Work, step: Take
) -> None:
    first = await work.enqueue(run_at=work.in_seconds(2))
    await work.enqueue(run_at=work.in_seconds(5))
    assert await step("promoter") == Step(0, 2.0)
    work.clock.advance(2)
    assert await step("promoter") == Step(1, 3.0)
    assert await work.state(first) is JobState.READY


async def test_a_delayed_job_shortens_the_promoters_pause(work: Work) -> None:
    loop = loop_named(work, "promoter")
    assert loop.hint is not None
    assert not loop.hint.is_set()
    await work.enqueue()
    assert not loop.hint.is_set()
    await work.enqueue(run_at=work.in_seconds(2))
    assert loop.hint.is_set()
    loop.hint.clear()
    lease = await work.run("other")
    await work.fail(lease)
    assert loop.hint.is_set()


async def test_a_due_job_that_is_locked_does_not_keep_the_promoter_spinning(
    work: Work, step: Take, database_dsn: str
) -> None:
    job_id = await work.enqueue(run_at=work.in_seconds(2))
    work.clock.advance(10)
    connection = await asyncpg.connect(database_dsn)
    try:
        await connection.execute("begin")
        await connection.execute("select from millstream.jobs where id = $1 for update", job_id)
        found = await step("promoter")
        assert found.done == 0
        assert found.next_seconds is not None
        assert found.next_seconds >= 0.05
    finally:
        await connection.close()
    assert (await step("promoter")).done == 1


async def test_a_claim_that_waits_is_woken_by_the_waker(work: Work, step: Take) -> None:
    request = ClaimRequest(queue="q", worker_id="w")
    claim = asyncio.create_task(work.engine.jobs.claim(work.principal, request, wait_seconds=20))
    async with asyncio.timeout(10):
        while not work.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0)
    assert (await step("waker")).done == 1
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    assert (await step("waker")).done == 0


async def test_the_expirer_cancels_what_nobody_may_claim_any_more(work: Work, step: Take) -> None:
    job_id = await work.enqueue(expires_at=work.in_seconds(60))
    assert (await step("expirer")).done == 0
    work.clock.advance(60)
    assert (await step("expirer")).done == 1
    assert await work.state(job_id) is JobState.CANCELLED
    assert (await work.history(job_id))[-1] is JobEventKind.CANCELLED


async def test_the_retirer_marks_silent_workers_offline(work: Work, step: Take) -> None:
    workers = work.engine.workers
    await workers.register(work.principal, NewWorker(id="silent", queue="q", hostname="h"))
    work.clock.advance(100)
    await workers.register(work.principal, NewWorker(id="drains", queue="q", hostname="h"))
    await workers.heartbeat(
        work.principal, "drains", status=WorkerStatus.DRAINING, current_jobs=1, metadata=None
    )
    work.clock.advance(21)
    lease = await work.run(worker="silent", lease_seconds=600)
    assert (await step("worker_retirer")).done == 1
    assert (await workers.get(work.principal, "silent")).status is WorkerStatus.OFFLINE
    assert (await workers.get(work.principal, "drains")).status is WorkerStatus.DRAINING
    # Its live lease is left alone, and a heartbeat brings it back.
    assert await work.state(lease.job_id) is JobState.RUNNING
    await workers.heartbeat(
        work.principal, "silent", status=WorkerStatus.HEALTHY, current_jobs=0, metadata=None
    )
    assert (await workers.get(work.principal, "silent")).status is WorkerStatus.HEALTHY
    assert (await step("worker_retirer")).done == 0


async def test_the_folder_changes_no_total(work: Work, step: Take) -> None:
    workers = work.engine.workers
    await workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    for _ in range(3):
        await work.complete(await work.run())
    await work.fail(await work.run())
    for _ in range(2):
        worker = await workers.get(work.principal, "w")
        assert (worker.jobs_processed, worker.jobs_failed) == (3, 1)
        await step("counter_folder")
    assert (await step("counter_folder")).done == 0
    await work.complete(await work.run())
    assert (await workers.get(work.principal, "w")).jobs_processed == 4


@pytest.mark.parametrize("tier", sorted(PLANS))
async def test_the_pruner_keeps_what_the_plan_promises(work: Work, step: Take, tier: str) -> None:
    tenant = Work(work.engine, await make_principal(work.engine, plan_tier=tier), work.clock)
    plan = PLANS[tier]
    completed = await tenant.run(idempotency_key="completed")
    await tenant.fail(completed, retry_in_seconds=0)
    [again] = await tenant.claim()
    await tenant.complete(lease_of(again))
    cancelled = await tenant.enqueue()
    await tenant.engine.jobs.cancel(tenant.principal, cancelled)
    dead = await tenant.die(idempotency_key="dead")
    alive = await tenant.enqueue()
    kept = [completed.job_id, cancelled, dead, alive]

    work.clock.advance(plan.job_retention_days * DAY)
    await step("pruner")
    for job_id in kept:
        await tenant.job(job_id)
    work.clock.advance(1)
    assert (await step("pruner")).done >= 2
    for job_id in (completed.job_id, cancelled):
        with pytest.raises(NotFound):
            await tenant.job(job_id)
    # Dead letters stay until they are purged, whatever lives stays.
    assert await tenant.state(dead) is JobState.DEAD
    assert await tenant.state(alive) is JobState.READY
    assert await creates(tenant, "completed")
    assert not await creates(tenant, "dead")


async def creates(work: Work, key: str) -> bool:
    job = NewJob(queue="q", payload="{}", idempotency_key=key)
    return (await work.engine.jobs.enqueue(work.principal, job)).created


async def test_the_pruner_forgets_history_before_the_job(work: Work, step: Take) -> None:
    tenant = Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)
    lease = await tenant.run()
    await tenant.fail(lease)
    work.clock.advance(timedelta(days=PLANS["free"].history_retention_days).total_seconds())
    await step("pruner")
    assert JobEventKind.FAILED in await tenant.history(lease.job_id)
    work.clock.advance(1)
    assert (await step("pruner")).done == 1
    assert JobEventKind.FAILED not in await tenant.history(lease.job_id)


async def test_the_partitioner_makes_room_for_the_weeks_to_come(work: Work, step: Take) -> None:
    work.clock.advance(3_650 * DAY)
    assert (await step("partitioner")).done == 4
    assert (await step("partitioner")).done == 0
    work.clock.advance(7 * DAY)
    assert (await step("partitioner")).done == 1


async def test_a_week_that_began_without_a_partition_does_not_hold_up_the_next_ones(
    work: Work, step: Take
) -> None:
    # Jobs that finish in a week without a partition lie in the one for the rest.
    async with work.engine.context.database.session() as session:
        await session.run(
            "insert into millstream.jobs_done (tenant_id, id, queue, state, priority, retry_count, max_retries,"
            " timeout_seconds, created_at, updated_at, finished_at, unmet, dependency_mode, job_type, payload)"
            " values ($1, millstream.first_id_at($2), 'q', 7, 0, 0, 3, 300, $2, $2, $2, 0, 1, '', '{}')",
            work.principal.tenant_id,
            work.in_seconds(365 * DAY),
        )
    work.clock.advance(365 * DAY)
    assert (await step("partitioner")).done == 3
    assert (await step("partitioner")).done == 0


async def test_the_vacuum_watcher_vacuums_only_what_is_left_behind(work: Work, step: Take) -> None:
    assert (await step("vacuum_watcher")).done == 0


async def test_the_gauges_tell_what_waits_and_runs(work: Work) -> None:
    await work.enqueue()
    work.clock.advance(30)
    await work.enqueue("other", run_at=work.in_seconds(60))
    await work.run("third", lease_seconds=600)
    await work.engine.workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    gauges = await work.engine.upkeep.gauges()
    assert (gauges.jobs.pending, gauges.jobs.processing, gauges.jobs.oldest_seconds) == (2, 1, 30.0)
    assert (gauges.workers.active, gauges.workers.healthy) == (1, 1)
    work.clock.advance(121)
    assert (await work.engine.upkeep.gauges()).workers.active == 0


async def test_the_whole_roster_runs_side_by_side(work: Work) -> None:
    signals = RecordedSignals()
    roster = loops_of(work.engine)
    tasks = [asyncio.create_task(loops.run(loop, leads=lambda: True, signals=signals)) for loop in roster]
    for loop in roster:
        await signals.wait(f"{loop.name}.ran")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
