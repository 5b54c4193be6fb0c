"""Jobs: everything that a tenant can do with them."""

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from millstream.domain.errors import Conflict, NotFound
from millstream.domain.job import (
    DeadSelection,
    HistoryPage,
    Job,
    JobFilter,
    JobPage,
    JobState,
    JobStatus,
    Revived,
)
from millstream.domain.tenant import Principal
from millstream.domain.webhook import JobNote, WebhookEvent
from millstream.engine.claims import Claiming
from millstream.engine.context import Context, check_queue
from millstream.engine.deletions import Deleting
from millstream.engine.enqueuing import Enqueuing
from millstream.engine.events import EventKind
from millstream.engine.history import history_of
from millstream.engine.reviving import Reviving
from millstream.engine.settlements import Settling
from millstream.store import dead_letters, job_reads, jobs, quotas
from millstream.store.database import Session
from millstream.store.dead_letters import RevivedJob


class Jobs:
    """The jobs of all tenants, each seen through a principal of its own."""

    def __init__(
        self,
        context: Context,
        enqueuing: Enqueuing,
        claiming: Claiming,
        settling: Settling,
        deleting: Deleting,
        reviving: Reviving,
    ) -> None:
        self._context = context
        self._enqueuing = enqueuing
        self._claiming = claiming
        self._settling = settling
        self._deleting = deleting
        self._reviving = reviving
        # The hot operations are the collaborators' own: a layer of calls less on each.
        self.claim = claiming.claim
        self.give_back = claiming.give_back
        self.complete = settling.complete
        self.fail = settling.fail
        self.renew = settling.renew
        self.settle = settling.settle
        self.enqueue = enqueuing.enqueue
        self.enqueue_many = enqueuing.enqueue_many

    async def get(self, principal: Principal, job_id: UUID) -> Job:
        """Return a job in any state. Raises NotFound. Contract: spooled-jobs 3.3."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            job = await job_reads.find_job(session, principal.tenant_id, job_id, principal.visible_queues)
        if job is None:
            raise NotFound
        return job

    async def history(
        self, principal: Principal, job_id: UUID, *, descending: bool, limit: int, offset: int
    ) -> HistoryPage:
        """Return a page of what happened to a job. Raises NotFound. Contract: spooled-jobs 3.10, 12."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            job = await job_reads.find_job(session, principal.tenant_id, job_id, principal.visible_queues)
            if job is None:
                raise NotFound
            rows = await job_reads.list_job_events(session, principal.tenant_id, job_id)
        events = history_of(job, rows)
        if descending:
            events.reverse()
        return HistoryPage(events[offset : offset + limit], len(events) > offset + limit)

    async def counts(self, principal: Principal) -> dict[JobState, int]:
        """Return how many jobs are in each state. Contract: spooled-jobs 3.7."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await job_reads.count_jobs(session, principal.tenant_id, principal.visible_queues)

    async def statuses(self, principal: Principal, job_ids: Sequence[UUID]) -> list[JobStatus]:
        """Return the facts of those jobs that exist, each once, in order. Contract: spooled-jobs 3.8."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await job_reads.list_job_statuses(
                session, principal.tenant_id, list(dict.fromkeys(job_ids)), principal.visible_queues
            )

    async def cancel(self, principal: Principal, job_id: UUID) -> None:
        """Cancel a job that nobody works on. Raises NotFound or Conflict. Contract: spooled-jobs 3.4."""
        if principal.queues is not None:
            await self.get(principal, job_id)
        async with self._context.database.transaction() as session:
            cancelled = await jobs.cancel_jobs(
                session, [(principal.tenant_id, job_id)], error=None, now=self._context.now()
            )
            await self._context.outbox.note_cancelled(session, cancelled)
        self._tell_cancelled(cancelled)
        if not cancelled:
            job = await self.get(principal, job_id)
            raise Conflict(f"job cannot be cancelled any more: it is {job.state.name.lower()}")

    async def expire(self, *, limit: int) -> int:
        """Cancel jobs that nobody may claim any more; returns how many. Contract: spooled-jobs 10.6."""
        async with self._context.database.transaction() as session:
            expired = await jobs.find_expired_jobs(session, limit=limit, now=self._context.now())
            cancelled = await jobs.cancel_jobs(
                session, sorted(expired), error="job expired before it was claimed", now=self._context.now()
            )
            await self._context.outbox.note_cancelled(session, cancelled)
        self._tell_cancelled(cancelled)
        return len(expired)

    async def retry(self, principal: Principal, job_id: UUID) -> Job:
        """Bring one dead letter back. Raises Conflict for anything else. Contract: spooled-jobs 3.5, ruling R4.

        Raises QuotaExceeded when its failed workflow would run again and the plan has no room for it.
        """
        selection = DeadSelection(job_ids=(job_id,), queues=principal.visible_queues, limit=1)
        async with self._context.database.transaction() as session:
            choice = await self._reviving.choose(session, principal, selection)
            if choice.refusal is not None:
                raise choice.refusal
            revived = await dead_letters.retry_dead_jobs(
                session, principal.tenant_id, selection, restart=False, now=self._context.now()
            )
            await self._note_revived(session, principal, revived)
        if not revived:
            raise Conflict("only a failed job in the dead letter queue can be retried")
        self._tell_revived(principal, revived)
        return await self.get(principal, job_id)

    async def set_priority(self, principal: Principal, job_id: UUID, priority: int) -> int:
        """Change the priority of a job that waits and return the old one. Raises NotFound. Contract: 3.6."""
        async with self._context.database.transaction() as session:
            old = await jobs.set_job_priority(
                session,
                principal.tenant_id,
                job_id,
                priority,
                queues=principal.visible_queues,
                now=self._context.now(),
            )
        if old is None:
            raise NotFound
        return old

    async def retry_dead(self, principal: Principal, selection: DeadSelection) -> Revived:
        """Bring dead letters back, their retries beginning anew. Contract: spooled-jobs 3.17.

        Raises QuotaExceeded, and retries none, when the plan has no room for those found.
        """
        if selection.queue is not None and selection.job_ids is None:
            check_queue(principal, selection.queue)
        chosen = _selected(principal, selection)
        plan = principal.plan
        async with self._context.database.transaction() as session:
            active = 0
            if plan.max_active_jobs is not None:
                await quotas.lock_tenant(session, principal.tenant_id)
                usage = await quotas.count_job_usage(
                    session, [(principal.tenant_id, plan.max_active_jobs)], now=self._context.now()
                )
                active = usage[principal.tenant_id].active
            choice = await self._reviving.choose(session, principal, chosen)
            revived = await dead_letters.retry_dead_jobs(
                session, principal.tenant_id, choice.selection, restart=True, now=self._context.now()
            )
            if revived:
                plan.check_room("active_jobs", active, len(revived))
                await self._note_revived(session, principal, revived)
        self._tell_revived(principal, revived)
        return Revived([job.id for job in revived], choice.skipped)

    async def purge_dead(self, principal: Principal, selection: DeadSelection) -> int:
        """Delete dead letters and their descendants for good; returns how many. Contract: spooled-jobs 3.18."""
        if selection.queue is not None:
            check_queue(principal, selection.queue)
        return await self._deleting.purge(principal.tenant_id, _selected(principal, selection))

    # Last of the public ones: below it, `list` would name this method in annotations.
    async def list(self, principal: Principal, wanted: JobFilter) -> JobPage:
        """Return a page of jobs. Contract: spooled-jobs 3.2, 3.16."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            found = await job_reads.list_jobs(session, principal.tenant_id, _within(principal, wanted))
        return JobPage(found[: wanted.limit], len(found) > wanted.limit)

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self._claiming.close()
        await self._enqueuing.close()
        await self._settling.close()

    async def _note_revived(
        self, session: Session, principal: Principal, revived: Sequence[RevivedJob]
    ) -> None:
        notes = [
            JobNote(principal.tenant_id, job.id, WebhookEvent.JOB_RETRIED, JobState.READY) for job in revived
        ]
        await self._context.outbox.note(session, notes)
        await self._reviving.conclude(session, principal.tenant_id, (job.workflow_id for job in revived))

    def _tell_cancelled(self, cancelled: Sequence[tuple[int, UUID, str]]) -> None:
        if cancelled:
            self._context.workflows_changed.set()
        for tenant_id, job_id, queue in cancelled:
            self._context.tell(EventKind.JOB_CANCELLED, tenant_id, queue, job_id)

    def _tell_revived(self, principal: Principal, revived: Sequence[RevivedJob]) -> None:
        self._context.meters.retried(len(revived))
        for job in revived:
            self._context.wakeups.wake(principal.tenant_id, job.queue)
            self._context.tell(EventKind.JOB_RETRIED, principal.tenant_id, job.queue, job.id)


def _within(principal: Principal, wanted: JobFilter) -> JobFilter:
    if principal.queues is None:
        return wanted
    return replace(wanted, queues=principal.visible_queues)


def _selected(principal: Principal, selection: DeadSelection) -> DeadSelection:
    return replace(selection, queues=principal.visible_queues)
