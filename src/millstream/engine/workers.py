"""Workers: registration and liveness."""

from millstream.domain import limits
from millstream.domain.errors import Conflict, NotFound, QuotaExceeded
from millstream.domain.tenant import Principal
from millstream.domain.webhook import WebhookEvent
from millstream.domain.worker import OFFLINE_AFTER_SECONDS, NewWorker, Worker, WorkerStatus
from millstream.engine.context import Context, check_queue
from millstream.engine.events import Event, EventKind
from millstream.store import quotas, workers
from millstream.store.database import Session


class Workers:
    """The registered workers of all tenants, each seen through a principal of its own."""

    def __init__(self, context: Context, *, default_max_concurrency: int = 5) -> None:
        self._context = context
        self._default_max_concurrency = default_max_concurrency

    async def register(self, principal: Principal, worker: NewWorker) -> Worker:
        """Register a worker, or a known one anew. Contract: spooled-jobs 5.1.

        Raises AccessDenied, Conflict for an id of another tenant, QuotaExceeded for one worker too many.
        """
        check_queue(principal, worker.queue)
        plan = principal.plan
        async with self._context.database.transaction() as session:
            if plan.max_workers is not None:
                await quotas.lock_tenant(session, principal.tenant_id)
            registration = await workers.register_worker(
                session,
                principal.tenant_id,
                worker,
                default_max_concurrency=self._default_max_concurrency,
                workers_max=plan.max_workers,
                now=self._context.now(),
            )
            if registration.owned and not registration.registered:
                raise QuotaExceeded(
                    "workers", current=registration.taken, limit=plan.max_workers or 0, plan=plan.tier
                )
            if registration.owned:
                await self._note(
                    session,
                    principal,
                    WebhookEvent.WORKER_REGISTERED,
                    worker.id,
                    worker.queue,
                    worker.hostname,
                )
        if not registration.owned:
            raise Conflict("worker id is taken")
        self._tell(EventKind.WORKER_REGISTERED, principal, worker.id, worker.queue)
        return await self.get(principal, worker.id)

    async def list(self, principal: Principal) -> list[Worker]:
        """Return workers, the most recent heartbeat first. Contract: spooled-jobs 5.2."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await workers.list_workers(
                session, principal.tenant_id, queues=principal.visible_queues, limit=limits.UNPAGED_ROWS_MAX
            )

    async def get(self, principal: Principal, worker_id: str) -> Worker:
        """Return a worker. Raises NotFound. Contract: spooled-jobs 5.3."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            found = await workers.list_workers(
                session, principal.tenant_id, worker_id=worker_id, queues=principal.visible_queues, limit=1
            )
        if not found:
            raise NotFound
        return found[0]

    async def heartbeat(
        self,
        principal: Principal,
        worker_id: str,
        *,
        status: WorkerStatus,
        current_jobs: int,
        metadata: str | None,
    ) -> None:
        """Note a heartbeat. Raises NotFound. Contract: spooled-jobs 5.4."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await workers.beat_worker(
                session,
                principal.tenant_id,
                worker_id,
                status=status,
                current_jobs=current_jobs,
                metadata=metadata,
                queues=principal.visible_queues,
                now=self._context.now(),
            )
        if not known:
            raise NotFound
        self._tell(EventKind.WORKER_BEAT, principal, worker_id, "")

    async def deregister(self, principal: Principal, worker_id: str) -> None:
        """Mark a worker offline; its live leases stay. Raises NotFound. Contract: spooled-jobs 5.5."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await workers.deregister_worker(
                session,
                principal.tenant_id,
                worker_id,
                queues=principal.visible_queues,
                now=self._context.now(),
            )
            for worker in await workers.list_workers(
                session, principal.tenant_id, worker_id=worker_id, queues=principal.visible_queues, limit=1
            ):
                await self._note(
                    session,
                    principal,
                    WebhookEvent.WORKER_DEREGISTERED,
                    worker_id,
                    worker.queue,
                    worker.hostname,
                )
        if not known:
            raise NotFound
        self._tell(EventKind.WORKER_DEREGISTERED, principal, worker_id, "")

    async def retire_stale(self) -> int:
        """Mark workers offline that were silent too long; returns how many. Contract: spooled-jobs 5.7."""
        async with self._context.database.transaction() as session:
            return await workers.retire_stale_workers(
                session, silence_seconds=OFFLINE_AFTER_SECONDS, now=self._context.now()
            )

    async def _note(
        self,
        session: Session,
        principal: Principal,
        event: WebhookEvent,
        worker_id: str,
        queue: str,
        hostname: str,
    ) -> None:
        await self._context.outbox.note_event(
            session,
            principal.tenant_id,
            event,
            {"worker_id": worker_id, "queue_name": queue, "hostname": hostname},
        )

    def _tell(self, kind: EventKind, principal: Principal, worker_id: str, queue: str) -> None:
        if self._context.hub.listens(principal.tenant_id):
            self._context.hub.publish(Event(kind, principal.tenant_id, queue, worker_id=worker_id))
