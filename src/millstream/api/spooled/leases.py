"""Work under a lease: claim, renew, complete, fail, settle. Contract: spooled-jobs 3.11 to 3.15."""

from functools import partial
from uuid import UUID

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.disconnect import unless_disconnected
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import answers, requests
from millstream.api.spooled.rules import Rules, json_text, size_bytes, without_controls
from millstream.api.spooled.translate import claimed_job
from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    Conflict,
    FieldProblem,
    InvalidField,
    InvalidShape,
    LeaseExpired,
    MillstreamError,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from millstream.domain.ids import parse_id
from millstream.domain.job import ClaimRequest, Completion, Failure, Lease, Release, Renewal
from millstream.domain.problems import message_of, problem_of
from millstream.engine.engine import Engine

_LEASE_SECONDS = 30
_ACTIONS = frozenset({"complete", "fail", "release"})

_CLAIM = Body(requests.Claim)
_COMPLETE = Body(requests.Complete)
_FAIL = Body(requests.Fail)
_RENEW = Body(requests.Renew)
_SETTLE = Body(requests.Settle)
_encode = msgspec.json.Encoder().encode
_NOTHING_CLAIMED = Response(200, b'{"jobs":[]}')
_SUCCESS = Response(200, b'{"success":true}')


class LeaseEndpoints:
    """What workers call for every job."""

    def __init__(self, engine: Engine) -> None:
        self._jobs = engine.jobs

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        fenced = (NotFound, Conflict, LeaseExpired, PayloadTooLarge, Unavailable)
        return [
            Endpoint(
                method="POST",
                path="/api/v1/jobs/claim",
                handler=self.claim,
                summary="Claim up to 100 jobs of a queue, waiting up to 25 seconds for the first",
                tag="jobs",
                body=_CLAIM,
                answers={200: answers.Claimed},
                errors=(AccessDenied, Unavailable),
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/settle",
                handler=self.settle,
                summary="Complete, fail or release up to 1,000 jobs, each by itself",
                tag="jobs",
                body=_SETTLE,
                answers={200: answers.SettledAll},
                errors=(Unavailable,),
                extension=True,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/{job_id}/complete",
                handler=self.complete,
                summary="Record that a job succeeded",
                tag="jobs",
                body=_COMPLETE,
                answers={200: answers.Success},
                errors=fenced,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/{job_id}/fail",
                handler=self.fail,
                summary="Record that an attempt failed",
                tag="jobs",
                body=_FAIL,
                answers={200: answers.FailRecorded},
                errors=fenced,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/{job_id}/heartbeat",
                handler=self.renew,
                summary="Move the end of a lease",
                tag="jobs",
                body=_RENEW,
                answers={200: answers.Renewed},
                errors=fenced,
                hot=True,
            ),
        ]

    async def claim(self, request: Request) -> Response:
        """Claim jobs; a client that goes away before its answer gets none."""
        body = _CLAIM.read(request.body)
        rules = Rules()
        rules.queue_name("queue_name", body.queue_name)
        rules.text("worker_id", body.worker_id, 1, limits.WORKER_ID_CHARS_MAX)
        rules.integer("limit", body.limit, 1, limits.CLAIM_JOBS_MAX)
        lease_seconds = body.lease_duration_secs
        rules.integer(
            "lease_duration_secs", lease_seconds, limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX
        )
        rules.integer("wait_seconds", body.wait_seconds, 0, limits.CLAIM_WAIT_SECONDS_MAX)
        rules.enforce()
        wish = ClaimRequest(
            queue=body.queue_name,
            worker_id=without_controls(body.worker_id),
            limit=1 if body.limit is None else body.limit,
            lease_seconds=_LEASE_SECONDS if lease_seconds is None else lease_seconds,
        )
        if body.wait_seconds:
            claiming = self._jobs.claim(request.principal, wish, wait_seconds=body.wait_seconds)
            jobs = await unless_disconnected(request.receive, claiming)
        else:
            jobs = await self._jobs.claim(request.principal, wish)
        if not jobs:
            return _NOTHING_CLAIMED
        return Response(
            200,
            _encode(answers.Claimed([claimed_job(job) for job in jobs])),
            undelivered=partial(self._jobs.give_back, request.principal, jobs),
        )

    async def complete(self, request: Request) -> Response:
        """Record a success."""
        body = _COMPLETE.read(request.body)
        rules = Rules()
        rules.text("worker_id", body.worker_id, 1, limits.WORKER_ID_CHARS_MAX)
        rules.enforce()
        result = _result(body.result)
        lease = _lease(request.parameters[0], body.worker_id, body.lease_id)
        await self._jobs.complete(request.principal, Completion(lease=lease, result=result))
        return _SUCCESS

    async def fail(self, request: Request) -> Response:
        """Record a failure, and say whether the job runs again."""
        body = _FAIL.read(request.body)
        rules = Rules()
        rules.text("worker_id", body.worker_id, 1, limits.WORKER_ID_CHARS_MAX)
        rules.text("error", body.error, 1, limits.ERROR_CHARS_MAX)
        rules.integer("retry_in_seconds", body.retry_in_seconds, 0, limits.RETRY_IN_SECONDS_MAX)
        rules.enforce()
        lease = _lease(request.parameters[0], body.worker_id, body.lease_id)
        error = without_controls(body.error)
        failure = Failure(lease=lease, error=error, retry_in_seconds=body.retry_in_seconds)
        failed = await self._jobs.fail(request.principal, failure)
        delay = failed.retry_in_seconds
        return Response(200, _encode(answers.FailRecorded(True, delay is not None, delay or 0)))

    async def renew(self, request: Request) -> Response:
        """Move the end of a lease."""
        body = _RENEW.read(request.body)
        seconds = body.lease_duration_secs
        rules = Rules()
        rules.text("worker_id", body.worker_id, 1, limits.WORKER_ID_CHARS_MAX)
        rules.integer("lease_duration_secs", seconds, limits.LEASE_SECONDS_MIN, limits.LEASE_SECONDS_MAX)
        rules.enforce()
        lease = _lease(request.parameters[0], body.worker_id, body.lease_id)
        renewal = Renewal(lease=lease, seconds=_LEASE_SECONDS if seconds is None else seconds)
        expires_at = await self._jobs.renew(request.principal, renewal)
        return Response(
            200, b'{"success":true,"lease_expires_at":"%b"}' % format_timestamp(expires_at).encode()
        )

    async def settle(self, request: Request) -> Response:
        """Settle many jobs; what is wrong with one item is its own result."""
        body = _SETTLE.read(request.body)
        _check_items(body)
        rules = Rules()
        if not 1 <= len(body.items) <= limits.SETTLE_ITEMS_MAX:
            rules.refuse("items", f"must have 1 to {limits.SETTLE_ITEMS_MAX} items", "INVALID_LENGTH")
        rules.text("worker_id", body.worker_id, 1, limits.WORKER_ID_CHARS_MAX)
        rules.enforce()
        outcomes: list[MillstreamError | None] = [None] * len(body.items)
        indexes: list[int] = []
        settlements: list[Completion | Failure | Release] = []
        for index, item in enumerate(body.items):
            try:
                settlements.append(_settlement(item, body.worker_id))
                indexes.append(index)
            except (InvalidField, NotFound, PayloadTooLarge) as error:
                outcomes[index] = error
        if settlements:
            settled = await self._jobs.settle(request.principal, settlements)
            for index, outcome in zip(indexes, settled, strict=True):
                outcomes[index] = outcome if isinstance(outcome, MillstreamError) else None
        results = [_settled(item.job_id, outcome) for item, outcome in zip(body.items, outcomes, strict=True)]
        failures = sum(outcome is not None for outcome in outcomes)
        return Response(200, _encode(answers.SettledAll(results, len(results) - failures, failures)))


