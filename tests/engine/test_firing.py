"""How schedules become jobs by the clock: once, and whatever becomes of others. Contract: spooled-jobs 6.4."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from msgspec.structs import replace

from millstream.background.loop import Step
from millstream.background.roster import HELD_JOB_SECONDS, loops_of
from millstream.domain import limits
from millstream.domain.job import JobState
from millstream.domain.plan import PLANS
from millstream.domain.schedule import RunStatus
from millstream.domain.tenant import TenantChange
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.fellows import claim_and_wait, until
from tests.engine.hooks import subscribe, told
from tests.engine.planned import fire, outcomes, plan, read, runs
from tests.engine.work import Work, lease_of

HOUR = 3600
COMPLETED = (RunStatus.COMPLETED, None)


@pytest.fixture
async def free(work: Work) -> Work:
    return Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)


async def execute(dsn: str, *statements: str) -> None:
    """Run statements as the owner of the tables."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("set role millstream_owner")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_due_schedule_makes_one_job_and_moves_on(work: Work) -> None:
    webhook = await subscribe(work, "https://example.com/")
    schedule = await plan(work, payload='{"n": 1}', priority=3, tags='["t"]')
    assert (await fire(work)).taken == 0
    work.clock.advance(HOUR)
    assert (await fire(work)).taken == 1
    assert (await fire(work)).taken == 0
    [job] = await work.claim()
    assert (job.payload, job.priority, job.created_at) == ('{"n": 1}', 3, work.clock.now())
    assert (await work.job(job.id)).tags == '["t"]'
    [run] = await runs(work, schedule)
    assert (run.status, run.job_id, run.started_at) == (RunStatus.COMPLETED, job.id, work.clock.now())
    after = await read(work, schedule)
    assert (after.run_count, after.last_run_at) == (1, work.clock.now())
    assert after.next_run_at == work.clock.now() + timedelta(hours=1)
    assert after.updated_at == schedule.updated_at
    assert sorted(await told(work, webhook)) == ["job.created", "job.started", "schedule.triggered"]


async def test_what_was_missed_makes_one_job(work: Work) -> None:
    schedule = await plan(work, "*/10 * * * * *")
    work.clock.advance(10 * HOUR + 3)
    assert (await fire(work)).taken == 1
    assert (await fire(work)).taken == 0
    after = await read(work, schedule)
    assert after.run_count == 1
    assert after.next_run_at == work.clock.now() + timedelta(seconds=7)


async def test_two_processes_fire_each_of_many_schedules_once(
    work: Work, second_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRED_SCHEDULES_MAX", 20)
    elsewhere = Work(second_engine, work.principal, work.clock)
    others = Work(work.engine, await make_principal(work.engine, plan_tier="pro"), work.clock)
    schedules = [await plan(work, queue=f"q{number % 7}") for number in range(160)]
    schedules += [await plan(others) for _ in range(40)]
    work.clock.advance(HOUR)

    async def fire_all(where: Work) -> int:
        fired = 0
        while taken := (await fire(where)).taken:
            fired += taken
        return fired

    shares = await asyncio.gather(*(fire_all(where) for where in (work, elsewhere, work, elsewhere)))
    # Whoever finds the rest held by others leaves it to them; nothing is left once all are through.
    assert sum(shares) + await fire_all(work) == 200
    async with work.engine.context.database.session() as session:
        rows = await session.many(
            "select s.run_count, (select count(*) from millstream.schedule_runs as r where r.schedule_id = s.id) as runs"
            " from millstream.schedules as s"
        )
        made = await session.one("select count(*) as jobs from millstream.jobs")
    assert [(row["run_count"], row["runs"]) for row in rows] == [(1, 1)] * 200
    assert made is not None
    assert made["jobs"] == 200


async def test_large_templates_are_fired_in_several_transactions(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 250)
    for _ in range(5):
        await plan(work, payload='"' + "x" * 98 + '"')
    work.clock.advance(HOUR)
    # Each begins below the bound, the first one always.
    assert [(await fire(work)).taken for _ in range(3)] == [3, 2, 0]


async def test_a_run_that_the_plan_has_no_room_for_is_recorded_and_the_next_one_comes(free: Work) -> None:
    schedule = await plan(free)
    for _ in range(10):
        await free.enqueue()
    free.clock.advance(HOUR)
    assert (await fire(free)).taken == 1
    after = await read(free, schedule)
    assert (after.run_count, after.last_run_at, after.is_active) == (0, None, True)
    assert after.next_run_at == free.clock.now() + timedelta(hours=1)
    assert await outcomes(free, schedule) == [(RunStatus.FAILED, "active jobs limit reached (10/10)")]
    [claimed] = await free.claim()
    await free.complete(lease_of(claimed))
    free.clock.advance(HOUR)
    await fire(free)
    assert await outcomes(free, schedule) == [
        COMPLETED,
        (RunStatus.FAILED, "active jobs limit reached (10/10)"),
    ]


async def test_of_one_tenants_due_schedules_as_many_run_as_fit(free: Work) -> None:
    many = Work(
        free.engine, replace(free.principal, plan=replace(PLANS["free"], max_schedules=None)), free.clock
    )
    schedules = [await plan(many) for _ in range(15)]
    free.clock.advance(HOUR)
    assert (await fire(free)).taken == 15
    statuses = [(await outcomes(free, schedule))[0][0] for schedule in schedules]
    assert statuses.count(RunStatus.COMPLETED) == 10
    assert sum((await free.engine.jobs.counts(free.principal)).values()) == 10


async def test_a_template_that_the_plan_does_not_take_any_more_is_a_failed_run(work: Work) -> None:
    schedule = await plan(work, payload='"' + "x" * 70_000 + '"')
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set plan_tier = 'free' where id = $1", work.principal.tenant_id
        )
    work.clock.advance(HOUR)
    await fire(work)
    [(status, error)] = await outcomes(work, schedule)
    assert status is RunStatus.FAILED
    assert error == "payload is larger than 65536 bytes"


