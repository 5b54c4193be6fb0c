"""Finished jobs past their plan's retention go, and the partitions that they leave empty. Contract: spooled-jobs 11."""

from datetime import timedelta
from uuid import UUID

import pytest

from millstream.domain import limits
from millstream.domain.clock import SteeredClock
from millstream.domain.errors import NotFound
from millstream.domain.job import JobEventKind, JobState
from millstream.domain.plan import PLANS
from millstream.engine.engine import Engine
from millstream.store.database import Database
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of


async def partitions_of_finished_jobs(database: Database) -> set[str]:
    async with database.session() as session:
        rows = await session.many(
            "select c.relname::text as name from pg_inherits as i join pg_class as c on c.oid = i.inhrelid"
            " where i.inhparent = 'millstream.jobs_done'::regclass"
        )
    return {row["name"] for row in rows}


async def test_a_past_week_is_dropped_when_retention_has_emptied_it(
    engine: Engine, work: Work, database: Database, clock: SteeredClock
) -> None:
    await engine.upkeep.add_partitions()
    week = f"jobs_done_{clock.now() - timedelta(days=clock.now().weekday()):%Y%m%d}"
    job_id = (await work.in_state(JobState.COMPLETED)).job_id
    async with database.session() as session:
        row = await session.one(
            "select tableoid::regclass::text as place from millstream.jobs_done where id = $1", job_id
        )
    assert row is not None
    assert row["place"].endswith(week)

    clock.advance(timedelta(days=30).total_seconds())
    assert await engine.upkeep.prune() == 0
    await engine.upkeep.drop_partitions()
    assert week in await partitions_of_finished_jobs(database)

    clock.advance(timedelta(days=61).total_seconds())
    assert await engine.upkeep.prune() == 1
    assert await engine.upkeep.drop_partitions() > 0
    assert week not in await partitions_of_finished_jobs(database)


async def test_the_present_week_stays_although_it_is_empty(
    engine: Engine, database: Database, clock: SteeredClock
) -> None:
    await engine.upkeep.add_partitions()
    before = await partitions_of_finished_jobs(database)
    await engine.upkeep.drop_partitions()
    assert {name for name in before if name >= f"jobs_done_{clock.now() - timedelta(days=7):%Y%m%d}"} <= (
        await partitions_of_finished_jobs(database)
    )


HOUR = 3_600
DAY = 24 * HOUR


async def of_plan(work: Work, tier: str, custom_limits: str | None = None) -> Work:
    """Return the work of a fresh tenant; its limits of its own are stored, where loops read them."""
    principal = await make_principal(work.engine, plan_tier=tier)
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set custom_limits = $2 where id = $1",
            principal.tenant_id,
            custom_limits,
        )
    return Work(work.engine, principal, work.clock)


async def is_kept(work: Work, job_id: UUID) -> bool:
    try:
        await work.job(job_id)
    except NotFound:
        return False
    return True


async def attempts(work: Work, job_id: UUID) -> int:
    return (await work.history(job_id)).count(JobEventKind.FAILED)


@pytest.mark.parametrize("tier", PLANS)
async def test_finished_jobs_stay_as_long_as_the_plan_keeps_them(work: Work, tier: str) -> None:
    mine = await of_plan(work, tier)
    ended = [(await mine.in_state(state)).job_id for state in (JobState.COMPLETED, JobState.CANCELLED)]
    alive = [(await mine.in_state(state)).job_id for state in (JobState.SCHEDULED, JobState.DEAD)]
    work.clock.advance(PLANS[tier].job_retention_days * DAY - HOUR)
    await work.engine.upkeep.prune()
    assert [await is_kept(mine, job_id) for job_id in ended + alive] == [True] * 4
    work.clock.advance(2 * HOUR)
    await work.engine.upkeep.prune()
    # What is not finished is nobody's to delete, dead letters included.
    assert [await is_kept(mine, job_id) for job_id in ended + alive] == [False, False, True, True]


@pytest.mark.parametrize("tier", PLANS)
async def test_history_stays_as_long_as_the_plan_keeps_it(work: Work, tier: str) -> None:
    mine = await of_plan(work, tier)
    job_id = (await mine.in_state(JobState.DEAD)).job_id
    work.clock.advance(PLANS[tier].history_retention_days * DAY - HOUR)
    await work.engine.upkeep.prune()
    assert await attempts(mine, job_id) == 1
    work.clock.advance(2 * HOUR)
    assert await work.engine.upkeep.prune() == 1
    assert await attempts(mine, job_id) == 0


