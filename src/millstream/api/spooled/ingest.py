"""Incoming webhooks and their log. Contract: spooled-tenancy 11."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Auth, Endpoint, Handler, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.settings import HttpSettings
from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled.enqueue import job_type_of
from millstream.api.spooled.ingest_bodies import (
    CustomWebhook,
    InboundDelivery,
    StripeEvent,
    WebhookAccepted,
)
from millstream.api.spooled.listing import PAGE
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.translate import status_word
from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    AuthenticationFailed,
    BadRequest,
    InvalidField,
    InvalidShape,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    Unavailable,
)
from millstream.domain.ingest import (
    IngestDelivery,
    IngestDeliveryFilter,
    IngestEvent,
    IngestOutcome,
    Provider,
    is_event_type,
    is_ingest_queue,
    logged_event,
    queue_of_event,
)
from millstream.domain.job import NewJob
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine

_CUSTOM = Body(CustomWebhook)
_GITHUB = Body(dict[str, Raw])
_STRIPE = Body(StripeEvent)
_ROWS = 50
_OUTCOMES = {outcome.name.lower(): outcome for outcome in IngestOutcome}


class IngestEndpoints:
    """`/webhooks`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._ingest = engine.ingest
        self._production = settings.production

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            _receiving("custom", self.custom, _CUSTOM, "Enqueue a job, as whoever has the webhook token"),
            _receiving("github", self.github, _GITHUB, "Enqueue a job for an event of GitHub"),
            _receiving("stripe", self.stripe, _STRIPE, "Enqueue a job for an event of Stripe"),
            Endpoint(
                method="GET",
                path="/api/v1/webhooks/deliveries",
                handler=self.list,
                summary="List incoming webhooks that were accepted, the newest first",
                tag="webhooks",
                query=(
                    Parameter(name="status", description="created or duplicate"),
                    Parameter(name="since", kind="timestamp", description="inclusive"),
                    Parameter(name="queue_name", description="exact"),
                    *PAGE,
                ),
                answers={200: list[InboundDelivery]},
                errors=(AccessDenied, BadRequest),
            ),
        ]

    async def custom(self, request: Request) -> Response:
        """Enqueue the job that a custom webhook describes."""
        self._check_transport(request.headers)
        principal = await self._ingest.admit_custom(request.parameters[0], token=_token(request))
        body = _CUSTOM.read(request.body)
        rules = Rules()
        if not is_ingest_queue(body.queue_name):
            rules.refuse(
                "queue_name",
                "must have 1 to 255 letters, digits, '-', '_' or '.', not start with '.' or '-', have no '..' "
                "and not be reserved",
                "INVALID_NAME",
            )
        if body.event_type is not None and not is_event_type(body.event_type):
            rules.refuse(
                "event_type", "must have at most 100 letters, digits, '-', '_' or '.'", "INVALID_FORMAT"
            )
        rules.text("idempotency_key", body.idempotency_key, 0, limits.IDEMPOTENCY_KEY_CHARS_MAX)
        rules.integer("priority", body.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
        rules.enforce()
        job = _new_job(body.queue_name, str(body.payload, "utf-8"), body.idempotency_key, body.priority or 0)
        return await self._accept(principal, Provider.CUSTOM, body.event_type or "custom", job)

    async def github(self, request: Request) -> Response:
        """Enqueue the whole body of an event of GitHub."""
        self._check_transport(request.headers)
        headers = request.headers
        principal = await self._ingest.admit_github(
            request.parameters[0],
            token=_token(request),
            signature=headers.get(b"x-hub-signature-256", b""),
            body=request.body,
        )
        _GITHUB.read(request.body)
        event = headers.get(b"x-github-event", b"").decode("latin-1") or "unknown"
        rules = Rules()
        key = headers.get(b"x-github-delivery", b"").decode("latin-1")
        rules.text("X-GitHub-Delivery", key, 0, limits.IDEMPOTENCY_KEY_CHARS_MAX)
        rules.enforce()
        job = _new_job(queue_of_event(Provider.GITHUB, event), request.body.decode(), key)
        return await self._accept(principal, Provider.GITHUB, event, job)

    async def stripe(self, request: Request) -> Response:
        """Enqueue what an event of Stripe is about, once for each event."""
        self._check_transport(request.headers)
        principal = await self._ingest.admit_stripe(
            request.parameters[0],
            token=_token(request),
            signature=request.headers.get(b"stripe-signature", b""),
            body=request.body,
        )
        try:
            event = _STRIPE.read(request.body)
        except InvalidShape as error:
            # What is missing here is no mistake of a programmer's, as it is elsewhere.
            raise InvalidField(error.problems) from None
        rules = Rules()
        rules.text("id", event.id, 1, limits.IDEMPOTENCY_KEY_CHARS_MAX)
        rules.enforce()
        queue = queue_of_event(Provider.STRIPE, event.type)
        job = _new_job(queue, str(event.data.object, "utf-8"), event.id)
        return await self._accept(principal, Provider.STRIPE, event.type, job)

    async def list(self, request: Request) -> Response:
        """List incoming webhooks that were accepted."""
        query = Query(request.query_string)
        status = query.text("status")
        if status is not None and status not in _OUTCOMES:
            raise BadRequest("status must be created or duplicate")
        wanted = IngestDeliveryFilter(
            outcome=None if status is None else _OUTCOMES[status],
            queue=query.text("queue_name", limits.STORED_QUEUE_NAME_CHARS_MAX),
            since=query.timestamp("since"),
            limit=query.clamped("limit", _ROWS, 1, limits.PAGE_ROWS_MAX),
            offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
        )
        deliveries = await self._ingest.list_deliveries(request.principal, wanted)
        return Response(200, msgspec.json.encode([_delivery_body(one) for one in deliveries]))

    def _check_transport(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise BadRequest for a webhook that did not come over TLS, where that is asked for."""
        if not self._production:
            return
        # Of several proxies the first one met the sender.
        received_over = headers.get(b"x-forwarded-proto", b"http").partition(b",")[0].strip().lower()
        if received_over != b"https":
            raise BadRequest("Webhooks are received over HTTPS only")

    async def _accept(
        self, principal: Principal, provider: Provider, event_type: str, job: NewJob
    ) -> Response:
        event = IngestEvent(provider=provider, event_type=logged_event(event_type), job=job)
        accepted = await self._ingest.accept(principal, event)
        answer = WebhookAccepted(
            accepted.job_id, accepted.queue, status_word(accepted.state), accepted.created
        )
        return Response(200, msgspec.json.encode(answer))


def _receiving(provider: str, handler: Handler, body: Body[object], summary: str) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/api/v1/webhooks/{{organization_id}}/{provider}",
        handler=handler,
        summary=summary,
        tag="webhooks",
        body=body,
        answers={200: WebhookAccepted},
        errors=(AuthenticationFailed, BadRequest, NotFound, PayloadTooLarge, QuotaExceeded, Unavailable),
        auth=Auth.WEBHOOK,
    )


def _token(request: Request) -> bytes | None:
    return request.headers.get(b"x-webhook-token")


def _new_job(queue: str, payload: str, key: str | None, priority: int = 0) -> NewJob:
    return NewJob(
        queue=queue,
        payload=payload,
        job_type=job_type_of(payload),
        priority=priority,
        idempotency_key=key or None,
    )


def _delivery_body(delivery: IngestDelivery) -> InboundDelivery:
    return InboundDelivery(
        id=delivery.id,
        provider=delivery.provider.name.lower(),
        event_type=delivery.event_type,
        matched_queue=delivery.queue,
        job_id=delivery.job_id,
        status=delivery.outcome.name.lower(),
        created_at=format_timestamp(delivery.created_at),
    )
