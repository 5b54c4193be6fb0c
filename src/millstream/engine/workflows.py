"""Workflows: created whole, read, cancelled, retried."""

from collections.abc import Sequence
from uuid import UUID

from millstream.domain.errors import BadRequest, Conflict, FeatureDisabled, NotFound, QuotaExceeded
from millstream.domain.job import DeadSelection, JobState
from millstream.domain.tenant import Principal
from millstream.domain.webhook import JobNote, WebhookEvent
from millstream.domain.workflow import (
    JOBS_MAX_DEFAULT,
    CreatedWorkflow,
    NewWorkflow,
    Workflow,
    WorkflowDetail,
    WorkflowStatus,
    check_steps,
)
from millstream.engine.context import Context, check_queue
from millstream.engine.enqueuing import Enqueuing
from millstream.engine.events import EventKind
from millstream.engine.workflow_following import Following
from millstream.store import dead_letters, jobs, quotas, workflows
from millstream.store.database import Session


class Workflows:
    """The workflows of all tenants, each seen through a principal of its own."""

    def __init__(
        self,
        context: Context,
        enqueuing: Enqueuing,
        following: Following,
        *,
        jobs_max: int = JOBS_MAX_DEFAULT,
    ) -> None:
        self._context = context
        self._enqueuing = enqueuing
        self._following = following
        self._jobs_max = jobs_max

    async def create(self, principal: Principal, new: NewWorkflow) -> CreatedWorkflow:
        """Create a workflow with all its jobs, or nothing of it. Contract: spooled-jobs 7.1.

        Raises InvalidField or BadRequest for what can be no workflow, AccessDenied, PayloadTooLarge, FeatureDisabled or
        QuotaExceeded.
        """
        for step in new.steps:
            check_queue(principal, step.job.queue)
        check_steps(new.steps, jobs_max=self._jobs_max)
        if principal.plan.max_workflows == 0:
            raise FeatureDisabled("workflows", plan=principal.plan.tier)
        try:
            return await self._create(principal, new)
        except QuotaExceeded as error:
            # One that has just ended may be counted still.
            if error.resource != "workflows" or not await self._following.catch_up(principal.tenant_id):
                raise
        return await self._create(principal, new)

    async def get(self, principal: Principal, workflow_id: UUID) -> Workflow:
        """Return a workflow. Raises NotFound, also when a job is in a queue that the credential does not reach."""
        tenant_id = principal.tenant_id
        await self._following.catch_up(tenant_id, workflow_id)
        async with self._context.database.tenant(tenant_id) as session:
            return await self._get(session, principal, workflow_id)

    async def detail(self, principal: Principal, workflow_id: UUID) -> WorkflowDetail:
        """Return a workflow with its jobs and what they wait for. Raises NotFound. Contract: spooled-jobs 7.3."""
        tenant_id = principal.tenant_id
        await self._following.catch_up(tenant_id, workflow_id)
        async with self._context.database.tenant(tenant_id) as session:
            return WorkflowDetail(
                await self._get(session, principal, workflow_id),
                await workflows.list_workflow_jobs(session, tenant_id, workflow_id),
                await workflows.list_workflow_edges(session, tenant_id, workflow_id),
            )

    async def cancel(self, principal: Principal, workflow_id: UUID) -> Workflow:
        """Cancel a workflow and those of its jobs that nobody works on. Contract: spooled-jobs 7.4.

        Cancelling twice changes nothing. Raises NotFound, or Conflict once it is completed or failed.
        """
        key = (principal.tenant_id, workflow_id)
        await self.get(principal, workflow_id)
        cancelled: list[tuple[int, UUID, str]] = []
        async with self._context.database.batch() as session:
            status = (await self._following.look(session, [key])).get(key)
            if status in (WorkflowStatus.PENDING, WorkflowStatus.RUNNING):
                waiting = await workflows.list_waiting_jobs(session, *key)
                cancelled = await jobs.cancel_jobs(
                    session,
                    [(principal.tenant_id, job_id) for job_id in waiting],
                    error="workflow was cancelled",
                    now=self._context.now(),
                )
                await self._context.outbox.note_cancelled(session, cancelled)
                await self._following.look(session, [key], cancel=True)
        for tenant_id, job_id, queue in cancelled:
            self._context.tell(EventKind.JOB_CANCELLED, tenant_id, queue, job_id)
        if status is WorkflowStatus.COMPLETED or status is WorkflowStatus.FAILED:
            raise Conflict(f"workflow cannot be cancelled any more: it is {status.name.lower()}")
        return await self.get(principal, workflow_id)

    async def retry(self, principal: Principal, workflow_id: UUID) -> Workflow:
        """Retry every dead letter of a failed workflow, their retries beginning anew. Contract: spooled-jobs 7.4.

        Raises NotFound, BadRequest unless it is failed, or QuotaExceeded.
        """
        tenant_id, plan = principal.tenant_id, principal.plan
        key = (tenant_id, workflow_id)
        await self.get(principal, workflow_id)
        async with self._context.database.batch() as session:
            if plan.max_workflows is not None:
                await quotas.lock_tenant(session, tenant_id)
            if (await self._following.look(session, [key])).get(key) is not WorkflowStatus.FAILED:
                raise BadRequest("Only failed workflows can be retried")
            dead = await workflows.list_dead_jobs(session, *key)
            if not dead:
                raise BadRequest("No failed job of this workflow is left to be retried")
            if plan.max_workflows is not None:
                plan.check_room("workflows", await workflows.count_active_workflows(session, tenant_id), 1)
            selection = DeadSelection(job_ids=tuple(dead), limit=len(dead))
            revived = await dead_letters.retry_dead_jobs(
                session, tenant_id, selection, restart=True, now=self._context.now()
            )
            await self._context.outbox.note(
                session,
                [JobNote(tenant_id, job.id, WebhookEvent.JOB_RETRIED, JobState.READY) for job in revived],
            )
            await self._following.look(session, [key])
        self._context.meters.retried(len(revived))
        for job in revived:
            self._context.wakeups.wake(tenant_id, job.queue)
            self._context.tell(EventKind.JOB_RETRIED, tenant_id, job.queue, job.id)
        return await self.get(principal, workflow_id)

    # Last of the public ones: below it, `list` would name this method in annotations.
    async def list(
        self, principal: Principal, *, status: WorkflowStatus | None, limit: int, offset: int
    ) -> Sequence[Workflow]:
        """Return a page of workflows, the newest first. Contract: spooled-jobs 7.2."""
        await self._following.catch_up(principal.tenant_id)
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await workflows.list_workflows(
                session,
                principal.tenant_id,
                queues=principal.visible_queues,
                status=status,
                limit=limit,
                offset=offset,
            )

    async def _get(self, session: Session, principal: Principal, workflow_id: UUID) -> Workflow:
        workflow = await workflows.find_workflow(
            session, principal.tenant_id, workflow_id, principal.visible_queues
        )
        if workflow is None:
            raise NotFound
        return workflow

    async def _create(self, principal: Principal, new: NewWorkflow) -> CreatedWorkflow:
        plan = principal.plan
        # Before those of its jobs: lists go by id.
        workflow_id = self._context.ids.next()

        async def admit(session: Session) -> None:
            if plan.max_workflows is not None:
                await quotas.lock_tenant(session, principal.tenant_id)
                active = await workflows.count_active_workflows(session, principal.tenant_id)
                plan.check_room("workflows", active, 1)

        async def join(session: Session, job_ids: Sequence[UUID]) -> None:
            await workflows.create_workflow(
                session, principal.tenant_id, workflow_id, new, job_ids, self._context.now()
            )

        job_ids = await self._enqueuing.enqueue_together(
            principal, [step.job for step in new.steps], admit=admit, join=join
        )
        return CreatedWorkflow(workflow_id, job_ids)
