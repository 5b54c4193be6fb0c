"""Following workflows: how each stands is looked at anew once one of its jobs has ended or come back.

The transactions that end jobs only note which workflows they change. Looking happens apart from them, and soon after: by a
loop, and before anything is told or decided about a workflow.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from millstream.domain import limits
from millstream.domain.errors import RowLocked
from millstream.domain.webhook import WebhookEvent
from millstream.domain.workflow import StepCounts, WorkflowStatus, blocked_for_good, next_status
from millstream.engine.context import Context
from millstream.store import workflows
from millstream.store.database import Session
from millstream.store.workflows import WorkflowCounts, WorkflowKey

# Workflows that change all the while are looked at this often: a look counts all of a workflow's jobs.
PACE_SECONDS: Final = 0.05

_TOLD = {
    WorkflowStatus.COMPLETED: WebhookEvent.WORKFLOW_COMPLETED,
    WorkflowStatus.FAILED: WebhookEvent.WORKFLOW_FAILED,
}


class Following:
    """Keeps the statuses and counters of workflows true."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next_look_at = 0.0

    async def follow(self) -> int:
        """Look at some of the workflows that have changed; returns how many. Contract: spooled-jobs 10.8."""
        early_seconds = self._next_look_at - time.monotonic()
        if early_seconds > 0:
            await asyncio.sleep(early_seconds)
        self._context.workflows_changed.clear()
        async with self._context.database.session() as session:
            changed = await workflows.list_changed_workflows(session)
        if changed:
            await self._look_apart(changed)
            self._next_look_at = time.monotonic() + PACE_SECONDS
        return len(changed)

    async def catch_up(self, tenant_id: int, workflow_id: UUID | None = None) -> bool:
        """Look at what has changed of a tenant's workflows, or of one of them; returns whether anything had."""
        any_changed = False
        while True:
            async with self._context.database.session() as session:
                changed = await workflows.list_changed_workflows(session, tenant_id, workflow_id)
            if not changed:
                return any_changed
            any_changed = True
            try:
                await self._look_apart(changed)
            except RowLocked:
                # Somebody is changing it for long: it is told as it was before.
                return any_changed
            if len(changed) < limits.WORKFLOWS_FOLLOWED_MAX:
                return any_changed

    async def look(
        self, session: Session, keys: Sequence[WorkflowKey], *, cancel: bool = False
    ) -> dict[WorkflowKey, WorkflowStatus]:
        """Hold workflows, whatever has changed of them, and return how they stand; unknown ones are left out.

        With `cancel` they are cancelled. Needs a transaction, which is not a tenant's.
        """
        held = await workflows.lock_workflows(session, keys)
        await workflows.take_workflow_changes(session, held)
        return await self._note(session, held, cancel=cancel)

    async def _look_apart(self, keys: Sequence[WorkflowKey]) -> None:
        async with self._context.database.batch() as session:
            held = await workflows.lock_workflows(session, keys)
            # Another process may have looked while this one waited for the locks.
            await self._note(session, await workflows.take_workflow_changes(session, held))

    async def _note(
        self, session: Session, held: Sequence[WorkflowKey], *, cancel: bool = False
    ) -> dict[WorkflowKey, WorkflowStatus]:
        if not held:
            return {}
        standings = [
            (counts, WorkflowStatus.CANCELLED if cancel else await self._status_of(session, counts))
            for counts in await workflows.count_workflow_jobs(session, held)
        ]
        await workflows.update_workflows(session, standings, self._context.now())
        for counts, status in standings:
            if status is not counts.status and status in _TOLD:
                await self._tell(session, counts, status)
        return {(counts.tenant_id, counts.id): status for counts, status in standings}

    async def _status_of(self, session: Session, counts: WorkflowCounts) -> WorkflowStatus:
        for_good = 0
        if counts.blocked and not counts.able:
            # Nothing else decides: only now is it worth knowing what waits for what.
            waits, own = await workflows.list_workflow_waits(session, counts.tenant_id, counts.id)
            for_good = len(blocked_for_good(waits) & own)
        return next_status(
            counts.status,
            StepCounts(
                able=counts.able,
                blocked=counts.blocked,
                blocked_for_good=for_good,
                dead=counts.dead,
                started=counts.started_at is not None,
            ),
        )

    async def _tell(self, session: Session, counts: WorkflowCounts, status: WorkflowStatus) -> None:
        await self._context.outbox.note_event(
            session,
            counts.tenant_id,
            _TOLD[status],
            {
                "workflow_id": str(counts.id),
                "name": counts.name,
                "status": status.name.lower(),
                "total_jobs": counts.total,
                "completed_jobs": counts.completed,
                "failed_jobs": counts.dead,
            },
        )
