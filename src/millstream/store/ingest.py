"""Incoming webhooks: whom they are for, and the log of those that were accepted."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.ingest import (
    IngestDelivery,
    IngestDeliveryFilter,
    IngestEvent,
    IngestOutcome,
    Provider,
)
from millstream.domain.job import Enqueued
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("ingest")
_FIND_TENANT = _QUERIES["find_webhook_tenant"].taking("now", "public_id")
_INSERT = _QUERIES["insert_ingest_delivery"].taking(
    "now", "tenant_id", "id", "provider", "outcome", "event_type", "queue", "job_id"
)
_TRIM = _QUERIES["trim_ingest_deliveries"].taking("tenant_id", "kept", "limit")
_LIST = _QUERIES["list_ingest_deliveries"].taking("tenant_id", "outcome", "queue", "since", "limit", "offset")
_PRUNE = _QUERIES["prune_ingest_deliveries"].taking("tenant_ids", "befores", "limit")


class WebhookTenant(Struct, frozen=True, kw_only=True):
    """Whom a webhook is for, and the database's time `at` which it came."""

    id: int
    public_id: str
    plan_tier: str
    custom_limits: str | None
    webhook_token: str | None
    at: datetime


async def find_webhook_tenant(session: Session, public_id: str, now: datetime | None) -> WebhookTenant | None:
    """Return the tenant of a webhook's path; None when there is none or it was deleted."""
    row = await session.one(_FIND_TENANT, now, public_id)
    if row is None:
        return None
    return WebhookTenant(
        id=row["id"],
        public_id=row["public_id"],
        plan_tier=row["plan_tier"],
        custom_limits=row["custom_limits"],
        webhook_token=row["webhook_token"],
        at=row["at"],
    )


async def insert_ingest_delivery(
    session: Session,
    tenant_id: int,
    delivery_id: UUID,
    event: IngestEvent,
    enqueued: Enqueued,
    *,
    now: datetime | None,
) -> None:
    """Note an accepted webhook and the job that it became, or that was there already."""
    outcome = IngestOutcome.CREATED if enqueued.created else IngestOutcome.DUPLICATE
    await session.run(
        _INSERT,
        now,
        tenant_id,
        delivery_id,
        int(event.provider),
        int(outcome),
        event.event_type,
        event.job.queue,
        enqueued.id,
    )


async def trim_ingest_deliveries(session: Session, tenant_id: int, *, kept: int, limit: int) -> int:
    """Delete up to `limit` of what a tenant's log holds beyond the newest `kept`; returns how many."""
    row = await session.one(_TRIM, tenant_id, kept, limit)
    return 0 if row is None else int(row["trimmed"])


async def list_ingest_deliveries(
    session: Session, tenant_id: int, wanted: IngestDeliveryFilter
) -> list[IngestDelivery]:
    """Return a page of a tenant's log, the newest first."""
    rows = await session.many(
        _LIST,
        tenant_id,
        None if wanted.outcome is None else int(wanted.outcome),
        wanted.queue,
        wanted.since,
        wanted.limit,
        wanted.offset,
    )
    return [
        IngestDelivery(
            id=row["id"],
            provider=Provider(row["provider"]),
            outcome=IngestOutcome(row["outcome"]),
            event_type=row["event_type"],
            queue=row["queue"],
            job_id=row["job_id"],
            created_at=row["created_at"],
        )
        for row in rows
    ]


async def prune_ingest_deliveries(
    session: Session, bounds: Sequence[tuple[int, datetime]], *, limit: int
) -> int:
    """Delete up to `limit` entries older than their tenant's bound; returns how many."""
    row = await session.one(_PRUNE, [bound[0] for bound in bounds], [bound[1] for bound in bounds], limit)
    return 0 if row is None else int(row["pruned"])
