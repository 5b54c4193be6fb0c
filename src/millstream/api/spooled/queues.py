"""Queues: configuration, statistics, pause. Contract: spooled-jobs 4."""

import msgspec
from msgspec import UNSET

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import answers, requests
from millstream.api.spooled.rules import Rules, queue_in_path
from millstream.api.spooled.translate import queue_config, queue_stats, queue_summary, settings_without_pause
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, BadRequest, Conflict, NotFound, QuotaExceeded
from millstream.domain.queue import QueueChange
from millstream.engine.engine import Engine

_CONFIGURE = Body(requests.ConfigureQueue)
_PAUSE = Body(requests.PauseQueue, required=False)
_encode = msgspec.json.Encoder().encode


class QueueEndpoints:
    """`/queues`."""

    def __init__(self, engine: Engine) -> None:
        self._queues = engine.queues

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [*self._configuration(), *self._operation()]

    def _configuration(self) -> list[Endpoint]:
        path = "/api/v1/queues/{name}"
        configuring = (AccessDenied, BadRequest, QuotaExceeded)
        return [
            Endpoint(
                method="GET",
                path="/api/v1/queues",
                handler=self.list,
                summary="List configured queues",
                tag="queues",
                answers={200: list[answers.QueueSummary]},
            ),
            Endpoint(
                method="GET",
                path=path,
                handler=self.get,
                summary="Get a queue's configuration",
                tag="queues",
                answers={200: answers.QueueConfig},
                errors=(AccessDenied, BadRequest, NotFound),
            ),
            *(
                Endpoint(
                    method="PUT",
                    path=configured,
                    handler=self.configure,
                    summary="Configure a queue; fields that are not given stay as they are",
                    tag="queues",
                    body=_CONFIGURE,
                    answers={200: answers.QueueConfig},
                    errors=configuring,
                )
                for configured in (f"{path}/config", path)
            ),
            Endpoint(
                method="DELETE",
                path=path,
                handler=self.delete,
                summary="Delete a queue's configuration, and its jobs if asked to",
                tag="queues",
                query=(
                    Parameter(name="delete_jobs", kind="boolean", description="delete every job of it too"),
                ),
                answers={204: None},
                errors=(AccessDenied, BadRequest, Conflict, NotFound),
            ),
        ]

    def _operation(self) -> list[Endpoint]:
        path = "/api/v1/queues/{name}"
        return [
            Endpoint(
                method="GET",
                path=f"{path}/stats",
                handler=self.stats,
                summary="Tell what a queue is doing",
                tag="queues",
                answers={200: answers.QueueStatsBody},
                errors=(AccessDenied, BadRequest),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/pause",
                handler=self.pause,
                summary="Stop claims from a queue",
                tag="queues",
                body=_PAUSE,
                answers={200: answers.QueuePaused},
                errors=(AccessDenied, BadRequest, QuotaExceeded),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/resume",
                handler=self.resume,
                summary="Let claims from a queue go on",
                tag="queues",
                answers={200: answers.QueueResumed},
                errors=(AccessDenied, BadRequest, NotFound),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List configured queues."""
        queues = await self._queues.list(request.principal)
        return Response(200, _encode([queue_summary(queue) for queue in queues]))

    async def get(self, request: Request) -> Response:
        """Get a queue's configuration."""
        queue = await self._queues.get(request.principal, queue_in_path(request.parameters[0]))
        return Response(200, _encode(queue_config(queue, request.principal)))

    async def configure(self, request: Request) -> Response:
        """Change what is given of a queue's configuration."""
        name = queue_in_path(request.parameters[0])
        change = _change(_CONFIGURE.read(request.body))
        queue = await self._queues.configure(request.principal, name, change)
        return Response(200, _encode(queue_config(queue, request.principal)))

    async def stats(self, request: Request) -> Response:
        """Tell what a queue is doing."""
        stats = await self._queues.stats(request.principal, queue_in_path(request.parameters[0]))
        return Response(200, _encode(queue_stats(stats)))

    async def pause(self, request: Request) -> Response:
        """Stop claims from a queue."""
        name = queue_in_path(request.parameters[0])
        body = _PAUSE.read(request.body)
        rules = Rules()
        rules.text("reason", body.reason, 0, limits.PAUSE_REASON_CHARS_MAX)
        rules.enforce()
        paused = await self._queues.pause(request.principal, name, body.reason)
        answer = answers.QueuePaused(paused.name, True, format_timestamp(paused.paused_at), paused.reason)
        return Response(200, _encode(answer))

    async def resume(self, request: Request) -> Response:
        """Let claims from a queue go on."""
        resumed = await self._queues.resume(request.principal, queue_in_path(request.parameters[0]))
        return Response(200, _encode(answers.QueueResumed(resumed.name, True, resumed.paused_seconds)))

    async def delete(self, request: Request) -> Response:
        """Delete a queue."""
        name = queue_in_path(request.parameters[0])
        with_jobs = Query(request.query_string).flag("delete_jobs")
        await self._queues.delete(request.principal, name, with_jobs=with_jobs)
        return NO_CONTENT


def _change(body: requests.ConfigureQueue) -> QueueChange:
    rules = Rules()
    rules.integer("max_retries", body.max_retries, 0, limits.MAX_RETRIES_MAX)
    rules.integer("default_timeout", body.default_timeout, 1, limits.TIMEOUT_SECONDS_MAX)
    rules.integer("rate_limit", body.rate_limit, 1, limits.RATE_LIMIT_MAX)
    settings = rules.json_text("settings", body.settings, limits.SETTINGS_BYTES_MAX)
    for field in ("retry_initial_seconds", "retry_max_seconds"):
        seconds = body.retry_initial_seconds if field == "retry_initial_seconds" else body.retry_max_seconds
        rules.integer(field, None if seconds is UNSET else seconds, 1, limits.RETRY_IN_SECONDS_MAX)
    factor = body.retry_factor
    rules.number("retry_factor", None if factor is UNSET else factor, 1, limits.RETRY_FACTOR_MAX)
    rules.enforce()
    return QueueChange(
        max_retries=body.max_retries,
        default_timeout_seconds=body.default_timeout,
        rate_limit=body.rate_limit,
        enabled=body.enabled,
        settings=None if settings is None else settings_without_pause(settings),
        retry_initial_seconds=body.retry_initial_seconds,
        retry_factor=body.retry_factor,
        retry_max_seconds=body.retry_max_seconds,
    )
