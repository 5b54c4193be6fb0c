"""Creating jobs, one by one and in bulk. Contract: spooled-jobs 3.1, 3.9."""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled import answers, requests
from millstream.api.spooled.rules import Rules, size_bytes
from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    BadRequest,
    InvalidField,
    MillstreamError,
    PayloadTooLarge,
    QuotaExceeded,
    Unavailable,
)
from millstream.domain.ids import parse_id
from millstream.domain.job import NewJob
from millstream.domain.problems import message_of
from millstream.domain.tenant import Principal
from millstream.domain.webhook_url import refusal_of_url
from millstream.engine.engine import Engine

# Longer ones are no types but data; the name is kept in a dictionary of few distinct values.
_JOB_TYPE_CHARS_MAX = 255

_CREATE = Body(requests.CreateJob)
_CREATE_MANY = Body(requests.CreateJobs)
_encode = msgspec.json.Encoder().encode


class EnqueueEndpoints:
    """`POST /jobs` and `POST /jobs/bulk`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._jobs = engine.jobs
        self._settings = settings

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        errors = (AccessDenied, BadRequest, PayloadTooLarge, QuotaExceeded, Unavailable)
        return [
            Endpoint(
                method="POST",
                path="/api/v1/jobs",
                handler=self.create,
                summary="Create a job; 200 when the idempotency key is known already",
                tag="jobs",
                body=_CREATE,
                answers={201: answers.Created, 200: answers.Created},
                errors=errors,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/jobs/bulk",
                handler=self.create_many,
                summary="Create up to 100 jobs of one queue",
                tag="jobs",
                body=_CREATE_MANY,
                answers={200: answers.BulkCreated},
                errors=errors,
                hot=True,
            ),
        ]

    async def create(self, request: Request) -> Response:
        """Create one job."""
        body = _CREATE.read(request.body)
        principal = request.principal
        job = self._new_job(body, request.headers.get(b"idempotency-key"), principal)
        enqueued = await self._jobs.enqueue(principal, job)
        answer = answers.Created(enqueued.id, enqueued.created)
        return Response(201 if enqueued.created else 200, _encode(answer))

    async def create_many(self, request: Request) -> Response:
        """Create what breaks no rule of the given jobs, all of it or nothing."""
        body = _CREATE_MANY.read(request.body)
        _check_bulk(body)
        failed: list[answers.BulkFailed] = []
        indexes: list[int] = []
        jobs: list[NewJob] = []
        for index, item in enumerate(body.jobs):
            try:
                jobs.append(self._bulk_job(body, item))
                indexes.append(index)
            except (InvalidField, PayloadTooLarge) as error:
                failed.append(answers.BulkFailed(index, error.message))
        succeeded: list[answers.BulkSucceeded] = []
        outcomes = await self._jobs.enqueue_many(request.principal, jobs) if jobs else []
        for index, outcome in zip(indexes, outcomes, strict=True):
            if isinstance(outcome, MillstreamError):
                failed.append(answers.BulkFailed(index, message_of(outcome)))
            else:
                succeeded.append(answers.BulkSucceeded(index, outcome.id, outcome.created))
        failed.sort(key=lambda failure: failure.index)
        answer = answers.BulkCreated(succeeded, failed, len(body.jobs), len(succeeded), len(failed))
        return Response(200, _encode(answer))

    def _new_job(
        self, body: requests.CreateJob, idempotency_header: bytes | None, principal: Principal
    ) -> NewJob:
        rules = Rules()
        rules.queue_name("queue_name", body.queue_name)
        rules.integer("priority", body.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
        rules.integer("max_retries", body.max_retries, 0, limits.MAX_RETRIES_MAX)
        rules.integer("timeout_seconds", body.timeout_seconds, 1, limits.TIMEOUT_SECONDS_MAX)
        run_at = rules.timestamp("scheduled_at", body.scheduled_at)
        expires_at = rules.timestamp("expires_at", body.expires_at)
        key = body.idempotency_key or _header_text(rules, idempotency_header)
        rules.text("idempotency_key", key, 0, limits.IDEMPOTENCY_KEY_CHARS_MAX)
        tags = rules.json_text("tags", body.tags, limits.TAGS_BYTES_MAX)
        secret = body.completion_webhook_secret
        rules.text("completion_webhook_secret", secret, 0, limits.WEBHOOK_SECRET_CHARS_MAX)
        if body.completion_webhook is not None:
            refusal = refusal_of_url(body.completion_webhook, production=self._settings.production)
            if refusal is not None:
                rules.refuse("completion_webhook", refusal, "INVALID_URL")
        rules.enforce()
        parent_job_id = None
        if body.parent_job_id is not None:
            parent_job_id = parse_id(body.parent_job_id)
            if parent_job_id is None:
                raise BadRequest("The parent job does not exist")
        payload = self._payload(body.payload, principal)
        return NewJob(
            queue=body.queue_name,
            payload=payload,
            job_type=job_type_of(payload),
            priority=body.priority or 0,
            max_retries=body.max_retries,
            timeout_seconds=body.timeout_seconds,
            run_at=run_at,
            expires_at=expires_at,
            idempotency_key=key or None,
            tags=tags,
            parent_job_id=parent_job_id,
            completion_webhook=body.completion_webhook,
            completion_webhook_secret=secret,
        )

    def _bulk_job(self, body: requests.CreateJobs, item: requests.BulkItem) -> NewJob:
        rules = Rules()
        rules.integer("priority", item.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
        run_at = rules.timestamp("scheduled_at", item.scheduled_at)
        rules.text("idempotency_key", item.idempotency_key, 0, limits.IDEMPOTENCY_KEY_CHARS_MAX)
        rules.enforce()
        payload = self._payload(item.payload, None)
        priority = item.priority if item.priority is not None else body.default_priority
        return NewJob(
            queue=body.queue_name,
            payload=payload,
            job_type=job_type_of(payload),
            priority=priority or 0,
            max_retries=body.default_max_retries,
            timeout_seconds=body.default_timeout_seconds,
            run_at=run_at,
            idempotency_key=item.idempotency_key or None,
        )

    def _payload(self, payload: Raw, principal: Principal | None) -> str:
        """Return the payload's text. The plan's own limit is the engine's to check."""
        size = size_bytes(payload)
        limit = self._settings.payload_bytes_max
        if size > limit:
            plan = None if principal is None else principal.plan
            if plan is not None and plan.max_payload_size_bytes <= limit:
                raise PayloadTooLarge(
                    f"The payload is larger than {plan.max_payload_size_bytes} bytes",
                    current=size,
                    limit=plan.max_payload_size_bytes,
                    plan=plan.tier,
                )
            raise PayloadTooLarge(f"The payload is larger than {limit} bytes", current=size, limit=limit)
        return str(payload, "utf-8")


