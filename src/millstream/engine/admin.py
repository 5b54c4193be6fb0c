"""The administration of all tenants. Contract: spooled-tenancy 6."""

import time

from millstream.domain.admin import PlatformStats, TenantDetails, TenantFilter, TenantPage
from millstream.domain.api_key import NewApiKey
from millstream.domain.errors import NotFound
from millstream.domain.tenant import IssuedKey, Tenant, TenantChange
from millstream.engine.api_keys import ApiKeys
from millstream.engine.context import Context
from millstream.engine.tenant_removal import TenantRemoval
from millstream.store import admin, quotas, tenants


class Admin:
    """What whoever has the admin key may do. Every change counts from its answer on, in every process."""

    def __init__(self, context: Context, removal: TenantRemoval, api_keys: ApiKeys) -> None:
        self._context = context
        self._removal = removal
        self._api_keys = api_keys
        self._started_at = time.monotonic()

    async def list(self, wanted: TenantFilter) -> TenantPage:
        """Return a page of all tenants with their usage. Contract: spooled-tenancy 6.1."""
        async with self._context.database.transaction() as session:
            return await admin.list_all_tenants(session, wanted, self._context.now())

    async def get(self, organization_id: str) -> TenantDetails:
        """Return a tenant with what it uses. Raises NotFound. Contract: spooled-tenancy 6.3."""
        async with self._context.database.transaction() as session:
            tenant = await tenants.find_tenant(session, organization_id)
            if tenant is None:
                raise NotFound
            usage = await quotas.count_usage(session, tenant.id, active_max=None, now=self._context.now())
            totals = await admin.get_tenant_totals(session, tenant.id)
        return TenantDetails(tenant=tenant, usage=usage, api_keys=totals.api_keys, total_jobs=totals.jobs)

    async def update(self, organization_id: str, change: TenantChange) -> Tenant:
        """Change a tenant, its plan and limits included. Raises NotFound. Contract: spooled-tenancy 6.5."""
        async with self._context.database.transaction() as session:
            tenant = await tenants.update_tenant(session, organization_id, change, self._context.now())
        if tenant is None:
            raise NotFound
        await self._context.invalidations.tenant_changed(tenant.id)
        return tenant

    async def delete(self, organization_id: str, *, hard: bool) -> None:
        """Refuse a tenant's credentials and keep its rows, or remove it for good when `hard`. Contract: 6.6.

        Raises NotFound.
        """
        if hard:
            await self._removal.remove(organization_id, unless_active=False)
            return
        async with self._context.database.transaction() as session:
            tenant_id = await admin.delete_tenant_softly(session, organization_id, self._context.now())
        if tenant_id is None:
            raise NotFound
        await self._context.invalidations.tenant_changed(tenant_id)

    async def create_key(self, organization_id: str, new: NewApiKey) -> IssuedKey:
        """Make an API key for a tenant, past the cap of its plan. Contract: spooled-tenancy 6.4.

        Raises NotFound, InvalidField when the key would have expired already.
        """
        async with self._context.database.session() as session:
            tenant = await tenants.find_tenant(session, organization_id)
        if tenant is None:
            raise NotFound
        return await self._api_keys.issue(tenant.id, new, None)

    async def reset_usage(self, organization_id: str) -> None:
        """Let a tenant's count of jobs created today begin anew. Raises NotFound. Contract: spooled-tenancy 6.7."""
        async with self._context.database.transaction() as session:
            tenant = await tenants.find_tenant(session, organization_id)
            if tenant is None:
                raise NotFound
            await quotas.reset_jobs_today(session, tenant.id, self._context.now())

    async def stats(self) -> PlatformStats:
        """Return counts over all tenants. Contract: spooled-tenancy 6.8."""
        async with self._context.database.transaction() as session:
            return await admin.get_platform_stats(
                session,
                uptime_seconds=int(time.monotonic() - self._started_at),
                now=self._context.now(),
            )
