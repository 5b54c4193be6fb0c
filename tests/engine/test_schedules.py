"""What a tenant does with its schedules. Contract: spooled-jobs 6, 1.10."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from millstream.domain import limits
from millstream.domain.errors import AccessDenied, BadRequest, NotFound, PayloadTooLarge, QuotaExceeded
from millstream.domain.job import JobState
from millstream.domain.plan import PLANS
from millstream.domain.schedule import RunStatus, Schedule, ScheduleChange
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.fellows import claim_and_wait, until
from tests.engine.hooks import deliveries, subscribe
from tests.engine.planned import all_of, fire, outcomes, plan, read, runs
from tests.engine.work import Work


@pytest.fixture
async def free(work: Work) -> Work:
    """A tenant with the free plan: one active schedule, 10 active jobs."""
    return Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)


def at(hour: int, minute: int = 0, second: int = 0, day: int = 1) -> datetime:
    # The steered clock begins at noon of this day.
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


async def change(work: Work, schedule: Schedule, **fields: object) -> Schedule:
    wanted = ScheduleChange(**fields)  # type: ignore[arg-type]
    return await work.engine.schedules.update(work.principal, schedule.id, wanted)


async def test_the_next_run_is_told_at_once(work: Work) -> None:
    assert (await plan(work, "0 * * * *")).next_run_at == at(13)
    assert (await plan(work, "*/10 * * * * *")).next_run_at == at(12, 0, 10)
    # Noon is now, and now has passed.
    assert (await plan(work, "0 12 * * *")).next_run_at == at(12, day=2)
    assert (await plan(work, "30 14 * * *", timezone="Europe/Berlin")).next_run_at == at(13, 30)
    with pytest.raises(BadRequest, match="never matches"):
        await plan(work, "0 0 31 4 *")


async def test_a_change_of_time_or_zone_moves_the_next_run_and_nothing_else_does(work: Work) -> None:
    schedule = await plan(work, "0 15 * * *", tags='["a"]')
    work.clock.advance(600)
    changed = await change(work, schedule, name="other", priority=7, payload='{"job_type": 1}', job_type="")
    assert (changed.next_run_at, changed.name, changed.priority) == (at(15), "other", 7)
    assert (changed.payload, changed.tags, changed.cron) == ('{"job_type": 1}', '["a"]', "0 15 * * *")
    assert (changed.created_at, changed.updated_at) == (at(12), at(12, 10))
    assert (await change(work, schedule, cron="0 16 * * *")).next_run_at == at(16)
    assert (await change(work, schedule, timezone="Asia/Tokyo")).next_run_at == at(7, day=2)
    # What is due and was not fired yet stays due, unless its time is another.
    work.clock.advance(86_400)
    assert (await change(work, schedule, cron="0 16 * * *", name="same time")).next_run_at == at(7, day=2)
    with pytest.raises(BadRequest):
        await change(work, schedule, cron="0 0 30 2 *")


async def test_a_paused_schedule_keeps_its_time_and_a_resumed_one_goes_on_from_now(work: Work) -> None:
    schedule = await plan(work)
    for _ in range(2):
        paused = await work.engine.schedules.pause(work.principal, schedule.id)
        assert (paused.is_active, paused.next_run_at) == (False, at(13))
    work.clock.advance(3 * 3600 + 60)
    assert (await fire(work)).taken == 0
    for _ in range(2):
        resumed = await work.engine.schedules.resume(work.principal, schedule.id)
        assert (resumed.is_active, resumed.next_run_at) == (True, at(16))
    assert (await fire(work)).taken == 0
    assert (await change(work, schedule, is_active=False)).is_active is False
    # Resuming one that is active does not take away what is due.
    await work.engine.schedules.resume(work.principal, schedule.id)
    work.clock.advance(3600)
    assert (await work.engine.schedules.resume(work.principal, schedule.id)).next_run_at == at(16)
    assert (await fire(work)).taken == 1


async def test_a_trigger_makes_the_job_now_and_leaves_the_next_run_alone(work: Work) -> None:
    webhook = await subscribe(work, "https://example.com/")
    schedule = await plan(
        work,
        payload='{"job_type": "mail"}',
        job_type="mail",
        priority=9,
        max_retries=1,
        timeout_seconds=60,
        tags='{"a": 1}',
    )
    await work.engine.schedules.pause(work.principal, schedule.id)
    work.clock.advance(90)
    triggered = await work.engine.schedules.trigger(work.principal, schedule.id)
    job = await work.job(triggered.job_id)
    assert (job.state, job.queue, job.payload, job.job_type) == (
        JobState.READY,
        "q",
        '{"job_type": "mail"}',
        "mail",
    )
    assert (job.priority, job.max_retries, job.timeout_seconds, job.tags) == (9, 1, 60, '{"a": 1}')
    assert (job.idempotency_key, job.run_at) == (None, None)
    after = await read(work, schedule)
    assert (after.run_count, after.last_run_at, after.next_run_at) == (1, at(12, 1, 30), at(13))
    assert (after.is_active, after.updated_at) == (False, at(12))
    [run] = await runs(work, schedule)
    assert (run.status, run.job_id, run.error) == (RunStatus.COMPLETED, triggered.job_id, None)
    assert run.started_at == run.finished_at == triggered.at == at(12, 1, 30)
    told = {row.event.name: row.data for row in await deliveries(work, webhook)}
    assert told.keys() == {"JOB_CREATED", "SCHEDULE_TRIGGERED"}
    for text in (str(schedule.id), str(triggered.job_id), '"queue_name":"q"'):
        assert text in told["SCHEDULE_TRIGGERED"]


async def test_a_trigger_wakes_whoever_waits_for_a_job(work: Work) -> None:
    schedule = await plan(work)
    claiming = claim_and_wait(work)
    await until(lambda: bool(work.engine.context.wakeups.waiting_queues()))
    triggered = await work.engine.schedules.trigger(work.principal, schedule.id)
    assert await claiming == [triggered.job_id]


async def test_a_trigger_that_the_plan_has_no_room_for_leaves_no_trace(free: Work) -> None:
    schedule = await plan(free)
    for _ in range(10):
        await free.engine.schedules.trigger(free.principal, schedule.id)
    with pytest.raises(QuotaExceeded, match="active jobs limit reached") as refused:
        await free.engine.schedules.trigger(free.principal, schedule.id)
    assert (refused.value.resource, refused.value.current) == ("active_jobs", 10)
    assert (await read(free, schedule)).run_count == 10
    assert len(await runs(free, schedule)) == 10


async def test_of_many_triggers_at_once_exactly_as_many_succeed_as_fit(
    free: Work, second_engine: Engine
) -> None:
    schedule = await plan(free)
    elsewhere = Work(second_engine, free.principal, free.clock)
    answers = await asyncio.gather(
        *(
            where.engine.schedules.trigger(free.principal, schedule.id)
            for where in (free, elsewhere)
            for _ in range(8)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 6
    assert (await read(free, schedule)).run_count == 10
    assert sum((await free.engine.jobs.counts(free.principal)).values()) == 10


async def test_deleting_a_schedule_deletes_its_runs_and_keeps_its_jobs(work: Work) -> None:
    schedule = await plan(work)
    triggered = await work.engine.schedules.trigger(work.principal, schedule.id)
    await work.engine.schedules.delete(work.principal, schedule.id)
    assert await work.state(triggered.job_id) is JobState.READY
    for call in (
        work.engine.schedules.get(work.principal, schedule.id),
        work.engine.schedules.delete(work.principal, schedule.id),
        work.engine.schedules.pause(work.principal, schedule.id),
        work.engine.schedules.trigger(work.principal, schedule.id),
        work.engine.schedules.history(work.principal, schedule.id, limit=1),
    ):
        with pytest.raises(NotFound):
            await call
    async with work.engine.context.database.session() as session:
        row = await session.one("select count(*) as runs from millstream.schedule_runs")
    assert row is not None
    assert row["runs"] == 0


async def test_history_begins_with_the_newest(work: Work) -> None:
    schedule = await plan(work)
    made = []
    for _ in range(3):
        work.clock.advance(1)
        made.append((await work.engine.schedules.trigger(work.principal, schedule.id)).job_id)
    assert [run.job_id for run in await runs(work, schedule)] == made[::-1]
    newest = await work.engine.schedules.history(work.principal, schedule.id, limit=1)
    assert [run.job_id for run in newest] == made[-1:]


async def test_lists_begin_with_the_newest_and_are_filtered(work: Work) -> None:
    first = await plan(work)
    second = await plan(work, queue="r")
    third = await plan(work)
    await work.engine.schedules.pause(work.principal, third.id)
    assert await all_of(work) == [third.id, second.id, first.id]
    assert await all_of(work, limit=1, offset=1) == [second.id]
    assert await all_of(work, queue="q") == [third.id, first.id]
    assert await all_of(work, is_active=True) == [second.id, first.id]
    assert await all_of(work, is_active=False) == [third.id]
    assert await all_of(work, queues=("r",)) == [second.id]


async def test_a_page_of_large_templates_is_refused_not_cut(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCHEDULE_PAGE_BYTES_MAX", 250)
    schedules = [await plan(work, payload='"' + "x" * 98 + '"') for _ in range(3)]
    with pytest.raises(BadRequest, match="limit"):
        await all_of(work)
    assert await all_of(work, limit=2) == [schedules[2].id, schedules[1].id]


async def test_a_restricted_key_sees_the_schedules_of_its_queues_only(work: Work) -> None:
    theirs, other = await plan(work, queue="theirs"), await plan(work, queue="other")
    restricted = work.restricted_to("theirs")
    assert (await read(restricted, theirs)).id == theirs.id
    with pytest.raises(AccessDenied):
        await plan(restricted, queue="other")
    for call in (
        restricted.engine.schedules.get(restricted.principal, other.id),
        restricted.engine.schedules.update(restricted.principal, other.id, ScheduleChange(name="x")),
        restricted.engine.schedules.delete(restricted.principal, other.id),
        restricted.engine.schedules.resume(restricted.principal, other.id),
        restricted.engine.schedules.trigger(restricted.principal, other.id),
        restricted.engine.schedules.history(restricted.principal, other.id, limit=1),
    ):
        with pytest.raises(NotFound):
            await call
    assert await read(work, other) == other


async def test_active_schedules_are_counted_against_the_plan(free: Work) -> None:
    first = await plan(free)
    with pytest.raises(QuotaExceeded, match="schedules limit reached") as refused:
        await plan(free)
    error = refused.value
    assert (error.resource, error.current, error.limit, error.plan) == ("schedules", 1, 1, "free")
    # Resuming what is active takes no room.
    assert (await free.engine.schedules.resume(free.principal, first.id)).is_active
    await free.engine.schedules.pause(free.principal, first.id)
    second = await plan(free)
    for resume in ({"is_active": True}, {"is_active": True, "cron": "5 * * * *"}):
        with pytest.raises(QuotaExceeded):
            await change(free, first, **resume)
    assert (await read(free, first)).cron == "0 * * * *"
    await free.engine.schedules.delete(free.principal, second.id)
    assert (await free.engine.schedules.resume(free.principal, first.id)).is_active
    usage = await free.engine.usage.report(free.principal)
    assert usage.items.schedules.current == 1


async def test_of_many_made_and_resumed_at_once_exactly_as_many_succeed_as_fit(
    work: Work, second_engine: Engine
) -> None:
    principal = replace(work.principal, plan=replace(PLANS["starter"], max_schedules=5))
    here, there = Work(work.engine, principal, work.clock), Work(second_engine, principal, work.clock)
    paused = [await plan(work) for _ in range(6)]
    for schedule in paused:
        await work.engine.schedules.pause(work.principal, schedule.id)
    answers = await asyncio.gather(
        *(plan(where) for where in (here, there) for _ in range(6)),
        *(there.engine.schedules.resume(principal, schedule.id) for schedule in paused),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(answers) - len(refused) == 5
    assert all(error.current == 5 for error in refused)
    assert len(await all_of(work, is_active=True)) == 5


async def test_paused_schedules_are_bounded_too(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_MAX", 2)
    for _ in range(2):
        await work.engine.schedules.pause(work.principal, (await plan(work)).id)
    with pytest.raises(QuotaExceeded, match="2/2"):
        await plan(work)


async def test_a_template_is_as_large_as_the_plan_lets_a_payload_be(free: Work) -> None:
    largest = '"' + "x" * (65_536 - 2) + '"'
    schedule = await plan(free, payload=largest)
    with pytest.raises(PayloadTooLarge):
        await change(free, schedule, payload=largest + " ")
    await free.engine.schedules.delete(free.principal, schedule.id)
    with pytest.raises(PayloadTooLarge):
        await plan(free, payload=largest + " ")


async def test_runs_go_with_the_history_retention_of_the_plan(free: Work) -> None:
    schedule = await plan(free, "0 0 1 1 *")
    await free.engine.schedules.trigger(free.principal, schedule.id)
    free.clock.advance(timedelta(hours=20).total_seconds())
    await free.engine.schedules.trigger(free.principal, schedule.id)
    # A day of history on this plan.
    free.clock.advance(timedelta(hours=5).total_seconds())
    assert await free.engine.upkeep.prune() == 1
    assert await outcomes(free, schedule) == [(RunStatus.COMPLETED, None)]
