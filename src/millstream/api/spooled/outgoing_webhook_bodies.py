"""The bodies of `/outgoing-webhooks`, as they are on the wire. Contract: spooled-tenancy 10."""

from msgspec import UNSET, Raw, Struct, UnsetType

from millstream.api.http.timestamps import format_optional, format_timestamp
from millstream.domain.tenant import Principal
from millstream.domain.webhook import (
    EVENT_NAMES,
    Delivery,
    DeliveryStatus,
    Webhook,
    WebhookFormat,
    WebhookStatus,
)
from millstream.domain.webhook_body import envelope

FORMATS = {chosen.name.lower(): chosen for chosen in WebhookFormat}
DELIVERY_STATUSES = {status.name.lower(): status for status in DeliveryStatus}


class CreateWebhook(Struct, frozen=True, kw_only=True):
    """`POST /outgoing-webhooks`."""

    name: str
    url: str
    events: list[str]
    secret: str | None = None
    enabled: bool | None = None
    format: str | None = None


class UpdateWebhook(Struct, frozen=True, kw_only=True):
    """`PUT /outgoing-webhooks/{id}`. Null clears the secret and absence keeps it; elsewhere both keep."""

    name: str | None = None
    url: str | None = None
    events: list[str] | None = None
    secret: str | None | UnsetType = UNSET
    enabled: bool | None = None
    format: str | None = None


class WebhookBody(Struct, frozen=True, kw_only=True):
    """A webhook, without its secret."""

    id: str
    organization_id: str
    name: str
    url: str
    events: list[str]
    format: str
    enabled: bool
    failure_count: int
    last_triggered_at: str | None
    last_status: str | None
    created_at: str
    updated_at: str


class DeliveryBody(Struct, frozen=True, kw_only=True):
    """One delivery of a webhook."""

    id: str
    webhook_id: str
    event: str
    payload: Raw
    status: str
    status_code: int | None
    response_body: str | None
    error: str | None
    attempts: int
    created_at: str
    delivered_at: str | None


class WebhookTested(Struct, frozen=True, kw_only=True):
    """How a test went."""

    success: bool
    status_code: int | None
    response_time_ms: int
    error: str | None


class DeliveryRetried(Struct, frozen=True, kw_only=True):
    """How an attempt out of turn went."""

    success: bool
    message: str
    delivery_id: str
    status: str


def webhook_body(webhook: Webhook, principal: Principal) -> WebhookBody:
    """Return `webhook` with all its fields."""
    return WebhookBody(
        id=str(webhook.id),
        organization_id=principal.organization_id,
        name=webhook.name,
        url=webhook.url,
        events=[EVENT_NAMES[event] for event in webhook.events],
        format=webhook.format.name.lower(),
        enabled=webhook.enabled,
        failure_count=webhook.failure_count,
        last_triggered_at=format_optional(webhook.last_triggered_at),
        last_status=None if webhook.last_status is None else _status_word(webhook.last_status),
        created_at=format_timestamp(webhook.created_at),
        updated_at=format_timestamp(webhook.updated_at),
    )


def delivery_body(delivery: Delivery) -> DeliveryBody:
    """Return `delivery` with the envelope that it tells."""
    return DeliveryBody(
        id=str(delivery.id),
        webhook_id=str(delivery.webhook_id),
        event=EVENT_NAMES[delivery.event],
        payload=Raw(envelope(delivery.id, delivery.event, delivery.created_at, delivery.data)),
        status=delivery.status.name.lower(),
        status_code=delivery.status_code,
        response_body=delivery.response_body,
        error=delivery.error,
        attempts=delivery.attempts,
        created_at=format_timestamp(delivery.created_at),
        delivered_at=format_optional(delivery.delivered_at),
    )


def _status_word(status: WebhookStatus) -> str:
    return status.name.lower()
