"""The bodies of incoming webhooks and of their log, as they are on the wire. Contract: spooled-tenancy 11.

GitHub's bodies have no type here: they pass through whole.
"""

from uuid import UUID

from msgspec import Raw, Struct

from millstream.api.spooled.requests import Int


class CustomWebhook(Struct, frozen=True, kw_only=True):
    """`POST /webhooks/{organization_id}/custom`."""

    queue_name: str
    payload: Raw
    event_type: str | None = None
    idempotency_key: str | None = None
    priority: Int | None = None


class StripeData(Struct, frozen=True):
    """What a Stripe event is about."""

    object: Raw


class StripeEvent(Struct, frozen=True, kw_only=True):
    """`POST /webhooks/{organization_id}/stripe`; what else an event says is ignored."""

    id: str
    type: str
    data: StripeData
    created: Int


class WebhookAccepted(Struct):
    """The answer to a webhook: its job, new or known."""

    job_id: UUID
    queue_name: str
    status: str
    created: bool


class InboundDelivery(Struct, kw_only=True):
    """An entry of the log. `matched_queue`, `job_id` and `status` are nullable for clients, never null here."""

    id: UUID
    provider: str
    event_type: str
    matched_queue: str
    job_id: UUID
    status: str
    created_at: str
