"""Webhooks of a tenant at work, and what became of what they were told."""

from millstream.domain.webhook import (
    EVENT_NAMES,
    SUBSCRIBABLE,
    Delivery,
    DeliveryStatus,
    NewWebhook,
    Webhook,
    WebhookEvent,
)
from tests.engine.work import Work
from tests.receiver import Receiver

ALL = tuple(SUBSCRIBABLE.values())


async def subscribe(work: Work, url: str, *events: WebhookEvent, **options: object) -> Webhook:
    new = NewWebhook(name="w", url=url, events=events or ALL, **options)  # type: ignore[arg-type]
    return await work.engine.outgoing_webhooks.create(work.principal, new)


async def send(work: Work) -> int:
    """Send what is due and wait until it is recorded; returns how many attempts that were."""
    begun = 0
    while claimed := await work.engine.delivering.dispatch():
        begun += claimed
        await work.engine.delivering.settle()
    return begun


async def read(work: Work, webhook: Webhook) -> Webhook:
    return await work.engine.outgoing_webhooks.get(work.principal, webhook.id)


async def deliveries(
    work: Work, webhook: Webhook, status: DeliveryStatus | None = None, limit: int = 100, offset: int = 0
) -> list[Delivery]:
    return list(
        await work.engine.outgoing_webhooks.deliveries(
            work.principal, webhook.id, status=status, limit=limit, offset=offset
        )
    )


async def told(work: Work, webhook: Webhook) -> list[str]:
    """The events that were noted so far, the oldest first; those of one moment by name."""
    rows = await deliveries(work, webhook)
    return [EVENT_NAMES[row.event] for row in sorted(rows, key=lambda row: (row.created_at, row.event))]


async def fail_deliveries(work: Work, receiver: Receiver, count: int) -> None:
    """Have `count` deliveries fail for good."""
    receiver.status = 500
    for _ in range(count):
        await work.enqueue()
    for pause in (0, 1, 2, 4, 8):
        work.clock.advance(pause)
        await send(work)