@pytest.mark.parametrize(
    ("column", "value"), [("timezone", "Mars/Phobos"), ("cron", "0 0 30 2 *"), ("cron", "no cron at all")]
)
async def test_a_schedule_whose_time_cannot_be_told_is_paused_and_the_others_run(
    work: Work, column: str, value: str
) -> None:
    before, poison, after = [await plan(work) for _ in range(3)]
    async with work.engine.context.database.session() as session:
        await session.run(f"update millstream.schedules set {column} = $2 where id = $1", poison.id, value)
    work.clock.advance(HOUR)
    assert (await fire(work)).taken == 3
    for schedule in (before, after):
        assert await outcomes(work, schedule) == [COMPLETED]
    lost = await read(work, poison)
    assert (lost.is_active, lost.run_count, lost.next_run_at) == (False, 0, poison.next_run_at)
    [(status, error)] = await outcomes(work, poison)
    assert status is RunStatus.FAILED
    assert error is not None
    assert error.startswith("the schedule was paused: ")
    assert (await fire(work)).taken == 0


async def test_a_job_that_the_database_refuses_is_a_failed_run_and_the_others_run(
    work: Work, database_dsn: str
) -> None:
    await execute(
        database_dsn, """alter table millstream.jobs add constraint poison check (payload <> '"poison"')"""
    )
    schedules = [await plan(work, payload='"poison"' if number == 4 else "{}") for number in range(9)]
    work.clock.advance(HOUR)
    assert (await fire(work)).taken == 9
    found = [await outcomes(work, schedule) for schedule in schedules]
    assert [status for [(status, _)] in found] == [
        RunStatus.FAILED if number == 4 else RunStatus.COMPLETED for number in range(9)
    ]
    assert (await fire(work)).taken == 0
    assert (await read(work, schedules[4])).is_active


async def test_a_tenant_that_is_held_does_not_keep_the_others_from_running(
    work: Work, free: Work, database_dsn: str
) -> None:
    held = await plan(free)
    schedules = [await plan(work) for _ in range(3)]
    work.clock.advance(HOUR)
    holder = await asyncpg.connect(database_dsn)
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.tenants where id = $1 for update", free.principal.tenant_id)
    fired = await fire(work)
    assert fired.taken == 3
    assert fired.next_seconds is not None
    assert fired.next_seconds <= 0
    for schedule in schedules:
        assert await outcomes(work, schedule) == [COMPLETED]
    assert await outcomes(free, held) == []
    await block.rollback()
    await holder.close()
    assert (await fire(work)).taken == 1
    assert await outcomes(free, held) == [COMPLETED]


async def test_a_tenant_that_is_not_served_runs_nothing_and_is_not_flooded_afterwards(work: Work) -> None:
    schedule = await plan(work)

    async def serve(is_active: bool) -> None:
        change = TenantChange(is_active=is_active)
        await work.engine.admin.update(work.principal.organization_id, change)

    await serve(False)
    for _ in range(3):
        work.clock.advance(HOUR)
        assert (await fire(work)).taken == 1
    assert await outcomes(work, schedule) == []
    await serve(True)
    assert (await fire(work)).taken == 0
    work.clock.advance(HOUR)
    await fire(work)
    assert await outcomes(work, schedule) == [COMPLETED]
    await work.engine.admin.delete(work.principal.organization_id, hard=False)
    work.clock.advance(HOUR)
    assert (await fire(work)).taken == 1
    assert len(await runs(work, schedule)) == 1


