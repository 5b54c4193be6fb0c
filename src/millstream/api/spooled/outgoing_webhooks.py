"""Outgoing webhooks: who is told of what. Contract: spooled-tenancy 10."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import UNSET

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.spooled import outgoing_webhook_bodies as bodies
from millstream.api.spooled.rules import Rules
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, BadRequest, NotFound, QuotaExceeded
from millstream.domain.ids import parse_id
from millstream.domain.webhook import SUBSCRIBABLE, NewWebhook, WebhookChange, WebhookEvent, WebhookFormat
from millstream.engine.engine import Engine

_CREATE = Body(bodies.CreateWebhook)
_UPDATE = Body(bodies.UpdateWebhook)
_PATH = "/api/v1/outgoing-webhooks"
_TAG = "webhooks"
_encode = msgspec.json.Encoder().encode


class OutgoingWebhookEndpoints:
    """`/outgoing-webhooks`."""

    def __init__(self, engine: Engine) -> None:
        self._webhooks = engine.outgoing_webhooks

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [*self._configuration(), *self._sending()]

    def _configuration(self) -> list[Endpoint]:
        one = f"{_PATH}/{{id}}"
        return [
            Endpoint(
                method="GET",
                path=_PATH,
                handler=self.list,
                summary="List outgoing webhooks",
                tag=_TAG,
                answers={200: list[bodies.WebhookBody]},
                errors=(AccessDenied,),
            ),
            Endpoint(
                method="POST",
                path=_PATH,
                handler=self.create,
                summary="Create an outgoing webhook",
                tag=_TAG,
                body=_CREATE,
                answers={201: bodies.WebhookBody},
                errors=(AccessDenied, QuotaExceeded),
            ),
            Endpoint(
                method="GET",
                path=one,
                handler=self.get,
                summary="Get an outgoing webhook",
                tag=_TAG,
                answers={200: bodies.WebhookBody},
                errors=(AccessDenied, NotFound),
            ),
            Endpoint(
                method="PUT",
                path=one,
                handler=self.update,
                summary="Change an outgoing webhook; fields that are not given stay as they are",
                tag=_TAG,
                body=_UPDATE,
                answers={200: bodies.WebhookBody},
                errors=(AccessDenied, NotFound, QuotaExceeded),
            ),
            Endpoint(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete an outgoing webhook and its deliveries",
                tag=_TAG,
                answers={204: None},
                errors=(AccessDenied, NotFound),
            ),
        ]

    def _sending(self) -> list[Endpoint]:
        one = f"{_PATH}/{{id}}"
        return [
            Endpoint(
                method="POST",
                path=f"{one}/test",
                handler=self.test,
                summary="Send a test to an outgoing webhook",
                tag=_TAG,
                answers={200: bodies.WebhookTested},
                errors=(AccessDenied, NotFound),
            ),
            Endpoint(
                method="GET",
                path=f"{one}/deliveries",
                handler=self.deliveries,
                summary="List the newest deliveries of an outgoing webhook",
                tag=_TAG,
                query=(
                    Parameter(name="status", description="pending, success or failed"),
                    Parameter(name="limit", kind="integer", description="rows of the page; clamped"),
                    Parameter(name="offset", kind="integer", description="rows before the page"),
                ),
                answers={200: list[bodies.DeliveryBody]},
                errors=(AccessDenied, BadRequest, NotFound),
            ),
            *(
                Endpoint(
                    method="POST",
                    path=path,
                    handler=self.retry,
                    summary="Attempt a delivery now",
                    tag=_TAG,
                    answers={200: bodies.DeliveryRetried},
                    errors=(AccessDenied, NotFound),
                )
                for path in (f"{one}/retry/{{delivery_id}}", f"{one}/deliveries/{{delivery_id}}/retry")
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List outgoing webhooks."""
        webhooks = await self._webhooks.list(request.principal)
        return Response(
            200, _encode([bodies.webhook_body(webhook, request.principal) for webhook in webhooks])
        )

    async def create(self, request: Request) -> Response:
        """Create an outgoing webhook."""
        new = _new(_CREATE.read(request.body))
        webhook = await self._webhooks.create(request.principal, new)
        return Response(201, _encode(bodies.webhook_body(webhook, request.principal)))

    async def get(self, request: Request) -> Response:
        """Get an outgoing webhook."""
        webhook = await self._webhooks.get(request.principal, _id(request.parameters[0]))
        return Response(200, _encode(bodies.webhook_body(webhook, request.principal)))

    async def update(self, request: Request) -> Response:
        """Change what is given of an outgoing webhook."""
        change = _change(_UPDATE.read(request.body))
        webhook = await self._webhooks.update(request.principal, _id(request.parameters[0]), change)
        return Response(200, _encode(bodies.webhook_body(webhook, request.principal)))

    async def delete(self, request: Request) -> Response:
        """Delete an outgoing webhook."""
        await self._webhooks.delete(request.principal, _id(request.parameters[0]))
        return NO_CONTENT

    async def test(self, request: Request) -> Response:
        """Send a test; a receiver that refuses it is an answer, not an error."""
        trial = await self._webhooks.test(request.principal, _id(request.parameters[0]))
        tested = bodies.WebhookTested(
            success=trial.success,
            status_code=trial.status_code,
            response_time_ms=trial.response_time_ms,
            error=trial.error,
        )
        return Response(200, _encode(tested))

    async def deliveries(self, request: Request) -> Response:
        """List the newest deliveries of an outgoing webhook."""
        query = Query(request.query_string)
        word = query.text("status")
        if word is not None and word not in bodies.DELIVERY_STATUSES:
            raise BadRequest("status must be pending, success or failed")
        deliveries = await self._webhooks.deliveries(
            request.principal,
            _id(request.parameters[0]),
            status=None if word is None else bodies.DELIVERY_STATUSES[word],
            limit=query.clamped("limit", limits.PAGE_ROWS_MAX, 1, limits.PAGE_ROWS_MAX),
            offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
        )
        return Response(200, _encode([bodies.delivery_body(delivery) for delivery in deliveries]))

    async def retry(self, request: Request) -> Response:
        """Attempt a delivery now; a receiver that refuses it is an answer, not an error."""
        webhook_id, delivery_id = request.parameters
        retried = await self._webhooks.retry(request.principal, _id(webhook_id), _id(delivery_id))
        answer = bodies.DeliveryRetried(
            success=retried.success,
            message=retried.error or "Delivered",
            delivery_id=str(retried.delivery_id),
            status=retried.status.name.lower(),
        )
        return Response(200, _encode(answer))


