"""Deleting tenants: the tenant and its keys at once, its rows in bounded steps beside the requests."""

from contextlib import suppress

from millstream.domain import limits
from millstream.domain.errors import Conflict, NotFound, Unavailable
from millstream.engine.context import Context
from millstream.store import tenant_removal
from millstream.store.database import Session

TENANTS_PER_SWEEP = 100
# Longer than any request, batch or belief in a credential lasts that may still write a row of the tenant.
TOMBSTONE_SECONDS = 600


class TenantRemoval:
    """Removes tenants for good. Contract: spooled-tenancy 3.5, 6.6."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def remove(self, organization_id: str, *, unless_active: bool) -> None:
        """Remove a tenant with everything that is its own; its credentials stop at once.

        Raises NotFound, or Conflict while it has unfinished jobs, workers or active schedules and `unless_active` is set.
        """
        async with self._context.database.transaction() as session:
            tenant_id = await tenant_removal.hold_tenant(session, organization_id)
            if tenant_id is None:
                raise NotFound
            if unless_active:
                await _refuse_active(session, tenant_id)
            await tenant_removal.remove_tenant(session, tenant_id, self._context.now())
        await self._context.invalidations.tenant_changed(tenant_id)
        # The rows of most tenants go in one step; those of others, or a step that fails, are the loop's.
        with suppress(Unavailable):
            await self._remove_rows(tenant_id, limits.REMOVED_ROWS_MAX)

    async def sweep(self) -> int:
        """Delete a batch of rows of removed tenants; returns how many."""
        async with self._context.database.session() as session:
            tenant_ids = await tenant_removal.list_removed_tenants(session, limit=TENANTS_PER_SWEEP)
        removed = 0
        for tenant_id in tenant_ids:
            if removed >= limits.REMOVED_ROWS_MAX:
                break
            removed += await self._remove_rows(tenant_id, limits.REMOVED_ROWS_MAX - removed)
        return removed

    async def _remove_rows(self, tenant_id: int, rows_max: int) -> int:
        async with self._context.database.transaction() as session:
            removed = await tenant_removal.remove_tenant_rows(session, tenant_id, limit=rows_max)
            if removed == 0:
                await tenant_removal.forget_removed_tenant(
                    session, tenant_id, seconds=TOMBSTONE_SECONDS, now=self._context.now()
                )
        return removed


async def _refuse_active(session: Session, tenant_id: int) -> None:
    counted_max = limits.ACTIVE_JOBS_COUNTED_MAX
    active = await tenant_removal.count_active_resources(session, tenant_id, counted_max=counted_max)
    if active.jobs:
        many = "or more " if active.jobs == counted_max else ""
        raise Conflict(f"Organization has {active.jobs} {many}active jobs")
    if active.workers:
        raise Conflict(f"Organization has {active.workers} active workers")
    if active.schedules:
        raise Conflict(f"Organization has {active.schedules} active schedules")
