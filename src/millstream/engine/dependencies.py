"""Dependencies between any jobs of a tenant. Contract: spooled-jobs 7.5, 10.7."""

from collections.abc import Sequence
from uuid import UUID

from millstream.domain import limits
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.job import DependencyMode, JobState
from millstream.domain.tenant import Principal
from millstream.domain.workflow import Dependencies, DependenciesAdded
from millstream.engine.context import Context
from millstream.engine.events import EventKind
from millstream.store import dependencies, job_reads, quotas
from millstream.store.database import Session
from millstream.store.dependencies import Recounted


class DependencyUseCases:
    """What jobs wait for."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, principal: Principal, job_id: UUID) -> Dependencies:
        """Return what a job waits for and what waits for it. Raises NotFound."""
        tenant_id, queues = principal.tenant_id, principal.visible_queues
        async with self._context.database.tenant(tenant_id) as session:
            job = await job_reads.find_job(session, tenant_id, job_id, queues)
            if job is None:
                raise NotFound
            depends_on, dependents = await dependencies.list_neighbours(session, tenant_id, job_id, queues)
        return Dependencies(job, depends_on, dependents)

    async def add(
        self, principal: Principal, job_id: UUID, depends_on: Sequence[UUID], mode: DependencyMode
    ) -> DependenciesAdded:
        """Make a job that has not begun wait for others too, and set how.

        Itself, and what waits for it already, is passed over. Raises NotFound for unknown jobs, Conflict when it has
        begun or would wait for a cancelled job for ever, BadRequest when it waits for too many.
        """
        tenant_id = principal.tenant_id
        wanted = list(dict.fromkeys(depends_on))
        # Not the tenant's own session: its row is locked, so that no two requests close a circle between them.
        async with self._context.database.transaction() as session:
            await quotas.lock_tenant(session, tenant_id)
            added, recounted = await self._add(session, principal, job_id, wanted, mode)
        is_ready = recounted.state is JobState.READY
        if is_ready:
            self._context.wakeups.wake(tenant_id, recounted.queue)
            self._context.tell(EventKind.JOB_READY, tenant_id, recounted.queue, job_id)
        return DependenciesAdded(added, recounted.state is not JobState.BLOCKED)

    async def _add(
        self,
        session: Session,
        principal: Principal,
        job_id: UUID,
        wanted: Sequence[UUID],
        mode: DependencyMode,
    ) -> tuple[int, Recounted]:
        tenant_id, queues = principal.tenant_id, principal.visible_queues
        # Whoever is completed meanwhile lets this job go, or is found completed.
        await dependencies.lock_living_jobs(session, tenant_id, [*wanted, job_id])
        job = await job_reads.find_job(session, tenant_id, job_id, queues)
        statuses = await job_reads.list_job_statuses(session, tenant_id, wanted, queues)
        if job is None or len(statuses) < len(wanted):
            raise NotFound
        if job.state >= JobState.RUNNING:
            raise Conflict("only a pending or scheduled job can be made to wait")
        below = await dependencies.list_waiting_below(session, tenant_id, job_id)
        fitting = [status for status in statuses if status.id != job_id and status.id not in below]
        ids = [status.id for status in fitting]
        added = await dependencies.add_dependencies(session, tenant_id, job_id, ids, mode, job.workflow_id)
        if await dependencies.count_dependencies(session, tenant_id, job_id) > limits.DEPENDENCIES_MAX:
            raise BadRequest(f"a job waits for at most {limits.DEPENDENCIES_MAX} others")
        depends_on, _ = await dependencies.list_neighbours(session, tenant_id, job_id, None)
        cancelled = [each.state is JobState.CANCELLED for each in depends_on]
        if cancelled and (any(cancelled) if mode is DependencyMode.ALL else all(cancelled)):
            raise Conflict("a cancelled job never completes: nothing can wait for it")
        recounted = await dependencies.recount_dependencies(session, tenant_id, job_id, self._context.now())
        if recounted is None:
            raise Conflict("job is changing hands, try again")
        return added, recounted
