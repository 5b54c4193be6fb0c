"""Queues: configuration, pause, statistics."""

from millstream.domain import limits
from millstream.domain.errors import Conflict, InternalError, NotFound, QuotaExceeded
from millstream.domain.queue import Paused, Queue, QueueChange, QueueStats, Resumed
from millstream.domain.tenant import Principal
from millstream.domain.webhook import WebhookEvent
from millstream.engine.context import Context, check_queue
from millstream.engine.deletions import Deleting
from millstream.engine.events import EventKind
from millstream.store import queues, quotas
from millstream.store.database import Session


class Queues:
    """The configured queues of all tenants, each seen through a principal of its own."""

    def __init__(self, context: Context, deleting: Deleting) -> None:
        self._context = context
        self._deleting = deleting

    async def list(self, principal: Principal) -> list[Queue]:
        """Return the first configured queues by name. Contract: spooled-jobs 4."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await queues.list_queues(
                session, principal.tenant_id, names=principal.visible_queues, limit=limits.UNPAGED_ROWS_MAX
            )

    async def get(self, principal: Principal, name: str) -> Queue:
        """Return a queue's configuration. Raises NotFound when it has none, AccessDenied out of scope."""
        check_queue(principal, name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            found = await queues.list_queues(session, principal.tenant_id, names=[name], limit=1)
        if not found:
            raise NotFound
        return found[0]

    async def configure(self, principal: Principal, name: str, change: QueueChange) -> Queue:
        """Create a queue's configuration or change what is given. Contract: spooled-jobs 4.1.

        Raises AccessDenied, or QuotaExceeded for one queue more than the plan has.
        """
        check_queue(principal, name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await self._configure(session, principal, name, change)

    async def stats(self, principal: Principal, name: str) -> QueueStats:
        """Return what a queue is doing, zeros for an unknown one. Contract: spooled-jobs 2.6."""
        check_queue(principal, name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await queues.get_queue_stats(session, principal.tenant_id, name, self._context.now())

    async def pause(self, principal: Principal, name: str, reason: str | None) -> Paused:
        """Stop claims of a queue, known or not. Contract: spooled-jobs 4.2."""
        check_queue(principal, name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            await self._configure(session, principal, name, QueueChange())
            paused_at = await queues.pause_queue(
                session, principal.tenant_id, name, reason=reason, now=self._context.now()
            )
            await self._context.outbox.note_event(
                session,
                principal.tenant_id,
                WebhookEvent.QUEUE_PAUSED,
                {"queue_name": name, "reason": reason},
            )
        if paused_at is None:
            raise InternalError
        self._context.tell(EventKind.QUEUE_PAUSED, principal.tenant_id, name)
        return Paused(name, paused_at, reason)

    async def resume(self, principal: Principal, name: str) -> Resumed:
        """Let a queue be claimed again. Raises NotFound when it has no configuration. Contract: 4.2."""
        check_queue(principal, name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            seconds = await queues.resume_queue(session, principal.tenant_id, name, self._context.now())
            if seconds is not None:
                await self._context.outbox.note_event(
                    session, principal.tenant_id, WebhookEvent.QUEUE_RESUMED, {"queue_name": name}
                )
        if seconds is None:
            raise NotFound
        self._context.wakeups.wake(principal.tenant_id, name, limits.CLAIM_WAITERS_MAX)
        self._context.tell(EventKind.QUEUE_RESUMED, principal.tenant_id, name)
        return Resumed(name, seconds)

    async def delete(self, principal: Principal, name: str, *, with_jobs: bool) -> None:
        """Delete a queue's configuration, or all that is in it too. Contract: spooled-jobs 4.3.

        Raises NotFound, or Conflict while jobs are pending or running there.
        """
        check_queue(principal, name)
        if with_jobs:
            if not await self._deleting.delete_queue(principal.tenant_id, name):
                raise NotFound
            return
        async with self._context.database.tenant(principal.tenant_id) as session:
            deletion = await queues.delete_queue(session, principal.tenant_id, name)
        if deletion.busy:
            raise Conflict("queue has pending or processing jobs")
        if not deletion.existed:
            raise NotFound

    async def _configure(
        self, session: Session, principal: Principal, name: str, change: QueueChange
    ) -> Queue:
        queues_max = principal.plan.max_queues
        if queues_max is not None:
            await quotas.lock_tenant(session, principal.tenant_id)
        queue = await queues.configure_queue(
            session,
            principal.tenant_id,
            name,
            change,
            new_id=self._context.ids.next(),
            queues_max=queues_max,
            now=self._context.now(),
        )
        if queue is None:
            current = await quotas.count_queues(session, principal.tenant_id)
            raise QuotaExceeded("queues", current=current, limit=queues_max or 0, plan=principal.plan.tier)
        return queue
