"""Deliveries to outgoing webhooks: noted with what they tell of, claimed, recorded, read, pruned."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.webhook import (
    FAILURES_MAX,
    STATUS_WORDS,
    WEBHOOK_DISABLED,
    Delivery,
    DeliveryStatus,
    JobNote,
    WebhookEvent,
    WebhookFormat,
)
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("outgoing_deliveries")
_NOTE_JOBS = _QUERIES["note_job_events"].taking(
    "now", "webhooks_max", "result_bytes_max", "tenant_ids", "job_ids", "events", "statuses", "worker_ids"
)
_NOTE = _QUERIES["note_event"].taking("now", "tenant_id", "event", "data")
_NOTE_MANY = _QUERIES["note_events"].taking("now", "event", "tenant_ids", "datas")
_ORPHANED = _QUERIES["find_orphaned_jobs"].taking("now", "tenant_ids", "ids")
_CLAIM = _QUERIES["claim_outgoing_deliveries"].taking(
    "now", "after_tenant_id", "after_receiver", "receivers_max", "limit", "claim_id", "claim_seconds",
    "receiver_room", "host_room", "busy_tenant_ids", "busy_receivers", "receiver_rooms", "busy_hosts", "host_rooms",
    "disabled_error",
)  # fmt: skip
_RECORD = _QUERIES["record_outgoing_deliveries"].taking(
    "now", "failures_max", "tenant_ids", "ids", "claim_ids", "statuses", "counts", "delays", "status_codes", "bodies",
    "errors",
)  # fmt: skip
_RELEASE = _QUERIES["release_outgoing_deliveries"].taking("now", "tenant_ids", "ids", "claim_ids")
_CLAIM_ONE = _QUERIES["claim_outgoing_delivery"].taking(
    "now", "tenant_id", "webhook_id", "id", "claim_id", "claim_seconds"
)
_LIST = _QUERIES["list_outgoing_deliveries"].taking(
    "tenant_id", "webhook_id", "status", "limit", "offset", "readable_max"
)
_PRUNE = _QUERIES["prune_outgoing_deliveries"].taking("tenant_ids", "befores", "limit")


async def note_job_events(session: Session, notes: Sequence[JobNote], now: datetime | None) -> int:
    """Add a delivery for each webhook that wants one of `notes`; returns how many. The jobs have changed already."""
    row = await session.one(
        _NOTE_JOBS,
        now,
        limits.WEBHOOKS_MAX,
        limits.WEBHOOK_RESULT_BYTES_MAX,
        arrays.ints([note.tenant_id for note in notes]),
        arrays.uuids([note.job_id for note in notes]),
        arrays.ints([note.event.value for note in notes]),
        arrays.texts([STATUS_WORDS[note.state] for note in notes]),
        arrays.texts([note.worker_id for note in notes]),
    )
    return 0 if row is None else int(row["noted"])


async def note_event(
    session: Session, tenant_id: int, event: WebhookEvent, data: str, now: datetime | None
) -> int:
    """Add a delivery of `data` (a JSON object) for each webhook that wants `event`; returns how many."""
    row = await session.one(_NOTE, now, tenant_id, event, data)
    return 0 if row is None else int(row["noted"])


async def note_events(
    session: Session, event: WebhookEvent, told: Sequence[tuple[int, str]], now: datetime | None
) -> int:
    """Add a delivery for each webhook that wants `event` and what it tells of its tenant; returns how many."""
    row = await session.one(
        _NOTE_MANY,
        now,
        event,
        arrays.ints([tenant_id for tenant_id, _ in told]),
        arrays.texts([data for _, data in told]),
    )
    return 0 if row is None else int(row["noted"])


async def find_orphaned_jobs(
    session: Session, buried: Sequence[tuple[int, UUID]], now: datetime | None
) -> list[tuple[int, UUID]]:
    """Return (tenant, job) of what this transaction cancelled below the `buried` jobs (tenant, job)."""
    rows = await session.many(_ORPHANED, now, [key[0] for key in buried], [key[1] for key in buried])
    return [(row["tenant_id"], row["id"]) for row in rows]


class Claimed(Struct, frozen=True, kw_only=True):
    """A delivery to be attempted. Without `webhook_id` it goes to an address of a job, and `data` is its body.

    `attempts` were made before this one. `secret` must not be logged.
    """

    tenant_id: int
    id: UUID
    webhook_id: UUID | None
    receiver: UUID
    host: str
    event: WebhookEvent
    attempts: int
    data: str
    created_at: datetime
    url: str
    secret: str | None
    format: WebhookFormat
    claim_id: UUID
    status: DeliveryStatus = DeliveryStatus.PENDING


Cursor = tuple[int, UUID]
"""A tenant and a receiver, up to which a round has come."""

START: Cursor = (0, UUID(int=0))


class Rooms(Struct, frozen=True, kw_only=True):
    """How much may be claimed: in all, for each receiver and host, and less for those that are busy already."""

    total: int
    receiver: int
    host: int
    receivers: Mapping[tuple[int, UUID], int]
    hosts: Mapping[str, int]


async def claim_deliveries(
    session: Session,
    rooms: Rooms,
    *,
    after: Cursor,
    claim_id: UUID,
    claim_seconds: int,
    now: datetime | None,
) -> tuple[list[Claimed], Cursor | None]:
    """Claim due deliveries of the receivers past `after`; returns them, and how far the round came (None: its end)."""
    rows = await session.many(
        _CLAIM,
        now,
        after[0],
        after[1],
        limits.RECEIVERS_PER_CLAIM_MAX,
        rooms.total,
        claim_id,
        claim_seconds,
        rooms.receiver,
        rooms.host,
        [key[0] for key in rooms.receivers],
        [key[1] for key in rooms.receivers],
        list(rooms.receivers.values()),
        list(rooms.hosts),
        list(rooms.hosts.values()),
        WEBHOOK_DISABLED,
    )
    claimed = [_claimed_from(row, claim_id) for row in rows if row["id"] is not None]
    visited = int(rows[0]["visited"]) if rows else 0
    if visited < limits.RECEIVERS_PER_CLAIM_MAX:
        return claimed, None
    return claimed, (int(rows[0]["last_tenant_id"]), rows[0]["last_receiver"])


async def claim_delivery(
    session: Session,
    tenant_id: int,
    webhook_id: UUID,
    delivery_id: UUID,
    *,
    claim_id: UUID,
    claim_seconds: int,
    now: datetime | None,
) -> Claimed | None:
    """Claim one delivery of a webhook whatever its status; None when there is none."""
    row = await session.one(_CLAIM_ONE, now, tenant_id, webhook_id, delivery_id, claim_id, claim_seconds)
    if row is None:
        return None
    return _claimed_from(row, claim_id, DeliveryStatus(row["status"]))


class Outcome(Struct, frozen=True, kw_only=True):
    """How an attempt went. `status` is the delivery's from now on; `counts` if its failure counts against the webhook.

    `delay_seconds` is the pause before the next attempt of one that is pending still.
    """

    tenant_id: int
    id: UUID
    claim_id: UUID
    status: DeliveryStatus
    counts: bool
    delay_seconds: int | None
    status_code: int | None
    response_body: str | None
    error: str | None


async def record_outcomes(
    session: Session, outcomes: Sequence[Outcome], now: datetime | None
) -> list[tuple[int, UUID]]:
    """Record `outcomes` in their order; returns (tenant, webhook) of those that were switched off for it."""
    rows = await session.many(
        _RECORD,
        now,
        FAILURES_MAX,
        arrays.ints([outcome.tenant_id for outcome in outcomes]),
        arrays.uuids([outcome.id for outcome in outcomes]),
        arrays.uuids([outcome.claim_id for outcome in outcomes]),
        arrays.ints([outcome.status.value for outcome in outcomes]),
        arrays.flags([outcome.counts for outcome in outcomes]),
        arrays.ints([outcome.delay_seconds for outcome in outcomes]),
        arrays.ints([outcome.status_code for outcome in outcomes]),
        arrays.texts([outcome.response_body for outcome in outcomes]),
        arrays.texts([outcome.error for outcome in outcomes]),
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def release_deliveries(session: Session, claimed: Sequence[Claimed], now: datetime | None) -> None:
    """Give back what was claimed and not attempted to the end."""
    await session.run(
        _RELEASE,
        now,
        [delivery.tenant_id for delivery in claimed],
        [delivery.id for delivery in claimed],
        [delivery.claim_id for delivery in claimed],
    )


async def list_deliveries(
    session: Session,
    tenant_id: int,
    webhook_id: UUID,
    *,
    status: DeliveryStatus | None,
    limit: int,
    offset: int,
) -> list[Delivery]:
    """Return a page of a webhook's newest deliveries."""
    rows = await session.many(
        _LIST, tenant_id, webhook_id, status, limit, offset, limits.DELIVERIES_READABLE_MAX
    )
    return [
        Delivery(
            id=row["id"],
            webhook_id=row["webhook_id"],
            event=WebhookEvent(row["event"]),
            data=row["data"],
            status=DeliveryStatus(row["status"]),
            status_code=row["status_code"],
            response_body=row["response_body"],
            error=row["error"],
            attempts=row["attempts"],
            created_at=row["created_at"],
            delivered_at=row["delivered_at"],
        )
        for row in rows
    ]


async def prune_deliveries(session: Session, bounds: Sequence[tuple[int, datetime]], *, limit: int) -> int:
    """Delete up to `limit` deliveries older than their tenant's bound; returns how many."""
    row = await session.one(_PRUNE, [bound[0] for bound in bounds], [bound[1] for bound in bounds], limit)
    return 0 if row is None else int(row["pruned"])


def _claimed_from(row: Row, claim_id: UUID, status: DeliveryStatus = DeliveryStatus.PENDING) -> Claimed:
    return Claimed(
        tenant_id=row["tenant_id"],
        id=row["id"],
        webhook_id=row["webhook_id"],
        receiver=row["receiver"],
        host=row["host"],
        event=WebhookEvent(row["event"]),
        attempts=row["attempts"],
        data=row["data"],
        created_at=row["created_at"],
        url=row["url"],
        secret=row["secret"],
        format=WebhookFormat.JSON if row["format"] is None else WebhookFormat(row["format"]),
        claim_id=claim_id,
        status=status,
    )
