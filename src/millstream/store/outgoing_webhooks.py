"""Outgoing webhooks: who wants to be told of what."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct

from millstream.domain.webhook import (
    NewWebhook,
    Webhook,
    WebhookChange,
    WebhookEvent,
    WebhookFormat,
    WebhookStatus,
)
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("outgoing_webhooks")
_INTERESTS = _QUERIES["list_webhook_interests"].taking("limit")
_COUNT = _QUERIES["count_outgoing_webhooks"].taking("tenant_id")
_LIST = _QUERIES["list_outgoing_webhooks"].taking("tenant_id", "id", "limit")
_ADDRESS = _QUERIES["find_webhook_address"].taking("tenant_id", "id")
_LOCK = _QUERIES["lock_outgoing_webhook"].taking("tenant_id", "id")
_CREATE = _QUERIES["create_outgoing_webhook"].taking(
    "now", "tenant_id", "id", "name", "url", "secret", "events", "format", "enabled"
)
_UPDATE = _QUERIES["update_outgoing_webhook"].taking(
    "now", "tenant_id", "id", "name", "url", "set_secret", "secret", "events", "format", "enabled"
)
_FORGET = _QUERIES["forget_outgoing_deliveries"].taking("tenant_id", "id", "limit")
_DELETE = _QUERIES["delete_outgoing_webhook"].taking("tenant_id", "id")


class WebhookUsage(Struct, frozen=True):
    """How many webhooks a tenant has, and how many of them are enabled."""

    total: int
    enabled: int


class WebhookAddress(Struct, frozen=True, kw_only=True):
    """Where a webhook is reached, what signs its deliveries, and how they look."""

    url: str
    secret: str | None
    format: WebhookFormat


async def list_webhook_interests(session: Session, *, limit: int) -> list[tuple[int, int]]:
    """Return (tenant, set of events) of up to `limit` enabled webhooks of all tenants."""
    return [
        (row["tenant_id"], sum({1 << event for event in row["events"]}))
        for row in await session.many(_INTERESTS, limit)
    ]


async def count_webhooks(session: Session, tenant_id: int) -> WebhookUsage:
    """Return how many webhooks a tenant has."""
    row = await session.one(_COUNT, tenant_id)
    return WebhookUsage(0, 0) if row is None else WebhookUsage(row["total"], row["enabled"])


async def list_webhooks(session: Session, tenant_id: int, *, limit: int) -> list[Webhook]:
    """Return a tenant's webhooks, the newest first."""
    return [_webhook_from(row) for row in await session.many(_LIST, tenant_id, None, limit)]


async def find_webhook(session: Session, tenant_id: int, webhook_id: UUID) -> Webhook | None:
    """Return one webhook of a tenant."""
    row = await session.one(_LIST, tenant_id, webhook_id, 1)
    return None if row is None else _webhook_from(row)


async def find_webhook_address(session: Session, tenant_id: int, webhook_id: UUID) -> WebhookAddress | None:
    """Return what it takes to send to a webhook."""
    row = await session.one(_ADDRESS, tenant_id, webhook_id)
    if row is None:
        return None
    return WebhookAddress(url=row["url"], secret=row["secret"], format=WebhookFormat(row["format"]))


async def lock_webhook(session: Session, tenant_id: int, webhook_id: UUID) -> bool | None:
    """Hold a webhook until the transaction ends; returns whether it is enabled, None when there is none."""
    row = await session.one(_LOCK, tenant_id, webhook_id)
    return None if row is None else bool(row["enabled"])


async def create_webhook(
    session: Session, tenant_id: int, webhook_id: UUID, new: NewWebhook, now: datetime | None
) -> Webhook | None:
    """Create a webhook and return it."""
    row = await session.one(
        _CREATE,
        now,
        tenant_id,
        webhook_id,
        new.name,
        new.url,
        new.secret,
        list(new.events),
        new.format,
        new.enabled,
    )
    return None if row is None else _webhook_from(row)


async def update_webhook(
    session: Session, tenant_id: int, webhook_id: UUID, change: WebhookChange, now: datetime | None
) -> Webhook | None:
    """Change what is given of a webhook and return it; None when there is none."""
    row = await session.one(
        _UPDATE,
        now,
        tenant_id,
        webhook_id,
        change.name,
        change.url,
        change.secret is not UNSET,
        None if change.secret is UNSET else change.secret,
        None if change.events is None else list(change.events),
        change.format,
        change.enabled,
    )
    return None if row is None else _webhook_from(row)


async def delete_webhook(session: Session, tenant_id: int, webhook_id: UUID, *, deliveries_max: int) -> bool:
    """Delete a webhook and up to `deliveries_max` of its deliveries; returns whether it existed."""
    await session.run(_FORGET, tenant_id, webhook_id, deliveries_max)
    return await session.one(_DELETE, tenant_id, webhook_id) is not None


def _webhook_from(row: Row) -> Webhook:
    return Webhook(
        id=row["id"],
        name=row["name"],
        url=row["url"],
        events=tuple(WebhookEvent(event) for event in row["events"]),
        format=WebhookFormat(row["format"]),
        enabled=row["enabled"],
        failure_count=row["failure_count"],
        last_status=None if row["last_status"] is None else WebhookStatus(row["last_status"]),
        last_triggered_at=row["last_triggered_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
