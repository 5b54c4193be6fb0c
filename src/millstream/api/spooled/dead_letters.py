"""Dead letters: list, retry, purge. Contract: spooled-jobs 3.16 to 3.18."""

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.query import Query
from millstream.api.spooled import answers, requests
from millstream.api.spooled.listing import FILTERS, job_filter, page_response
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.translate import job_summary
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, BadRequest, QuotaExceeded
from millstream.domain.ids import parse_id
from millstream.domain.job import DeadSelection, JobState, Revived
from millstream.engine.engine import Engine

_RETRY = Body(requests.RetryDead, required=False)
_PURGE = Body(requests.PurgeDead)
_encode = msgspec.json.Encoder().encode


class DeadLetterEndpoints:
    """`/jobs/dlq`."""

    def __init__(self, engine: Engine) -> None:
        self._jobs = engine.jobs

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/api/v1/jobs/dlq",
                handler=self.list,
                summary="List dead letters",
                tag="dead letters",
                query=FILTERS,
                answers={200: list[answers.JobSummary]},
                errors=(BadRequest,),
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/dlq/retry",
                handler=self.retry,
                summary="Retry dead letters with a fresh count of attempts, oldest first",
                tag="dead letters",
                body=_RETRY,
                answers={200: answers.DeadRetried},
                errors=(AccessDenied, BadRequest, QuotaExceeded),
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/dlq/purge",
                handler=self.purge,
                summary="Delete dead letters for good, oldest first",
                tag="dead letters",
                body=_PURGE,
                answers={200: answers.DeadPurged},
                errors=(AccessDenied, BadRequest),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List dead letters, with their payloads."""
        wanted = job_filter(Query(request.query_string), request.principal, (JobState.DEAD,))
        page = await self._jobs.list(request.principal, wanted)
        return page_response(
            [job_summary(job, with_payload=True) for job in page.jobs], has_more=page.has_more
        )

    async def retry(self, request: Request) -> Response:
        """Retry the named dead letters, or the oldest ones of a queue or of all."""
        body = _RETRY.read(request.body)
        selection = _retried(body, request.principal.visible_queues)
        revived = Revived([], [])
        # Ids that no job can have select nothing, not everything.
        if selection.job_ids != ():
            revived = await self._jobs.retry_dead(request.principal, selection)
        ids = revived.job_ids
        return Response(200, _encode(answers.DeadRetried(len(ids), ids, ids, revived.skipped)))

    async def purge(self, request: Request) -> Response:
        """Delete dead letters, when that is confirmed."""
        body = _PURGE.read(request.body)
        rules = Rules()
        if body.queue_name is not None:
            rules.queue_name("queue_name", body.queue_name)
        rules.integer("limit", body.limit, 1, limits.DEAD_PURGE_JOBS_MAX)
        older_than = rules.timestamp("older_than", body.older_than)
        rules.enforce()
        if not body.confirm:
            raise BadRequest("confirm must be true")
        selection = DeadSelection(
            queues=request.principal.visible_queues,
            queue=body.queue_name,
            created_before=older_than,
            limit=limits.DEAD_PURGE_JOBS_MAX if body.limit is None else body.limit,
        )
        purged = await self._jobs.purge_dead(request.principal, selection)
        return Response(200, _encode(answers.DeadPurged(purged)))


def _retried(body: requests.RetryDead, visible_queues: tuple[str, ...] | None) -> DeadSelection:
    if body.job_ids is not None:
        if len(body.job_ids) > limits.DEAD_RETRY_JOBS_MAX:
            raise BadRequest(f"job_ids must have at most {limits.DEAD_RETRY_JOBS_MAX} items")
        ids = dict.fromkeys(job_id for word in body.job_ids if (job_id := parse_id(word)) is not None)
        return DeadSelection(job_ids=tuple(ids), queues=visible_queues, limit=limits.DEAD_RETRY_JOBS_MAX)
    rules = Rules()
    if body.queue_name is not None:
        rules.queue_name("queue_name", body.queue_name)
    rules.integer("limit", body.limit, 1, limits.DEAD_RETRY_JOBS_MAX)
    rules.enforce()
    limit = limits.DEAD_RETRY_JOBS_MAX if body.limit is None else body.limit
    return DeadSelection(queues=visible_queues, queue=body.queue_name, limit=limit)