async def test_a_tenants_own_retention_counts(work: Work) -> None:
    short = await of_plan(work, "enterprise", '{"job_retention_days": 1, "history_retention_days": 0}')
    long = await of_plan(work, "free", '{"job_retention_days": 30}')
    nonsense = await of_plan(work, "free", '{"job_retention_days": -1, "history_retention_days": "x"}')
    everybody = [short, long, nonsense]
    jobs = [(await mine.in_state(JobState.COMPLETED)).job_id for mine in everybody]
    dead = [(await mine.in_state(JobState.DEAD)).job_id for mine in everybody]
    work.clock.advance(DAY - HOUR)
    await work.engine.upkeep.prune()
    assert [await attempts(mine, job_id) for mine, job_id in zip(everybody, dead, strict=True)] == [0, 1, 1]
    work.clock.advance(2 * HOUR)
    await work.engine.upkeep.prune()
    assert [await is_kept(mine, job_id) for mine, job_id in zip(everybody, jobs, strict=True)] == [
        False, True, True,
    ]  # fmt: skip
    work.clock.advance(3 * DAY)
    await work.engine.upkeep.prune()
    assert [await is_kept(mine, job_id) for mine, job_id in zip(everybody, jobs, strict=True)] == [
        False, True, False,
    ]  # fmt: skip


async def test_a_plan_that_shrinks_shortens_retention_from_the_next_step_on(work: Work) -> None:
    mine = await of_plan(work, "enterprise")
    job_id = (await mine.in_state(JobState.COMPLETED)).job_id
    work.clock.advance(5 * DAY)
    assert await work.engine.upkeep.prune() == 0
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set plan_tier = 'free' where id = $1", mine.principal.tenant_id
        )
    assert await work.engine.upkeep.prune() == 1
    assert not await is_kept(mine, job_id)


async def test_the_longest_retention_there_is_keeps_everything(work: Work) -> None:
    mine = await of_plan(
        work, "free", '{"job_retention_days": 2147483647, "history_retention_days": 2147483647}'
    )
    job_id = (await mine.in_state(JobState.COMPLETED)).job_id
    work.clock.advance(10_000 * DAY)
    assert await work.engine.upkeep.prune() == 0
    assert await is_kept(mine, job_id)


async def test_a_job_found_by_its_key_after_it_was_cancelled_still_ages_from_then(work: Work) -> None:
    mine = await of_plan(work, "free")
    job_id = await mine.enqueue(idempotency_key="k")
    work.clock.advance(HOUR)
    cancelled_at = work.clock.now()
    await mine.engine.jobs.cancel(mine.principal, job_id)
    work.clock.advance(2 * DAY)
    assert await mine.enqueue(idempotency_key="k") == job_id
    job = await mine.job(job_id)
    assert (job.finished_at, job.completed_at, job.updated_at) == (cancelled_at, None, work.clock.now())
    page = await mine.engine.jobs.history(mine.principal, job_id, descending=True, limit=1, offset=0)
    assert [(event.kind, event.at) for event in page.events] == [(JobEventKind.CANCELLED, cancelled_at)]
    work.clock.advance(2 * DAY)
    await mine.engine.upkeep.prune()
    assert not await is_kept(mine, job_id)
    # Its key is free again.
    assert await mine.enqueue(idempotency_key="k") != job_id


async def test_one_step_deletes_no_more_than_a_batch(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PRUNED_ROWS_MAX", 3)
    mine, other = await of_plan(work, "pro"), await of_plan(work, "pro")
    for _ in range(4):
        await mine.in_state(JobState.COMPLETED)
        await other.in_state(JobState.CANCELLED)
    work.clock.advance(31 * DAY)
    assert [await work.engine.upkeep.prune() for _ in range(4)] == [3, 3, 2, 0]


async def test_the_history_of_a_deleted_job_goes_with_it(work: Work) -> None:
    mine = await of_plan(work, "free", '{"history_retention_days": 30}')
    lease = await mine.run(max_retries=1)
    await mine.fail(lease, retry_in_seconds=0)
    [claimed] = await mine.claim()
    await mine.complete(lease_of(claimed))
    work.clock.advance(4 * DAY)
    assert await work.engine.upkeep.prune() == 1
    async with work.engine.context.database.session() as session:
        assert await session.many("select from millstream.job_events") == []