def _check_bulk(body: requests.CreateJobs) -> None:
    rules = Rules()
    rules.queue_name("queue_name", body.queue_name)
    if not 1 <= len(body.jobs) <= limits.BULK_JOBS_MAX:
        rules.refuse("jobs", f"must have 1 to {limits.BULK_JOBS_MAX} items", "INVALID_LENGTH")
    rules.integer("default_priority", body.default_priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    rules.integer("default_max_retries", body.default_max_retries, 0, limits.MAX_RETRIES_MAX)
    rules.integer("default_timeout_seconds", body.default_timeout_seconds, 1, limits.TIMEOUT_SECONDS_MAX)
    rules.enforce()


def _header_text(rules: Rules, value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        rules.refuse("Idempotency-Key", "must be UTF-8", "INVALID_FORMAT")
        return None


class _Typed(Struct, gc=False):
    job_type: requests.Opaque = UNSET


_decode_typed = msgspec.json.Decoder(_Typed).decode
_decode_text = msgspec.json.Decoder(str).decode


def job_type_of(payload: str) -> str:
    """Return the string at `job_type` of a JSON payload, "" when there is none. Contract: spooled-jobs 2.2."""
    # Only an escape can hide the key from a plain search.
    if ('"job_type"' not in payload and "\\u" not in payload) or not payload.startswith("{"):
        return ""
    job_type = _decode_typed(payload).job_type
    if isinstance(job_type, UnsetType) or not bytes(job_type).startswith(b'"'):
        return ""
    return _decode_text(job_type)[:_JOB_TYPE_CHARS_MAX]
