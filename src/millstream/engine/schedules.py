"""Schedules: what a tenant makes, changes and triggers of them. The loop that fires them is in `engine/firing.py`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from millstream.domain import limits
from millstream.domain.errors import BadRequest, InternalError, MillstreamError, NotFound, QuotaExceeded
from millstream.domain.job import NewJob
from millstream.domain.schedule import (
    NewSchedule,
    RunStatus,
    Schedule,
    ScheduleChange,
    ScheduleError,
    ScheduleFilter,
    ScheduleRun,
    Triggered,
    next_run_at,
)
from millstream.domain.tenant import Principal
from millstream.domain.webhook import WebhookEvent
from millstream.engine.context import Context, check_queue
from millstream.engine.enqueuing import Enqueuing
from millstream.engine.firing import Firing, told_of_run
from millstream.store import quotas, schedules, upkeep
from millstream.store.database import Session
from millstream.store.schedules import RunRow


class Schedules:
    """The schedules of all tenants, each seen through a principal of its own.

    A credential that is limited to some queues does not see those of others.
    """

    def __init__(self, context: Context, enqueuing: Enqueuing, firing: Firing) -> None:
        self._context = context
        self._enqueuing = enqueuing
        self._firing = firing

    async def create(self, principal: Principal, new: NewSchedule) -> Schedule:
        """Create a schedule; it runs first at its next time from now. Contract: spooled-jobs 6.1.

        Raises AccessDenied, PayloadTooLarge, QuotaExceeded, BadRequest for an expression that never matches.
        """
        check_queue(principal, new.queue)
        self._enqueuing.check_payload(principal.plan, NewJob(queue=new.queue, payload=new.payload))
        async with self._context.database.tenant(principal.tenant_id) as session:
            await self._check_room(session, principal, adding=1)
            schedule = await schedules.create_schedule(
                session,
                principal.tenant_id,
                self._context.ids.next(),
                new,
                next_run_at=_next_run(new.cron, new.timezone, await self._database_time(session)),
                now=self._context.now(),
            )
        if schedule is None:
            raise InternalError
        self._firing.hint.set()
        return schedule

    async def get(self, principal: Principal, schedule_id: UUID) -> Schedule:
        """Return a schedule. Raises NotFound. Contract: spooled-jobs 6."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            schedule = await schedules.find_schedule(
                session, principal.tenant_id, schedule_id, principal.visible_queues
            )
        if schedule is None:
            raise NotFound
        return schedule

    async def update(self, principal: Principal, schedule_id: UUID, change: ScheduleChange) -> Schedule:
        """Change what is given of a schedule. Contract: spooled-jobs 6.1.

        Its next run is worked out anew from now when its expression or zone changes, and when it becomes active again.
        Raises NotFound, PayloadTooLarge, QuotaExceeded when it becomes active, BadRequest as `create` does.
        """
        async with self._context.database.tenant(principal.tenant_id) as session:
            held = await self._hold(session, principal, schedule_id)
            if change.payload is not None:
                self._enqueuing.check_payload(
                    principal.plan, NewJob(queue=held.queue, payload=change.payload)
                )
            resumes = change.is_active is True and not held.is_active
            if resumes:
                await self._check_room(session, principal, adding=0)
            cron, timezone = change.cron or held.cron, change.timezone or held.timezone
            next_run = None
            if resumes or (cron, timezone) != (held.cron, held.timezone):
                next_run = _next_run(cron, timezone, await self._database_time(session))
            schedule = await schedules.update_schedule(
                session,
                principal.tenant_id,
                held,
                change,
                next_run_at=next_run,
                now=self._context.now(),
            )
        if schedule is None:
            raise InternalError
        self._firing.hint.set()
        return schedule

    async def pause(self, principal: Principal, schedule_id: UUID) -> Schedule:
        """Let a schedule run no more by the clock. Raises NotFound. Contract: spooled-jobs 6."""
        return await self.update(principal, schedule_id, ScheduleChange(is_active=False))

    async def resume(self, principal: Principal, schedule_id: UUID) -> Schedule:
        """Let a paused schedule go on from now; what it missed stays missed. Raises as `update` does."""
        return await self.update(principal, schedule_id, ScheduleChange(is_active=True))

    async def trigger(self, principal: Principal, schedule_id: UUID) -> Triggered:
        """Create the job of a schedule now, paused or not; its next run stays. Contract: spooled-jobs 6.4.

        Raises NotFound, PayloadTooLarge, QuotaExceeded or Unavailable.
        """
        tenant_id = principal.tenant_id
        async with self._context.database.transaction() as session:
            schedule = await self._hold(session, principal, schedule_id)
            within = await self._enqueuing.create_within(
                session, [(principal.plan, schedule.job(), tenant_id)]
            )
            [outcome] = within.outcomes
            if isinstance(outcome, MillstreamError):
                raise outcome
            run = RunRow(key=(tenant_id, schedule_id), status=RunStatus.COMPLETED, job_id=outcome.id)
            await schedules.record_runs(session, [run], self._context.now())
            await self._context.outbox.note_event(
                session,
                tenant_id,
                WebhookEvent.SCHEDULE_TRIGGERED,
                told_of_run(schedule_id, outcome.id, schedule.queue),
            )
            at = await self._database_time(session)
        within.announce()
        return Triggered(outcome.id, at)

    async def delete(self, principal: Principal, schedule_id: UUID) -> None:
        """Delete a schedule with its runs; its jobs stay. Raises NotFound. Contract: spooled-jobs 6."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await schedules.delete_schedule(
                session, principal.tenant_id, schedule_id, principal.visible_queues
            )
        if not known:
            raise NotFound

    async def history(self, principal: Principal, schedule_id: UUID, *, limit: int) -> Sequence[ScheduleRun]:
        """Return the newest runs of a schedule. Raises NotFound. Contract: spooled-jobs 6."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await schedules.find_schedule(
                session, principal.tenant_id, schedule_id, principal.visible_queues
            )
            if known is None:
                raise NotFound
            return await schedules.list_runs(session, principal.tenant_id, schedule_id, limit=limit)

    # Last of the public ones: below it, `list` would name this method in annotations.
    async def list(self, principal: Principal, wanted: ScheduleFilter) -> Sequence[Schedule]:
        """Return a page of schedules, the newest first. Raises BadRequest for one whose templates are too large."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            page = await schedules.list_schedules(session, principal.tenant_id, wanted)
        if page is None:
            raise BadRequest("These schedules are too large for one page: ask for fewer with limit")
        return page

    async def _hold(self, session: Session, principal: Principal, schedule_id: UUID) -> Schedule:
        held = await schedules.lock_schedule(
            session, principal.tenant_id, schedule_id, principal.visible_queues
        )
        if held is None:
            raise NotFound
        return held

    async def _check_room(self, session: Session, principal: Principal, *, adding: int) -> None:
        plan = principal.plan
        if plan.max_schedules is not None:
            await quotas.lock_tenant(session, principal.tenant_id)
        counts = await schedules.count_schedules(session, principal.tenant_id)
        plan.check_room("schedules", counts.active, 1)
        if counts.total + adding > limits.SCHEDULES_MAX:
            raise QuotaExceeded("schedules", current=counts.total, limit=limits.SCHEDULES_MAX, plan=plan.tier)

    async def _database_time(self, session: Session) -> datetime:
        return await upkeep.get_database_time(session, self._context.now())


def _next_run(cron: str, timezone: str, after: datetime) -> datetime:
    try:
        return next_run_at(cron, timezone, after)
    except ScheduleError as error:
        raise BadRequest(f"The schedule cannot be kept: {error}") from None
