"""Schedules: jobs that are created by the clock. Contract: spooled-jobs 6."""

from uuid import UUID

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import schedule_bodies as bodies
from millstream.api.spooled.enqueue import job_type_of
from millstream.api.spooled.rules import Rules, json_text
from millstream.domain import limits
from millstream.domain.cron import CronError, parse_cron
from millstream.domain.errors import (
    AccessDenied,
    BadRequest,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    Unavailable,
)
from millstream.domain.ids import parse_id
from millstream.domain.schedule import NewSchedule, ScheduleChange, ScheduleFilter
from millstream.domain.time_zone import TimeZoneError, find_time_zone
from millstream.engine.engine import Engine

_CREATE = Body(bodies.CreateSchedule)
_UPDATE = Body(bodies.UpdateSchedule)
_PATH = "/api/v1/schedules"
_ONE = f"{_PATH}/{{schedule_id}}"
_TAG = "schedules"
_PAGE_ROWS = 100
_RUNS = 50
_encode = msgspec.json.Encoder().encode


class ScheduleEndpoints:
    """`/schedules`."""

    def __init__(self, engine: Engine) -> None:
        self._schedules = engine.schedules

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [*self._configuration(), *self._operation()]

    def _configuration(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path=_PATH,
                handler=self.list,
                summary="List schedules, the newest first",
                tag=_TAG,
                query=(
                    Parameter(name="queue_name", description="exact"),
                    Parameter(name="is_active", kind="boolean", description="not paused, or paused"),
                    Parameter(name="limit", kind="integer", description="rows of the page; clamped"),
                    Parameter(name="offset", kind="integer", description="rows before the page"),
                ),
                answers={200: list[bodies.ScheduleBody]},
                errors=(BadRequest,),
            ),
            Endpoint(
                method="POST",
                path=_PATH,
                handler=self.create,
                summary="Create a schedule",
                tag=_TAG,
                body=_CREATE,
                answers={201: bodies.ScheduleBody},
                errors=(AccessDenied, BadRequest, PayloadTooLarge, QuotaExceeded),
            ),
            Endpoint(
                method="GET",
                path=_ONE,
                handler=self.get,
                summary="Get a schedule",
                tag=_TAG,
                answers={200: bodies.ScheduleBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="PUT",
                path=_ONE,
                handler=self.update,
                summary="Change a schedule; fields that are not given stay as they are, its queue always",
                tag=_TAG,
                body=_UPDATE,
                answers={200: bodies.ScheduleBody},
                errors=(BadRequest, NotFound, PayloadTooLarge, QuotaExceeded),
            ),
            Endpoint(
                method="DELETE",
                path=_ONE,
                handler=self.delete,
                summary="Delete a schedule and its runs; its jobs stay",
                tag=_TAG,
                answers={204: None},
                errors=(NotFound,),
            ),
        ]

    def _operation(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path=f"{_ONE}/pause",
                handler=self.pause,
                summary="Let a schedule run no more by the clock",
                tag=_TAG,
                answers={200: bodies.ScheduleBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="POST",
                path=f"{_ONE}/resume",
                handler=self.resume,
                summary="Let a paused schedule go on from now",
                tag=_TAG,
                answers={200: bodies.ScheduleBody},
                errors=(BadRequest, NotFound, QuotaExceeded),
            ),
            Endpoint(
                method="POST",
                path=f"{_ONE}/trigger",
                handler=self.trigger,
                summary="Create the job of a schedule now",
                tag=_TAG,
                answers={200: bodies.ScheduleTriggered},
                errors=(NotFound, PayloadTooLarge, QuotaExceeded, Unavailable),
            ),
            Endpoint(
                method="GET",
                path=f"{_ONE}/history",
                handler=self.history,
                summary="List the newest runs of a schedule",
                tag=_TAG,
                query=(Parameter(name="limit", kind="integer", description="rows; clamped"),),
                answers={200: list[bodies.ScheduleRunBody]},
                errors=(BadRequest, NotFound),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List schedules."""
        query = Query(request.query_string)
        wanted = ScheduleFilter(
            queues=request.principal.visible_queues,
            queue=query.text("queue_name", limits.STORED_QUEUE_NAME_CHARS_MAX),
            is_active=None if query.text("is_active") is None else query.flag("is_active"),
            limit=query.clamped("limit", _PAGE_ROWS, 1, limits.SCHEDULE_PAGE_ROWS_MAX),
            offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
        )
        schedules = await self._schedules.list(request.principal, wanted)
        return Response(
            200, _encode([bodies.schedule_body(schedule, request.principal) for schedule in schedules])
        )

    async def create(self, request: Request) -> Response:
        """Create a schedule."""
        new = _new(_CREATE.read(request.body))
        schedule = await self._schedules.create(request.principal, new)
        return Response(201, _encode(bodies.schedule_body(schedule, request.principal)))

    async def get(self, request: Request) -> Response:
        """Get a schedule."""
        schedule = await self._schedules.get(request.principal, _id(request))
        return Response(200, _encode(bodies.schedule_body(schedule, request.principal)))

    async def update(self, request: Request) -> Response:
        """Change what is given of a schedule."""
        change = _change(_UPDATE.read(request.body))
        schedule = await self._schedules.update(request.principal, _id(request), change)
        return Response(200, _encode(bodies.schedule_body(schedule, request.principal)))

    async def delete(self, request: Request) -> Response:
        """Delete a schedule."""
        await self._schedules.delete(request.principal, _id(request))
        return NO_CONTENT

    async def pause(self, request: Request) -> Response:
        """Pause a schedule."""
        schedule = await self._schedules.pause(request.principal, _id(request))
        return Response(200, _encode(bodies.schedule_body(schedule, request.principal)))

    async def resume(self, request: Request) -> Response:
        """Resume a schedule."""
        schedule = await self._schedules.resume(request.principal, _id(request))
        return Response(200, _encode(bodies.schedule_body(schedule, request.principal)))

    async def trigger(self, request: Request) -> Response:
        """Create a schedule's job now."""
        triggered = await self._schedules.trigger(request.principal, _id(request))
        at = format_timestamp(triggered.at)
        answer = bodies.ScheduleTriggered(job_id=triggered.job_id, triggered_at=at, scheduled_at=at)
        return Response(200, _encode(answer))

    async def history(self, request: Request) -> Response:
        """List the newest runs of a schedule."""
        limit = Query(request.query_string).clamped("limit", _RUNS, 1, limits.SCHEDULE_RUNS_MAX)
        runs = await self._schedules.history(request.principal, _id(request), limit=limit)
        return Response(200, _encode([bodies.schedule_run_body(run) for run in runs]))


def _id(request: Request) -> UUID:
    found = parse_id(request.parameters[0])
    if found is None:
        raise NotFound
    return found


def _new(body: bodies.CreateSchedule) -> NewSchedule:
    rules = Rules()
    rules.queue_name("queue_name", body.queue_name)
    tags, metadata = _common_rules(rules, body)
    rules.enforce()
    payload = str(body.payload_template, "utf-8")
    return NewSchedule(
        name=body.name,
        cron=body.cron_expression,
        queue=body.queue_name,
        payload=payload,
        timezone="UTC" if body.timezone is None else body.timezone,
        job_type=job_type_of(payload),
        description=body.description,
        priority=0 if body.priority is None else body.priority,
        max_retries=3 if body.max_retries is None else body.max_retries,
        timeout_seconds=300 if body.timeout_seconds is None else body.timeout_seconds,
        tags=tags,
        metadata=metadata,
    )


def _change(body: bodies.UpdateSchedule) -> ScheduleChange:
    rules = Rules()
    tags, metadata = _common_rules(rules, body)
    rules.enforce()
    payload = json_text(body.payload_template)
    return ScheduleChange(
        name=body.name,
        description=body.description,
        cron=body.cron_expression,
        timezone=body.timezone,
        payload=payload,
        job_type=None if payload is None else job_type_of(payload),
        priority=body.priority,
        max_retries=body.max_retries,
        timeout_seconds=body.timeout_seconds,
        tags=tags,
        metadata=metadata,
        is_active=body.is_active,
    )


def _common_rules(
    rules: Rules, body: bodies.CreateSchedule | bodies.UpdateSchedule
) -> tuple[str | None, str | None]:
    """Check what creation and change have in common; return the texts of tags and metadata."""
    rules.text("name", body.name, 1, limits.SCHEDULE_NAME_CHARS_MAX)
    rules.text("description", body.description, 0, limits.SCHEDULE_DESCRIPTION_CHARS_MAX)
    _check_cron(rules, body.cron_expression)
    if body.timezone is not None:
        try:
            find_time_zone(body.timezone)
        except TimeZoneError as error:
            rules.refuse("timezone", str(error), "INVALID_TIMEZONE")
    rules.integer("priority", body.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    rules.integer("max_retries", body.max_retries, 0, limits.MAX_RETRIES_MAX)
    rules.integer("timeout_seconds", body.timeout_seconds, 1, limits.TIMEOUT_SECONDS_MAX)
    return (
        rules.json_text("tags", body.tags, limits.TAGS_BYTES_MAX),
        rules.json_text("metadata", body.metadata, limits.METADATA_BYTES_MAX),
    )


def _check_cron(rules: Rules, text: str | None) -> None:
    if text is None:
        return
    if not limits.CRON_CHARS_MIN <= len(text) <= limits.CRON_CHARS_MAX:
        rules.text("cron_expression", text, limits.CRON_CHARS_MIN, limits.CRON_CHARS_MAX)
        return
    try:
        parse_cron(text)
    except CronError as error:
        rules.refuse("cron_expression", str(error), "INVALID_CRON")
