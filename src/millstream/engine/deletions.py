"""Deleting jobs: dead letters with all that descends from them, queues with all that is in them.

Whatever the number of rows, a statement changes a bounded number of them: deleting goes in steps, and each is a
transaction. What is cut short is complete after the next call, since what leads to the rest is deleted last.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.job import DeadSelection
from millstream.engine.context import Context
from millstream.engine.events import EventKind
from millstream.store import deletions, jobs, queues, upkeep
from millstream.store.database import Session
from millstream.store.deletions import Descendant, DoomedJob

_LOWEST_ID = UUID(int=0)


class Deleting:
    """Deletes jobs for good. Keys are locked before jobs, jobs by id before their dependents."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def purge(self, tenant_id: int, selection: DeadSelection) -> int:
        """Delete the oldest dead letters of `selection` and their descendants; returns how many dead letters.

        One that is retried meanwhile stays, with what descends from it; what is left of that when it has more
        descendants than a step deletes. Contract: spooled-jobs 3.18, 10.7.
        """
        purged = 0
        left = selection.limit
        while left:
            # Not the tenant's own session: what webhooks are to be told is noted in it.
            async with self._context.database.transaction() as session:
                chosen = await deletions.list_purged_jobs(
                    session, tenant_id, selection, limit=min(left, limits.PURGED_ROWS_MAX)
                )
                if not chosen:
                    break
                step = await self._delete_families(session, tenant_id, chosen, dead_only=True)
            self._tell(tenant_id, step.freed)
            if step.deeper:
                await self._clear(tenant_id, step.deeper)
            else:
                purged += step.deleted
                left -= len(chosen)
        return purged

    async def delete_queue(self, tenant_id: int, name: str) -> bool:
        """Delete every job of a queue, then its configuration; returns whether there was anything.

        Jobs of other queues that waited for a deleted one are cancelled. Contract: spooled-jobs 4.3, 10.7.
        """
        async with self._context.database.session() as session:
            until = await upkeep.get_database_time(session, self._context.now())
        found = False
        after: UUID | None = _LOWEST_ID
        while after is not None:
            # Not the tenant's own session: what webhooks are to be told is noted in it.
            async with self._context.database.transaction() as session:
                page = await deletions.list_queue_jobs(
                    session, tenant_id, name, after=after, until=until, limit=limits.DELETED_ROWS_MAX
                )
                freed = await self._delete_page(session, tenant_id, page.jobs)
            self._tell(tenant_id, freed)
            found = found or bool(page.jobs)
            after = page.last_id if page.looked_at == limits.DELETED_ROWS_MAX else None
        # Last, so that whoever has to ask again is not told that there is no such queue.
        async with self._context.database.tenant(tenant_id) as session:
            return await queues.remove_queue(session, tenant_id, name) or found

    # Families

    async def _clear(self, tenant_id: int, chosen: Sequence[DoomedJob]) -> None:
        """Delete `chosen`, which has more descendants than a step deletes, from the bottom up."""
        levels = [chosen]
        while levels:
            async with self._context.database.transaction() as session:
                step = await self._delete_families(session, tenant_id, levels[-1], dead_only=False)
            self._tell(tenant_id, step.freed)
            if step.deeper:
                levels.append(step.deeper)
            else:
                levels.pop()

    async def _delete_families(
        self, session: Session, tenant_id: int, chosen: Sequence[DoomedJob], *, dead_only: bool
    ) -> "_Step":
        """Delete `chosen` and all that descends from them, unless that is more than a step deletes."""
        ids = [job.id for job in chosen]
        below = await deletions.list_descendants(session, tenant_id, ids, limit=limits.DELETED_ROWS_MAX)
        if len(below) == limits.DELETED_ROWS_MAX:
            return _Step(0, _deepest(below), _NOTHING)
        await deletions.lock_idempotency_keys(session, tenant_id, [*chosen, *(each.job for each in below)])
        locked = await deletions.lock_jobs(session, tenant_id, ids)
        doomed = [job.id for job in locked if job.is_dead or not dead_only]
        dependents = _descending_from(doomed, below)
        await deletions.lock_jobs(session, tenant_id, dependents)
        freed = await self._forget(session, tenant_id, [*doomed, *dependents])
        await deletions.delete_jobs(session, tenant_id, [*doomed, *dependents])
        return _Step(len(doomed), [], freed)

    # Queues

    async def _delete_page(self, session: Session, tenant_id: int, page: Sequence[DoomedJob]) -> "_Freed":
        """Delete the jobs of a page. Children that waited for one of them are cancelled."""
        if not page:
            return _NOTHING
        ids = [job.id for job in page]
        await deletions.lock_idempotency_keys(session, tenant_id, page)
        parents = [job.id for job in await deletions.lock_jobs(session, tenant_id, ids) if job.has_dependents]
        cancelled: list[tuple[int, UUID, str]] = []
        if parents:
            blocked = set(await deletions.lock_hopeless_jobs(session, tenant_id, parents)) - set(ids)
            cancelled = await self._cancel(session, tenant_id, blocked)
        freed = await self._forget(session, tenant_id, ids)
        await deletions.delete_jobs(session, tenant_id, ids)
        return _Freed([*cancelled, *freed.cancelled], freed.ready)

    # What waited for them

    async def _forget(self, session: Session, tenant_id: int, ids: Sequence[UUID]) -> "_Freed":
        forgotten = await deletions.forget_jobs(session, tenant_id, ids, self._context.now())
        return _Freed(await self._cancel(session, tenant_id, forgotten.hopeless), forgotten.ready)

    async def _cancel(
        self, session: Session, tenant_id: int, ids: Iterable[UUID]
    ) -> list[tuple[int, UUID, str]]:
        keys = [(tenant_id, job_id) for job_id in sorted(ids)]
        if not keys:
            return []
        cancelled = await jobs.cancel_jobs(
            session, keys, error="parent job was deleted", now=self._context.now()
        )
        await self._context.outbox.note_cancelled(session, cancelled)
        return cancelled

    def _tell(self, tenant_id: int, freed: "_Freed") -> None:
        self._context.workflows_changed.set()
        for _, job_id, queue in freed.cancelled:
            self._context.tell(EventKind.JOB_CANCELLED, tenant_id, queue, job_id)
        for job_id, queue in freed.ready:
            self._context.wakeups.wake(tenant_id, queue)
            self._context.tell(EventKind.JOB_READY, tenant_id, queue, job_id)


class _Freed(Struct, frozen=True):
    """What waited for deleted jobs: cancelled as (tenant, job, queue), or claimable now as (job, queue)."""

    cancelled: list[tuple[int, UUID, str]]
    ready: list[tuple[UUID, str]]


_NOTHING = _Freed([], [])


class _Step(Struct, frozen=True):
    """How many of the chosen jobs were deleted; or the descendants that must go before, when they are too many."""

    deleted: int
    deeper: list[DoomedJob]
    freed: _Freed


def _deepest(below: Sequence[Descendant]) -> list[DoomedJob]:
    depth = max(each.depth for each in below)
    return list({each.job.id: each.job for each in below if each.depth == depth}.values())


def _descending_from(ids: Sequence[UUID], below: Sequence[Descendant]) -> list[UUID]:
    """Return those of `below` that descend from `ids`."""
    families = set(ids)
    descendants: list[UUID] = []
    for each in sorted(below, key=lambda each: each.depth):
        if each.parent_id in families and each.job.id not in families:
            families.add(each.job.id)
            descendants.append(each.job.id)
    return descendants