async def test_a_failed_transaction_leaves_a_schedule_due_and_no_job(work: Work, database_dsn: str) -> None:
    schedule = await plan(work)
    work.clock.advance(HOUR)
    await execute(database_dsn, "alter table millstream.schedule_runs rename to away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await fire(work)
    assert await work.claim() == []
    await execute(database_dsn, "alter table millstream.away rename to schedule_runs")
    assert (await fire(work)).taken == 1
    assert await outcomes(work, schedule) == [COMPLETED]


async def test_the_loop_sleeps_until_the_next_run_and_is_woken_by_an_earlier_one(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    [loop] = [loop for loop in loops_of(work.engine) if loop.name == "scheduler"]
    assert loop.interval_seconds <= 5
    assert not loop.leader_only
    assert loop.hint is not None
    assert await loop.step() == Step(0, None)
    await plan(work)
    assert loop.hint.is_set()
    assert await loop.step() == Step(0, 3600.0)
    monkeypatch.setattr(limits, "FIRED_SCHEDULES_MAX", 2)
    for _ in range(2):
        await plan(work)
    work.clock.advance(HOUR)
    # There is more: the next step comes at once.
    assert await loop.step() == Step(2, 0.0)
    assert await loop.step() == Step(1, 3600.0)


async def test_what_another_process_is_firing_is_not_asked_for_without_a_pause(
    work: Work, database_dsn: str
) -> None:
    [loop] = [loop for loop in loops_of(work.engine) if loop.name == "scheduler"]
    schedule = await plan(work)
    work.clock.advance(HOUR)
    holder = await asyncpg.connect(database_dsn)
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.schedules where id = $1 for update", schedule.id)
    assert await loop.step() == Step(0, HELD_JOB_SECONDS)
    await block.rollback()
    await holder.close()
    assert (await loop.step()).done == 1


async def test_a_waiting_claim_is_woken_by_a_schedule(work: Work) -> None:
    await plan(work)
    claiming = claim_and_wait(work)
    await until(lambda: bool(work.engine.context.wakeups.waiting_queues()))
    work.clock.advance(HOUR)
    await fire(work)
    assert len(await claiming) == 1


async def test_a_change_while_a_schedule_is_fired_takes_its_turn(work: Work, second_engine: Engine) -> None:
    schedule = await plan(work)
    elsewhere = Work(second_engine, work.principal, work.clock)
    for hour in range(1, 6):
        work.clock.advance(HOUR)
        await asyncio.gather(
            fire(work),
            fire(elsewhere),
            work.engine.schedules.trigger(work.principal, schedule.id),
            elsewhere.engine.schedules.trigger(work.principal, schedule.id),
        )
        while (await fire(work)).taken:
            pass
        # One by the clock and two on request, each hour.
        assert (await read(work, schedule)).run_count == 3 * hour
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 15
    assert {(await work.job(run.job_id)).state for run in await runs(work, schedule) if run.job_id} == {
        JobState.READY
    }


async def test_what_counts_against_a_plan_and_what_is_fired_do_not_wait_for_each_other_in_a_ring(
    work: Work, second_engine: Engine
) -> None:
    # Both hold schedules and their tenant: in one order, or one of them would be refused.
    principal = await make_principal(work.engine, plan_tier="pro")
    here, there = Work(work.engine, principal, work.clock), Work(second_engine, principal, work.clock)
    schedules = [await plan(here) for _ in range(6)]
    for hour in range(1, 4):
        work.clock.advance(HOUR)
        for schedule in schedules[:3]:
            await here.engine.schedules.pause(principal, schedule.id)
        await asyncio.gather(
            fire(here),
            fire(there),
            *(there.engine.schedules.resume(principal, schedule.id) for schedule in schedules[:3]),
            *(here.engine.schedules.trigger(principal, schedule.id) for schedule in schedules),
            *(plan(there) for _ in range(2)),
            *(there.enqueue() for _ in range(5)),
        )
        while (await fire(here)).taken:
            pass
        assert (await read(here, schedules[5])).run_count == 2 * hour
        assert (await read(here, schedules[0])).run_count == hour
