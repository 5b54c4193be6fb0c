"""Workflows: create, look up, cancel, retry. Contract: spooled-jobs 7.1 to 7.4, 7.6."""

import re
from uuid import UUID

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled import workflow_bodies as bodies
from millstream.api.spooled.enqueue import job_type_of
from millstream.api.spooled.listing import PAGE
from millstream.api.spooled.rules import Rules, size_bytes
from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    BadRequest,
    Conflict,
    FeatureDisabled,
    FieldProblem,
    InvalidField,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    Unavailable,
)
from millstream.domain.ids import parse_id
from millstream.domain.job import DependencyMode, NewJob
from millstream.domain.workflow import NewStep, NewWorkflow
from millstream.engine.engine import Engine

_CREATE = Body(bodies.CreateWorkflow)
_encode = msgspec.json.Encoder().encode
_PAGE_ROWS = 50
_NAME = re.compile(rf"[A-Za-z0-9 \-_.()]{{1,{limits.WORKFLOW_NAME_CHARS_MAX}}}")
_KEY = re.compile(rf"[A-Za-z0-9\-_]{{1,{limits.WORKFLOW_KEY_CHARS_MAX}}}")


class WorkflowEndpoints:
    """`/workflows`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._workflows = engine.workflows
        self._settings = settings

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [*self._whole(), *self._jobs()]

    def _whole(self) -> list[Endpoint]:
        path = "/api/v1/workflows/{workflow_id}"
        return [
            Endpoint(
                method="POST",
                path="/api/v1/workflows",
                handler=self.create,
                summary="Create a workflow with all its jobs, or nothing of it",
                tag="workflows",
                body=_CREATE,
                answers={201: bodies.WorkflowCreated},
                errors=(
                    AccessDenied,
                    BadRequest,
                    FeatureDisabled,
                    PayloadTooLarge,
                    QuotaExceeded,
                    Unavailable,
                ),
            ),
            Endpoint(
                method="GET",
                path="/api/v1/workflows",
                handler=self.list,
                summary="List workflows, the newest first",
                tag="workflows",
                query=(
                    Parameter(name="status", description=", ".join(bodies.STATUSES)),
                    *PAGE,
                ),
                answers={200: list[bodies.WorkflowBody]},
                errors=(BadRequest,),
            ),
            Endpoint(
                method="GET",
                path=path,
                handler=self.get,
                summary="Get a workflow with its jobs and what they wait for",
                tag="workflows",
                answers={200: bodies.WorkflowDetailBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/cancel",
                handler=self.cancel,
                summary="Cancel a workflow and those of its jobs that nobody works on",
                tag="workflows",
                answers={200: bodies.WorkflowBody},
                errors=(NotFound, Conflict),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/retry",
                handler=self.retry,
                summary="Retry the failed jobs of a failed workflow",
                tag="workflows",
                answers={200: bodies.WorkflowBody},
                errors=(NotFound, BadRequest, QuotaExceeded),
            ),
        ]

    def _jobs(self) -> list[Endpoint]:
        path = "/api/v1/workflows/{workflow_id}/jobs"
        return [
            Endpoint(
                method="GET",
                path=path,
                handler=self.list_jobs,
                summary="List the jobs of a workflow in the order of its definition",
                tag="workflows",
                answers={200: list[bodies.StepBody]},
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                path=f"{path}/status",
                handler=self.list_job_statuses,
                summary="Tell how the jobs of a workflow stand",
                tag="workflows",
                answers={200: list[bodies.StepStatusBody]},
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                path=f"{path}/{{job_id}}",
                handler=self.get_job,
                summary="Get one job of a workflow",
                tag="workflows",
                answers={200: bodies.StepBody},
                errors=(NotFound,),
            ),
        ]

    async def create(self, request: Request) -> Response:
        """Create a workflow."""
        body = _CREATE.read(request.body)
        created = await self._workflows.create(request.principal, self._new_workflow(body))
        ids = [
            bodies.StepCreated(step.key, job_id)
            for step, job_id in zip(body.jobs, created.job_ids, strict=True)
        ]
        answer = bodies.WorkflowCreated(
            workflow_id=created.id, id=created.id, name=body.name, status="pending", job_ids=ids
        )
        return Response(201, _encode(answer))

    async def list(self, request: Request) -> Response:
        """List workflows; a status that nobody knows is no filter."""
        query = Query(request.query_string)
        page = await self._workflows.list(
            request.principal,
            status=bodies.STATUSES.get(query.text("status") or ""),
            limit=query.clamped("limit", _PAGE_ROWS, 1, limits.PAGE_ROWS_MAX),
            offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
        )
        rows = [bodies.workflow_body(workflow, request.principal) for workflow in page]
        return Response(200, _encode(rows))

    async def get(self, request: Request) -> Response:
        """Get a workflow with its jobs and what they wait for."""
        detail = await self._workflows.detail(request.principal, _workflow_id(request))
        return Response(200, _encode(bodies.workflow_detail_body(detail, request.principal)))

    async def cancel(self, request: Request) -> Response:
        """Cancel a workflow."""
        workflow = await self._workflows.cancel(request.principal, _workflow_id(request))
        return Response(200, _encode(bodies.workflow_body(workflow, request.principal)))

    async def retry(self, request: Request) -> Response:
        """Retry a failed workflow."""
        workflow = await self._workflows.retry(request.principal, _workflow_id(request))
        return Response(200, _encode(bodies.workflow_body(workflow, request.principal)))

    async def list_jobs(self, request: Request) -> Response:
        """List the jobs of a workflow."""
        detail = await self._workflows.detail(request.principal, _workflow_id(request))
        return Response(200, _encode(bodies.step_bodies(detail, request.principal)))

    async def list_job_statuses(self, request: Request) -> Response:
        """Tell how the jobs of a workflow stand."""
        detail = await self._workflows.detail(request.principal, _workflow_id(request))
        return Response(200, _encode(bodies.step_status_bodies(detail)))

    async def get_job(self, request: Request) -> Response:
        """Get one job of a workflow."""
        workflow_id = _workflow_id(request)
        job_id = parse_id(request.parameters[1])
        detail = await self._workflows.detail(request.principal, workflow_id)
        for step in bodies.step_bodies(detail, request.principal):
            if step.id == job_id:
                return Response(200, _encode(step))
        raise NotFound

    def _new_workflow(self, body: bodies.CreateWorkflow) -> NewWorkflow:
        rules = Rules()
        rules.pattern(
            "name",
            body.name,
            _NAME,
            f"must have 1 to {limits.WORKFLOW_NAME_CHARS_MAX} letters, digits, spaces or characters of -_.()",
        )
        rules.text("description", body.description, 0, limits.WORKFLOW_DESCRIPTION_CHARS_MAX)
        metadata = rules.json_text("metadata", body.metadata, limits.METADATA_BYTES_MAX)
        if len(body.jobs) > limits.WORKFLOW_JOBS_MAX:
            rules.refuse("jobs", f"must have at most {limits.WORKFLOW_JOBS_MAX} items", "INVALID_LENGTH")
        rules.enforce()
        problems = list(rules.problems)
        for place, step in enumerate(body.jobs):
            problems += _problems_of(step, place)
            if len(problems) >= limits.PROBLEMS_MAX:
                break
        if problems:
            raise InvalidField(problems[: limits.PROBLEMS_MAX])
        return NewWorkflow(
            name=body.name,
            description=body.description,
            metadata=metadata,
            steps=tuple(self._new_step(step) for step in body.jobs),
        )

    def _new_step(self, step: bodies.CreateStep) -> NewStep:
        payload = _typed(str(step.payload, "utf-8"), step.job_type)
        size, limit = size_bytes(step.payload), self._settings.payload_bytes_max
        if size > limit:
            raise PayloadTooLarge(
                f"The payload of {step.key} is larger than {limit} bytes", current=size, limit=limit
            )
        return NewStep(
            key=step.key,
            depends_on=tuple(step.depends_on or ()),
            mode=DependencyMode.ANY if step.dependency_mode == "any" else DependencyMode.ALL,
            job=NewJob(
                queue=step.queue_name,
                payload=payload,
                job_type=job_type_of(payload),
                priority=step.priority or 0,
                max_retries=step.max_retries,
                timeout_seconds=step.timeout_seconds,
            ),
        )


def _problems_of(step: bodies.CreateStep, place: int) -> list[FieldProblem]:
    rules = Rules(f"jobs[{place}].")
    rules.pattern(
        "key",
        step.key,
        _KEY,
        f"must have 1 to {limits.WORKFLOW_KEY_CHARS_MAX} letters, digits, '-' or '_'",
    )
    rules.queue_name("queue_name", step.queue_name)
    rules.integer("priority", step.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    rules.integer("max_retries", step.max_retries, 0, limits.MAX_RETRIES_MAX)
    rules.integer("timeout_seconds", step.timeout_seconds, 1, limits.TIMEOUT_SECONDS_MAX)
    return rules.problems


def _typed(payload: str, job_type: str | None) -> str:
    """Return `payload` with `job_type` in it, if it is an object without one."""
    if job_type is None or not payload.startswith("{"):
        return payload
    given = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    if "job_type" in given:
        return payload
    head = '{"job_type":' + msgspec.json.encode(job_type).decode()
    return head + (("," + payload[1:]) if given else "}")


def _workflow_id(request: Request) -> UUID:
    workflow_id = parse_id(request.parameters[0])
    if workflow_id is None:
        raise NotFound
    return workflow_id
