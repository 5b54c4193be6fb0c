"""What jobs wait for. Contract: spooled-jobs 7.5."""

from uuid import UUID

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.spooled import workflow_bodies as bodies
from millstream.domain import limits
from millstream.domain.errors import BadRequest, Conflict, FieldProblem, InvalidField, InvalidShape, NotFound
from millstream.domain.ids import parse_id
from millstream.domain.job import DependencyMode
from millstream.engine.engine import Engine

_ADD = Body(bodies.AddDependencies)
_PATH = "/api/v1/jobs/{job_id}/dependencies"


class DependencyEndpoints:
    """`/jobs/{id}/dependencies`."""

    def __init__(self, engine: Engine) -> None:
        self._dependencies = engine.dependencies

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path=_PATH,
                handler=self.get,
                summary="Tell what a job waits for, and what waits for it",
                tag="jobs",
                answers={200: bodies.DependenciesBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="POST",
                path=_PATH,
                handler=self.add,
                summary="Make a job that has not begun wait for others too",
                tag="jobs",
                body=_ADD,
                answers={200: bodies.DependenciesAddedBody},
                errors=(NotFound, Conflict, BadRequest),
            ),
        ]

    async def get(self, request: Request) -> Response:
        """Tell what a job waits for."""
        found = await self._dependencies.get(request.principal, _job_id(request.parameters[0]))
        return Response(200, msgspec.json.encode(bodies.dependencies_body(found)))

    async def add(self, request: Request) -> Response:
        """Make a job wait for others too."""
        body = _ADD.read(request.body)
        words = _given(body)
        job_id = _job_id(request.parameters[0])
        added = await self._dependencies.add(
            request.principal,
            job_id,
            [_job_id(word) for word in words],
            DependencyMode.ANY if body.dependency_mode == "any" else DependencyMode.ALL,
        )
        return Response(200, msgspec.json.encode(bodies.dependencies_added_body(job_id, added)))


def _given(body: bodies.AddDependencies) -> list[str]:
    for words in (body.depends_on, body.depends_on_job_ids, body.dependency_job_ids):
        if words is None:
            continue
        if not 1 <= len(words) <= limits.DEPENDENCIES_ADDED_MAX:
            message = f"must have 1 to {limits.DEPENDENCIES_ADDED_MAX} items"
            raise InvalidField([FieldProblem("depends_on", message, "INVALID_LENGTH")])
        return words
    raise InvalidShape([FieldProblem("depends_on", "is required", "REQUIRED")])


def _job_id(word: str) -> UUID:
    job_id = parse_id(word)
    if job_id is None:
        raise NotFound
    return job_id