def _id(text: str) -> UUID:
    found = parse_id(text)
    if found is None:
        raise NotFound
    return found


def _new(body: bodies.CreateWebhook) -> NewWebhook:
    rules = Rules()
    rules.text("name", body.name, 1, limits.WEBHOOK_NAME_CHARS_MAX)
    events = _events(rules, body.events)
    rules.text("secret", body.secret, 1, limits.WEBHOOK_SECRET_CHARS_MAX)
    chosen = _format(rules, body.format)
    rules.enforce()
    return NewWebhook(
        name=body.name,
        url=body.url,
        events=events,
        secret=body.secret,
        enabled=body.enabled is not False,
        format=chosen or WebhookFormat.JSON,
    )


def _change(body: bodies.UpdateWebhook) -> WebhookChange:
    rules = Rules()
    rules.text("name", body.name, 1, limits.WEBHOOK_NAME_CHARS_MAX)
    events = None if body.events is None else _events(rules, body.events)
    rules.text("secret", None if body.secret is UNSET else body.secret, 1, limits.WEBHOOK_SECRET_CHARS_MAX)
    chosen = _format(rules, body.format)
    rules.enforce()
    return WebhookChange(
        name=body.name, url=body.url, events=events, secret=body.secret, enabled=body.enabled, format=chosen
    )


def _events(rules: Rules, names: Sequence[str]) -> tuple[WebhookEvent, ...]:
    if not 1 <= len(names) <= limits.WEBHOOK_EVENTS_MAX:
        rules.refuse("events", f"must have 1 to {limits.WEBHOOK_EVENTS_MAX} items", "INVALID_LENGTH")
        return ()
    unknown = next((name for name in names if name not in SUBSCRIBABLE), None)
    if unknown is not None:
        rules.refuse("events", f"unknown event {unknown[:100]!r}", "UNKNOWN_EVENT")
        return ()
    return tuple(dict.fromkeys(SUBSCRIBABLE[name] for name in names))


def _format(rules: Rules, word: str | None) -> WebhookFormat | None:
    if word is None:
        return None
    if word not in bodies.FORMATS:
        rules.refuse("format", f"must be one of {', '.join(bodies.FORMATS)}", "INVALID_FORMAT")
    return bodies.FORMATS.get(word)
