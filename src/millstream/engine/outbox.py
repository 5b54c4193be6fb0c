"""The outbox: what webhooks are to be told is written by the transaction in which it happens."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec

from millstream.domain import limits
from millstream.domain.clock import Clock
from millstream.domain.job import JobState
from millstream.domain.webhook import JobNote, WebhookEvent, events_set
from millstream.engine.invalidations import Invalidations
from millstream.store import outgoing_deliveries, outgoing_webhooks
from millstream.store.database import Session

# A webhook that was just made in another process begins to receive within this time.
BELIEVED_SECONDS = 1.0

CREATION = events_set(WebhookEvent.JOB_CREATED)
CLAIM = events_set(WebhookEvent.JOB_STARTED)
COMPLETION = events_set(WebhookEvent.JOB_COMPLETED)
CANCELLATION = events_set(WebhookEvent.JOB_CANCELLED)
FAILURE = events_set(
    WebhookEvent.JOB_FAILED,
    WebhookEvent.JOB_RETRIED,
    WebhookEvent.JOB_DEADLETTERED,
    WebhookEvent.JOB_CANCELLED,
)


class Outbox:
    """Notes what happened for those webhooks that want to be told.

    Nearly every batch concerns nobody's webhook and must not pay for them: which tenants have any is remembered
    for a second. That decides only whether a statement is run; the statement itself reads who wants what.
    """

    def __init__(self, clock: Clock, invalidations: Invalidations) -> None:
        self._clock = clock
        self._interests: dict[int, int] = {}
        self._anybody = False
        self._fresh_until = 0.0
        self._changes = 0
        self.noted = asyncio.Event()
        """Set when something was noted. It may not be committed yet: whoever waits for it looks again by itself."""
        invalidations.register(self._forget)

    @asynccontextmanager
    async def beside(
        self, session: Session, tenant_ids: Iterable[int], events: int
    ) -> AsyncGenerator[list[JobNote] | None]:
        """Run one batch statement; what is added to the list it yields is noted in the same transaction.

        Yields None, and makes no transaction, when none of the tenants has a webhook for any of `events` (a set).
        """
        if not await self._wants(session, tenant_ids, events):
            yield None
            return
        notes: list[JobNote] = []
        async with session.together():
            yield notes
            await self._note(session, notes)
        if notes:
            self.noted.set()

    async def note(self, session: Session, notes: Sequence[JobNote]) -> None:
        """Note what happened to jobs within the open transaction of `session`, which is not a tenant's."""
        events = events_set(*{note.event for note in notes})
        if events & WebhookEvent.JOB_DEADLETTERED.bit:
            # What waited for a dead letter is cancelled with it.
            events |= CANCELLATION
        if notes and await self._wants(session, (note.tenant_id for note in notes), events):
            await self._note(session, notes)
            self.noted.set()

    async def note_cancelled(self, session: Session, cancelled: Sequence[tuple[int, UUID, str]]) -> None:
        """Note that the jobs (tenant, job, queue) were cancelled, as `note` does."""
        await self.note(
            session,
            [
                JobNote(tenant_id, job_id, WebhookEvent.JOB_CANCELLED, JobState.CANCELLED)
                for tenant_id, job_id, _ in cancelled
            ],
        )

    async def note_event(
        self, session: Session, tenant_id: int, event: WebhookEvent, data: dict[str, object]
    ) -> None:
        """Note what happened to anything but a job within the open transaction of `session`.

        `data` is what receivers are told; keys without a value are left out.
        """
        # Seldom enough to ask the database each time; and a tenant's session does not see other tenants' webhooks.
        told = {key: value for key, value in data.items() if value is not None}
        text = msgspec.json.encode(told).decode()
        if await outgoing_deliveries.note_event(session, tenant_id, event, text, self._clock.now()):
            self.noted.set()

    async def note_events(
        self, session: Session, event: WebhookEvent, told: Sequence[tuple[int, dict[str, object]]]
    ) -> None:
        """Note an event of many tenants (tenant, data), as `note_event` does of one; not in a tenant's session."""
        if not told or not await self._wants(session, (tenant_id for tenant_id, _ in told), event.bit):
            return
        texts = [(tenant_id, msgspec.json.encode(data).decode()) for tenant_id, data in told]
        if await outgoing_deliveries.note_events(session, event, texts, self._clock.now()):
            self.noted.set()

    async def _wants(self, session: Session, tenant_ids: Iterable[int], events: int) -> bool:
        if time.monotonic() >= self._fresh_until:
            await self._look(session)
        if self._anybody:
            return True
        interests = self._interests
        return bool(interests) and any(interests.get(tenant_id, 0) & events for tenant_id in tenant_ids)

    async def _note(self, session: Session, notes: Sequence[JobNote]) -> None:
        if not notes:
            return
        now = self._clock.now()
        buried = [
            (note.tenant_id, note.job_id) for note in notes if note.event is WebhookEvent.JOB_DEADLETTERED
        ]
        orphans = await outgoing_deliveries.find_orphaned_jobs(session, buried, now) if buried else []
        cancelled = [
            JobNote(tenant_id, job_id, WebhookEvent.JOB_CANCELLED, JobState.CANCELLED)
            for tenant_id, job_id in orphans
        ]
        await outgoing_deliveries.note_job_events(session, [*notes, *cancelled], now)

    async def _look(self, session: Session) -> None:
        # Timed from before the look, and not believed if something changed meanwhile.
        looked_at = time.monotonic()
        changes = self._changes
        found = await outgoing_webhooks.list_webhook_interests(
            session, limit=limits.INTERESTED_TENANTS_MAX + 1
        )
        interests: dict[int, int] = {}
        for tenant_id, events in found:
            interests[tenant_id] = interests.get(tenant_id, 0) | events
        self._interests = interests
        self._anybody = len(found) > limits.INTERESTED_TENANTS_MAX
        if changes == self._changes:
            self._fresh_until = looked_at + BELIEVED_SECONDS

    def _forget(self, _: int) -> None:
        self._changes += 1
        self._fresh_until = 0.0
