"""Firing schedules: what is due becomes jobs, once, on whichever process gets hold of it first."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import MillstreamError, PoisonRow, RowLocked
from millstream.domain.plan import plan_of
from millstream.domain.schedule import RunStatus, ScheduleError, next_run_at
from millstream.domain.webhook import WebhookEvent
from millstream.engine.context import Context
from millstream.engine.enqueuing import Enqueuing
from millstream.engine.lookback import Lookback
from millstream.store import schedules
from millstream.store.database import Session
from millstream.store.schedules import DueSchedule, Key, RunRow

Claim = Callable[[Session], Awaitable[list[DueSchedule]]]

_log = structlog.get_logger(__name__)


class Fired(Struct, frozen=True):
    """How many schedules a step took, and in how many seconds the next one is due (None: none is)."""

    taken: int
    next_seconds: float | None


class Firing:
    """Fires due schedules. Contract: spooled-jobs 6.4.

    A transaction holds schedules that nobody else holds, creates their jobs, and moves their times past the database's
    now: one occurrence makes one job however many processes look for it, and however many occurrences were missed.
    """

    def __init__(self, context: Context, enqueuing: Enqueuing) -> None:
        self._context = context
        self._enqueuing = enqueuing
        self._lookback = Lookback(context.clock)
        self.hint = asyncio.Event()
        """Set when a schedule was given a time, maybe an earlier one than the timer knows."""

    async def fire(self) -> Fired:
        """Fire a batch of due schedules; one that cannot be fired does not keep the others from it."""
        lookback_seconds = self._lookback.seconds()
        now = self._context.now()

        async def claim(session: Session) -> list[DueSchedule]:
            return await schedules.claim_due_schedules(
                session, lookback_seconds=lookback_seconds, limit=limits.FIRED_SCHEDULES_MAX, now=now
            )

        taken = await self._fire_or_split(claim)
        self._lookback.found(taken, limit=limits.FIRED_SCHEDULES_MAX)
        async with self._context.database.session() as session:
            seconds = await schedules.seconds_to_next_schedule(
                session, lookback_seconds=lookback_seconds, now=self._context.now()
            )
        return Fired(taken, seconds)

    async def _fire_or_split(self, claim: Claim) -> int:
        held: list[DueSchedule] = []
        try:
            await self._fire(claim, held)
        except (PoisonRow, RowLocked) as error:
            if not held:
                raise
            if len(held) == 1:
                return await self._give_up(held[0], error)
            half = len(held) // 2
            return sum([await self._fire_some(some) for some in (held[:half], held[half:])])
        return len(held)

    async def _fire_some(self, some: Sequence[DueSchedule]) -> int:
        return await self._fire_or_split(_claiming([due.key for due in some], self._context.now()))

    async def _give_up(self, due: DueSchedule, error: MillstreamError) -> int:
        """Deal with the one schedule that failed a batch; returns whether it was."""
        log = _log.bind(tenant_id=due.tenant_id, schedule_id=str(due.schedule.id), reason=error.message)
        if isinstance(error, RowLocked):
            # Its tenant is held by another's open transaction: it stays due.
            log.info("a schedule waits for a row that is held")
            return 0
        log.warning("a schedule's job was refused by the database")
        async with self._context.database.session() as session, session.together():
            for held in await _claiming([due.key], self._context.now())(session):
                run = _Tick(held, _Times()).failed(error.message)
                await schedules.record_runs(session, [run], self._context.now())
        return 1

    async def _fire(self, claim: Claim, held: list[DueSchedule]) -> None:
        times = _Times()
        async with self._context.database.session() as session, session.together():
            held += await claim(session)
            if not held:
                return
            ticks = [_Tick(due, times) for due in held]
            creating = [tick for tick in ticks if tick.creates]
            within = await self._enqueuing.create_within(
                session,
                [
                    (plan_of(due.plan_tier or "", due.custom_limits), due.schedule.job(), due.tenant_id)
                    for due in (tick.due for tick in creating)
                ],
            )
            runs = [tick.left_out() for tick in ticks if not tick.creates]
            told: list[tuple[int, dict[str, object]]] = []
            for tick, outcome in zip(creating, within.outcomes, strict=True):
                if isinstance(outcome, MillstreamError):
                    runs.append(tick.failed(outcome.message))
                else:
                    runs.append(tick.completed(outcome.id))
                    told.append((tick.due.tenant_id, tick.told(outcome.id)))
            await schedules.record_runs(session, runs, self._context.now())
            await self._context.outbox.note_events(session, WebhookEvent.SCHEDULE_TRIGGERED, told)
        within.announce()


class _Times:
    """Next runs, each worked out once: many schedules of a batch say the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, datetime], datetime | ScheduleError] = {}

    def after(self, due: DueSchedule) -> datetime | ScheduleError:
        """Return the next run, or why there is none."""
        schedule = due.schedule
        asked = (schedule.cron, schedule.timezone, due.at)
        if asked not in self._known:
            try:
                self._known[asked] = next_run_at(*asked)
            except ScheduleError as error:
                self._known[asked] = error
        return self._known[asked]


class _Tick:
    """One schedule's turn."""

    def __init__(self, due: DueSchedule, times: _Times) -> None:
        self.due = due
        self._next = times.after(due)
        self.creates = due.is_served and isinstance(self._next, datetime)

    def completed(self, job_id: UUID) -> RunRow:
        return self._row(RunStatus.COMPLETED, job_id=job_id)

    def failed(self, error: str) -> RunRow:
        return self._row(RunStatus.FAILED, error=error)

    def left_out(self) -> RunRow:
        """Say why nothing is created: nobody serves the tenant, or a next time cannot be told."""
        if isinstance(self._next, datetime):
            return self._row(None)
        return self.failed(f"the schedule was paused: {self._next}")

    def told(self, job_id: UUID) -> dict[str, object]:
        return told_of_run(self.due.schedule.id, job_id, self.due.schedule.queue)

    def _row(
        self, status: RunStatus | None, *, job_id: UUID | None = None, error: str | None = None
    ) -> RunRow:
        # Without a next time it would be due for ever.
        is_lost = isinstance(self._next, ScheduleError)
        return RunRow(
            key=self.due.key,
            status=status,
            job_id=job_id,
            error=error,
            next_run_at=None if isinstance(self._next, ScheduleError) else self._next,
            pauses=is_lost,
        )


def told_of_run(schedule_id: UUID, job_id: UUID, queue: str) -> dict[str, object]:
    """Return what webhooks are told of a run. Contract: spooled-tenancy 10.7."""
    return {"schedule_id": schedule_id, "job_id": job_id, "queue_name": queue}


def _claiming(keys: Sequence[Key], now: datetime | None) -> Claim:
    async def claim(session: Session) -> list[DueSchedule]:
        return await schedules.claim_schedules(session, keys, now)

    return claim
