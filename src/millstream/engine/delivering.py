"""Delivering: what the outbox holds goes to its receivers, at least once, many at a time."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import MillstreamError, NotFound, Overloaded
from millstream.domain.webhook import (
    ATTEMPTS_DEFAULT,
    EVENT_NAMES,
    DeliveryStatus,
    Retried,
    WebhookEvent,
    WebhookTrial,
    retry_delay_seconds,
    signature,
)
from millstream.domain.webhook_body import body_of
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.engine.receivers import Receivers
from millstream.outbound.client import REQUEST_SECONDS, Answer, WebhookClient
from millstream.store import outgoing_deliveries
from millstream.store.outgoing_deliveries import START, Claimed, Cursor, Outcome
from millstream.store.outgoing_webhooks import WebhookAddress

# Longer than any attempt: whoever holds a claim past this has gone.
CLAIM_SECONDS = int(REQUEST_SECONDS) + 10
# An attempt that somebody waits for must end before that request does.
ON_REQUEST_SECONDS = 10.0
STOP_SECONDS = 3.0
# How many must have arrived before more are claimed ahead of the next look.
REFILL_DELIVERIES = 16

_log = structlog.get_logger(__name__)


class DeliverySettings(Struct, frozen=True, kw_only=True):
    """How often a delivery is attempted, and whether receivers on this machine may be called over plain http."""

    attempts: int = ATTEMPTS_DEFAULT
    local_http: bool = True


class Delivering:
    """Sends deliveries. `dispatch` starts attempts and returns; they go on beside it and record how they went."""

    def __init__(
        self, context: Context, settings: DeliverySettings, client: WebhookClient | None = None
    ) -> None:
        self._context = context
        self._settings = settings
        self._client = client or WebhookClient(local_http=settings.local_http)
        self._receivers = Receivers()
        self._attempts: dict[asyncio.Task[None], Claimed] = {}
        self._on_request = 0
        self._cursor: Cursor = START
        self._more = False
        self._arrived = 0
        self._closing = False
        self._outcomes: Batcher[Outcome, bool] = Batcher(
            "deliver", self._record, observe=context.observe_batch("deliver")
        )

    async def dispatch(self) -> int:
        """Claim due deliveries as far as there is room and begin to send them; returns how many."""
        rooms = self._receivers.rooms()
        if self._closing or not rooms.total:
            return 0
        self._arrived = 0
        async with self._context.database.session() as session:
            claimed, cursor = await outgoing_deliveries.claim_deliveries(
                session,
                rooms,
                after=self._cursor,
                claim_id=uuid4(),
                claim_seconds=CLAIM_SECONDS,
                now=self._context.now(),
            )
        self._more = bool(claimed) or cursor is not None
        self._cursor = START if cursor is None else cursor
        for delivery in claimed:
            self._receivers.enter(delivery)
            task = asyncio.create_task(self._attempt(delivery), name="deliver")
            self._attempts[task] = delivery
            task.add_done_callback(self._attempts.pop)
        return len(claimed)

    @property
    def round_goes_on(self) -> bool:
        """Whether receivers are left that this round has not come to."""
        return self._cursor != START

    async def settle(self) -> None:
        """Wait until every attempt that has begun is recorded."""
        while self._attempts:
            await asyncio.wait(self._attempts)

    async def test(self, address: WebhookAddress, data: str) -> WebhookTrial:
        """Send a test to a webhook, once; nothing of it is recorded. Contract: spooled-tenancy 10.6."""
        delivery_id = self._context.ids.next()
        body = body_of(
            address.format, delivery_id, WebhookEvent.TEST, self._context.now() or datetime.now(UTC), data
        )
        answer = await self._send_on_request(
            address.url, address.secret, WebhookEvent.TEST, delivery_id, 1, body
        )
        return WebhookTrial(
            success=answer.error is None,
            status_code=answer.status_code,
            response_time_ms=round(answer.seconds * 1000),
            error=answer.error,
        )

    async def retry(self, tenant_id: int, webhook_id: UUID, delivery_id: UUID) -> Retried:
        """Attempt a delivery of a webhook now, whatever became of it. Raises NotFound. Contract: spooled-tenancy 10.6."""
        async with self._context.database.tenant(tenant_id) as session:
            delivery = await outgoing_deliveries.claim_delivery(
                session,
                tenant_id,
                webhook_id,
                delivery_id,
                claim_id=uuid4(),
                claim_seconds=CLAIM_SECONDS,
                now=self._context.now(),
            )
        if delivery is None:
            raise NotFound
        answer = await self._send_on_request(
            delivery.url,
            delivery.secret,
            delivery.event,
            delivery.id,
            delivery.attempts + 1,
            _body_of(delivery),
        )
        outcome = self._outcome_of(delivery, answer)
        await self._outcomes.submit_one(tenant_id, outcome)
        return Retried(
            delivery_id=delivery_id,
            success=answer.error is None,
            status=outcome.status,
            error=answer.error,
        )

    async def close(self) -> None:
        """Begin no more; wait a moment for what is on its way, give back the rest."""
        self._closing = True
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=STOP_SECONDS)
        cut_off = dict(self._attempts)
        for task in cut_off:
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)
        await self._outcomes.close()
        if cut_off:
            await self._release(list(cut_off.values()))
        await self._client.close()

    # One attempt

    async def _attempt(self, delivery: Claimed) -> None:
        answer: Answer | None = None
        try:
            answer = await self._send(
                delivery.url,
                delivery.secret,
                delivery.event,
                delivery.id,
                delivery.attempts + 1,
                _body_of(delivery),
            )
            await self._outcomes.submit_one(delivery.tenant_id, self._outcome_of(delivery, answer))
        except MillstreamError as error:
            # The claim runs out and it is sent once more: at least once is what was promised.
            _log.warning("a delivery was not recorded", delivery_id=str(delivery.id), reason=error.message)
        except Exception:  # noqa: BLE001 - the outermost frame of an attempt
            _log.exception("an attempt failed", delivery_id=str(delivery.id))
        finally:
            self._receivers.leave(delivery, unanswered=None if answer is None else answer.unanswered)
            self._arrived += 1
            if self._more and (self._arrived >= REFILL_DELIVERIES or len(self._attempts) <= 1):
                self._context.outbox.noted.set()

    async def _send(
        self,
        url: str,
        secret: str | None,
        event: WebhookEvent,
        delivery_id: UUID,
        attempt: int,
        body: bytes,
        seconds: float = REQUEST_SECONDS,
    ) -> Answer:
        now = self._context.now()
        timestamp = int(time.time() if now is None else now.timestamp())
        headers = [
            (b"X-Spooled-Event", EVENT_NAMES[event].encode()),
            (b"X-Spooled-Timestamp", b"%d" % timestamp),
            (b"X-Spooled-Delivery-Attempt", b"%d" % attempt),
            (b"X-Spooled-Delivery-Id", str(delivery_id).encode()),
        ]
        if secret:
            headers.append((b"X-Spooled-Signature", signature(secret, timestamp, body).encode()))
        return await self._client.post(url, body, headers, seconds=seconds)

    async def _send_on_request(
        self, url: str, secret: str | None, event: WebhookEvent, delivery_id: UUID, attempt: int, body: bytes
    ) -> Answer:
        if self._on_request >= limits.DELIVERIES_ON_REQUEST_MAX:
            raise Overloaded
        self._on_request += 1
        try:
            return await self._send(url, secret, event, delivery_id, attempt, body, ON_REQUEST_SECONDS)
        finally:
            self._on_request -= 1

    # What became of it

    def _outcome_of(self, delivery: Claimed, answer: Answer) -> Outcome:
        attempts = delivery.attempts + 1
        pending = delivery.status is DeliveryStatus.PENDING
        if answer.error is None:
            status = DeliveryStatus.SUCCESS
        elif not pending:
            status = delivery.status
        elif attempts >= self._settings.attempts:
            status = DeliveryStatus.FAILED
        else:
            status = DeliveryStatus.PENDING
        return Outcome(
            tenant_id=delivery.tenant_id,
            id=delivery.id,
            claim_id=delivery.claim_id,
            status=status,
            # What failed before has been counted before.
            counts=pending,
            delay_seconds=retry_delay_seconds(attempts) if status is DeliveryStatus.PENDING else None,
            status_code=answer.status_code,
            response_body=answer.body,
            error=answer.error,
        )

    async def _record(self, rows: list[Outcome], _batch_id: int) -> Sequence[bool]:
        async with self._context.database.session() as session:
            disabled = await outgoing_deliveries.record_outcomes(session, rows, self._context.now())
        for tenant_id, webhook_id in disabled:
            _log.warning(
                "webhook disabled after failed deliveries", tenant=tenant_id, webhook_id=str(webhook_id)
            )
            self._context.invalidations.forget(tenant_id)
        return [True] * len(rows)

    async def _release(self, claimed: Sequence[Claimed]) -> None:
        try:
            async with self._context.database.session() as session:
                await outgoing_deliveries.release_deliveries(session, claimed, self._context.now())
        except MillstreamError as error:
            _log.info("deliveries not given back, their claims run out", reason=error.message)


def _body_of(delivery: Claimed) -> bytes:
    if delivery.webhook_id is None:
        # A job's own address receives a flat body. Contract: spooled-jobs 10.10.
        return delivery.data.encode()
    return body_of(delivery.format, delivery.id, delivery.event, delivery.created_at, delivery.data)
