"""Dead letters that are steps of workflows: retrying one lets its failed workflow run again, if the plan has room for that."""

from collections.abc import Iterable
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from millstream.domain.errors import QuotaExceeded
from millstream.domain.job import DeadSelection
from millstream.domain.tenant import Principal
from millstream.engine.workflow_following import Following
from millstream.store import quotas, workflows
from millstream.store.database import Session


class Choice(Struct, frozen=True):
    """Which dead letters may be retried, which are left alone, and what refuses them."""

    selection: DeadSelection
    skipped: list[UUID]
    refusal: QuotaExceeded | None


class Reviving:
    """Decides which failed workflows come back with their steps."""

    def __init__(self, following: Following) -> None:
        self._following = following

    async def choose(self, session: Session, principal: Principal, selection: DeadSelection) -> Choice:
        """Choose among `selection`; what is of failed workflows is left alone once the plan has no room for more of these.

        The tenant and the workflows stay locked until the transaction ends. Contract: spooled-jobs 1.10, 3.17.
        """
        tenant_id, plan = principal.tenant_id, principal.plan
        chosen = await workflows.list_dead_steps(session, tenant_id, selection)
        of_workflows = list(dict.fromkeys(workflow for _, workflow in chosen if workflow is not None))
        if not of_workflows:
            return Choice(selection, [], None)
        if plan.max_workflows is not None:
            await quotas.lock_tenant(session, tenant_id)
        await self._following.look(session, sorted((tenant_id, workflow) for workflow in of_workflows))
        left_alone: set[UUID | None] = set()
        refusal: QuotaExceeded | None = None
        if plan.max_workflows is not None:
            failed = await workflows.list_failed_workflows(session, tenant_id, of_workflows)
            active = await workflows.count_active_workflows(session, tenant_id)
            for workflow in of_workflows:
                if workflow not in failed:
                    continue
                try:
                    plan.check_room("workflows", active, 1)
                except QuotaExceeded as error:
                    refusal = error
                    left_alone.add(workflow)
                else:
                    active += 1
        kept = tuple(job_id for job_id, workflow in chosen if workflow not in left_alone)
        skipped = [job_id for job_id, workflow in chosen if workflow in left_alone]
        return Choice(replace(selection, job_ids=kept), skipped, refusal)

    async def conclude(self, session: Session, tenant_id: int, of_workflows: Iterable[UUID | None]) -> None:
        """Note that the workflows of jobs that came back run again."""
        keys = sorted({(tenant_id, workflow) for workflow in of_workflows if workflow is not None})
        if keys:
            await self._following.look(session, keys)
