"""A tenant's schedules at work."""

from typing import Any
from uuid import UUID

from millstream.domain.schedule import NewSchedule, RunStatus, Schedule, ScheduleFilter, ScheduleRun
from millstream.engine.firing import Fired
from tests.engine.work import Work


async def plan(work: Work, cron: str = "0 * * * *", **options: Any) -> Schedule:
    """Create a schedule of queue `q`, unless said otherwise."""
    given: dict[str, Any] = {"name": "s", "queue": "q", "payload": "{}", **options}
    return await work.engine.schedules.create(work.principal, NewSchedule(cron=cron, **given))


async def read(work: Work, schedule: Schedule) -> Schedule:
    return await work.engine.schedules.get(work.principal, schedule.id)


async def runs(work: Work, schedule: Schedule) -> list[ScheduleRun]:
    """The runs of a schedule, the newest first."""
    return [*await work.engine.schedules.history(work.principal, schedule.id, limit=500)]


async def outcomes(work: Work, schedule: Schedule) -> list[tuple[RunStatus, str | None]]:
    return [(run.status, run.error) for run in await runs(work, schedule)]


async def all_of(work: Work, **options: Any) -> list[UUID]:
    page = await work.engine.schedules.list(work.principal, ScheduleFilter(**options))
    return [schedule.id for schedule in page]


async def fire(work: Work) -> Fired:
    return await work.engine.firing.fire()
