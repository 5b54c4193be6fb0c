"""Finished jobs past their plan's retention go, and the partitions that they leave empty. Contract: spooled-jobs 11."""

from datetime import timedelta

from millstream.domain.clock import SteeredClock
from millstream.domain.job import JobState
from millstream.engine.engine import Engine
from millstream.store.database import Database
from tests.engine.work import Work


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