def _lease(job_id: str, worker_id: str, lease_id: str | None) -> Lease:
    """Return the lease that a worker presents. Raises NotFound for a job id that no job can have.

    Without a lease id the worker id is the fence, whatever the lease's end (ruling R7).
    """
    job = parse_id(job_id)
    if job is None:
        raise NotFound
    mismatch = False
    presented: UUID | None = None
    if lease_id:
        presented = parse_id(lease_id)
        if presented is None:
            mismatch = True
    return Lease(job_id=job, worker_id=without_controls(worker_id), lease_id=presented, mismatch=mismatch)


def _result(result: requests.Opaque) -> str | None:
    text = json_text(result)
    if text is not None and size_bytes(result) > limits.RESULT_BYTES_MAX:
        raise PayloadTooLarge(f"The result is larger than {limits.RESULT_BYTES_MAX} bytes")
    return text


def _check_items(body: requests.Settle) -> None:
    """Raise InvalidShape for items that lack what their action needs."""
    problems: list[FieldProblem] = []
    for index, item in enumerate(body.items):
        if item.worker_id is None and body.worker_id is None:
            problems.append(FieldProblem(f"items[{index}].worker_id", "is required", "REQUIRED"))
        if item.error is None and item.action == "fail":
            problems.append(FieldProblem(f"items[{index}].error", "is required", "REQUIRED"))
    if problems:
        raise InvalidShape(problems)


def _settlement(item: requests.SettleItem, default_worker_id: str | None) -> Completion | Failure | Release:
    rules = Rules()
    worker_id = default_worker_id if item.worker_id is None else item.worker_id
    rules.text("worker_id", worker_id, 1, limits.WORKER_ID_CHARS_MAX)
    if item.action not in _ACTIONS:
        rules.refuse("action", "must be complete, fail or release", "INVALID_VALUE")
    rules.text("error", item.error, 1, limits.ERROR_CHARS_MAX)
    rules.integer("retry_in_seconds", item.retry_in_seconds, 0, limits.RETRY_IN_SECONDS_MAX)
    rules.enforce()
    lease = _lease(item.job_id, worker_id or "", item.lease_id)
    if item.action == "fail":
        error = without_controls(item.error or "")
        return Failure(lease=lease, error=error, retry_in_seconds=item.retry_in_seconds)
    if item.action == "release":
        return Release(lease=lease)
    return Completion(lease=lease, result=_result(item.result))


def _settled(job_id: str, outcome: MillstreamError | None) -> answers.Settled:
    if outcome is None:
        return answers.Settled(job_id, True)
    return answers.Settled(job_id, False, problem_of(type(outcome)).code, message_of(outcome))
