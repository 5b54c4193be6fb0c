"""Schedules: jobs that are created again and again, by the clock of a time zone. Contract: spooled-jobs 6."""

from datetime import datetime
from enum import IntEnum
from uuid import UUID

from msgspec import Struct

from millstream.domain.cron import parse_cron
from millstream.domain.job import NewJob
from millstream.domain.time_zone import find_time_zone, instant_of, last_reading_until


class ScheduleError(ValueError):
    """Why nobody can tell when a schedule runs next."""


class RunStatus(IntEnum):
    """Whether a run created its job; the numbers are stored. How the job itself went is the job's to tell."""

    COMPLETED = 3
    FAILED = 4


class NewSchedule(Struct, frozen=True, kw_only=True):
    """A schedule to be created, already validated. `payload`, `tags` and `metadata` are JSON texts."""

    name: str
    cron: str
    queue: str
    payload: str
    timezone: str = "UTC"
    job_type: str = ""
    description: str | None = None
    priority: int = 0
    max_retries: int = 3
    timeout_seconds: int = 300
    tags: str | None = None
    metadata: str | None = None


class ScheduleChange(Struct, frozen=True, kw_only=True):
    """What to change of a schedule; None keeps. `job_type` goes with `payload`."""

    name: str | None = None
    description: str | None = None
    cron: str | None = None
    timezone: str | None = None
    payload: str | None = None
    job_type: str | None = None
    priority: int | None = None
    max_retries: int | None = None
    timeout_seconds: int | None = None
    tags: str | None = None
    metadata: str | None = None
    is_active: bool | None = None


class Schedule(Struct, frozen=True, kw_only=True):
    """A schedule as it stands. `run_count` counts the jobs that it created, by the clock and on request.

    While it is paused, `next_run_at` is what it was.
    """

    id: UUID
    name: str
    description: str | None
    cron: str
    timezone: str
    queue: str
    payload: str
    job_type: str
    priority: int
    max_retries: int
    timeout_seconds: int
    tags: str | None
    metadata: str | None
    is_active: bool
    last_run_at: datetime | None
    next_run_at: datetime
    run_count: int
    created_at: datetime
    updated_at: datetime

    def job(self) -> NewJob:
        """Return the job that a run of it creates."""
        return NewJob(
            queue=self.queue,
            payload=self.payload,
            job_type=self.job_type,
            priority=self.priority,
            max_retries=self.max_retries,
            timeout_seconds=self.timeout_seconds,
            tags=self.tags,
        )


class ScheduleFilter(Struct, frozen=True, kw_only=True):
    """Which schedules a list shows. `queues` are those that a credential may see (None: all)."""

    queues: tuple[str, ...] | None = None
    queue: str | None = None
    is_active: bool | None = None
    limit: int = 100
    offset: int = 0


class ScheduleRun(Struct, frozen=True, kw_only=True):
    """One run: the job that it created, or the `error` that kept it from that."""

    id: UUID
    schedule_id: UUID
    status: RunStatus
    job_id: UUID | None
    error: str | None
    started_at: datetime
    finished_at: datetime


class Triggered(Struct, frozen=True):
    """A run on request."""

    job_id: UUID
    at: datetime


def next_run_at(cron: str, timezone: str, after: datetime) -> datetime:
    """Return the first run later than `after`: a whole second, in UTC. Raises ScheduleError when there is none.

    The expression is held against the clock on a wall of the zone. A reading that the clock skips runs in the moment of
    the skip, all of them together once; a reading that the clock shows twice runs when it is shown first.
    Contract: spooled-jobs 6.3.
    """
    try:
        zone = find_time_zone(timezone)
        for reading in parse_cron(cron).readings_after(last_reading_until(after, zone)):
            instant = instant_of(reading, zone)
            if instant > after:
                return instant
    except ValueError as error:
        raise ScheduleError(f"no next run in {timezone!r}: {error}") from None
    except OverflowError:
        pass
    raise ScheduleError("the expression never matches any more")
