"""Jobs: look up, cancel, retry, change. Contract: spooled-jobs 3.2 to 3.10, 3.20."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.spooled import answers, requests
from millstream.api.spooled.listing import FILTERS, PAGE, job_filter, page_response
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.translate import STATES_OF_WORD, history_event, job_body, job_status, job_summary
from millstream.domain import limits
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.ids import parse_id
from millstream.domain.job import JobState, JobStatus
from millstream.engine.engine import Engine

_HISTORY_ROWS = 100

_PRIORITY = Body(requests.SetPriority)
_encode = msgspec.json.Encoder().encode
_SUCCESS = Response(200, b'{"success":true}')


class JobEndpoints:
    """Single jobs by id, lists and counts."""

    def __init__(self, engine: Engine) -> None:
        self._jobs = engine.jobs

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [*self._collection(), *self._single()]

    def _collection(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/api/v1/jobs",
                handler=self.list,
                summary="List jobs",
                tag="jobs",
                query=(Parameter(name="status", description="one or several, joined by commas"), *FILTERS),
                answers={200: list[answers.JobSummary]},
                errors=(BadRequest,),
            ),
            Endpoint(
                method="GET",
                path="/api/v1/jobs/stats",
                handler=self.stats,
                summary="Count jobs by status",
                tag="jobs",
                answers={200: answers.JobStats},
            ),
            Endpoint(
                method="GET",
                path="/api/v1/jobs/status",
                handler=self.statuses,
                summary="Look up up to 100 jobs",
                tag="jobs",
                query=(Parameter(name="ids", description="job ids, joined by commas", required=True),),
                answers={200: list[answers.JobStatusBody]},
                errors=(BadRequest,),
            ),
        ]

    def _single(self) -> list[Endpoint]:
        path = "/api/v1/jobs/{job_id}"
        order = Parameter(name="order_dir", description="asc (default) or desc")
        return [
            Endpoint(
                method="GET",
                path=path,
                handler=self.get,
                summary="Get a job",
                tag="jobs",
                answers={200: answers.JobBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="DELETE",
                path=path,
                handler=self.cancel,
                summary="Cancel a job that is pending or scheduled",
                tag="jobs",
                answers={204: None},
                errors=(NotFound, Conflict),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/retry",
                handler=self.retry,
                summary="Retry a job that is out of attempts once more",
                tag="jobs",
                answers={200: answers.JobBody},
                errors=(Conflict,),
            ),
            Endpoint(
                method="PUT",
                path=f"{path}/priority",
                handler=self.set_priority,
                summary="Change the priority of a job that is pending or scheduled",
                tag="jobs",
                body=_PRIORITY,
                answers={200: answers.PriorityChanged},
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                path=f"{path}/history",
                handler=self.history,
                summary="List what happened to a job",
                tag="jobs",
                query=(order, *PAGE),
                answers={200: list[answers.JobHistoryEvent]},
                errors=(NotFound, BadRequest),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/progress",
                handler=self.progress,
                summary="Accept a progress report; nothing is kept of it",
                tag="jobs",
                answers={200: answers.Success},
                errors=(NotFound,),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List jobs."""
        query = Query(request.query_string)
        states = _states(query.text("status"))
        wanted = job_filter(query, request.principal, states)
        if states == ():
            return page_response([], has_more=False)
        page = await self._jobs.list(request.principal, wanted)
        return page_response(
            [job_summary(job, with_payload=False) for job in page.jobs], has_more=page.has_more
        )

    async def stats(self, request: Request) -> Response:
        """Count jobs by status."""
        counts = await self._jobs.counts(request.principal)
        by_word = {
            word: sum(counts.get(state, 0) for state in states) for word, states in STATES_OF_WORD.items()
        }
        return Response(200, _encode(answers.JobStats(**by_word, total=sum(by_word.values()))))

    async def statuses(self, request: Request) -> Response:
        """Look up several jobs, in the order of the request."""
        given = Query(request.query_string).text("ids")
        if given is None:
            raise BadRequest("ids is required")
        words = [word for part in given.split(",") if (word := part.strip())]
        if len(words) > limits.STATUS_IDS_MAX:
            raise BadRequest(f"ids must have at most {limits.STATUS_IDS_MAX} items")
        ids = dict.fromkeys(job_id for word in words if (job_id := parse_id(word)) is not None)
        found: Sequence[JobStatus] = await self._jobs.statuses(request.principal, list(ids)) if ids else []
        return Response(200, _encode([job_status(status) for status in found]))

    async def get(self, request: Request) -> Response:
        """Get a job."""
        job = await self._jobs.get(request.principal, _job_id(request))
        return Response(200, _encode(job_body(job, request.principal)))

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        await self._jobs.cancel(request.principal, _job_id(request))
        return NO_CONTENT

    async def retry(self, request: Request) -> Response:
        """Retry a dead letter. An unknown job is refused with the same words as one in another state."""
        try:
            job = await self._jobs.retry(request.principal, _job_id(request))
        except (NotFound, Conflict):
            raise Conflict("Only failed or dead-lettered jobs can be retried") from None
        return Response(200, _encode(job_body(job, request.principal)))

    async def set_priority(self, request: Request) -> Response:
        """Change the priority of a job that waits."""
        body = _PRIORITY.read(request.body)
        rules = Rules()
        rules.integer("priority", body.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
        rules.enforce()
        job_id = _job_id(request)
        old = await self._jobs.set_priority(request.principal, job_id, body.priority)
        return Response(200, _encode(answers.PriorityChanged(job_id, old, body.priority)))

    async def history(self, request: Request) -> Response:
        """List what happened to a job, oldest first unless asked otherwise."""
        query = Query(request.query_string)
        page = await self._jobs.history(
            request.principal,
            _job_id(request),
            descending=query.text("order_dir") == "desc",
            limit=query.clamped("limit", _HISTORY_ROWS, 1, limits.HISTORY_ROWS_MAX),
            offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
        )
        return page_response([history_event(event) for event in page.events], has_more=page.has_more)

    async def progress(self, request: Request) -> Response:
        """Accept a progress report for a job that exists."""
        await self._jobs.get(request.principal, _job_id(request))
        return _SUCCESS


def _job_id(request: Request) -> UUID:
    job_id = parse_id(request.parameters[0])
    if job_id is None:
        raise NotFound
    return job_id


def _states(words: str | None) -> tuple[JobState, ...] | None:
    """Return the states that a status filter names; unknown words are dropped, none left means no filter."""
    known = [word for part in (words or "").split(",") if (word := part.strip()) in STATES_OF_WORD]
    if not known:
        return None
    return tuple(dict.fromkeys(state for word in known for state in STATES_OF_WORD[word]))
