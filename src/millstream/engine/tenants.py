"""Tenants: creation with their first API key, and what a tenant sees and changes of itself."""

import secrets
from uuid import uuid4

from millstream.domain.errors import AccessDenied, Conflict, InternalError, NotFound
from millstream.domain.slug import alternatives, slug_of
from millstream.domain.tenant import IssuedKey, Principal, Tenant, TenantChange
from millstream.engine.context import Context
from millstream.engine.credentials import KeyMaker
from millstream.engine.tenant_removal import TenantRemoval
from millstream.store import tenants
from millstream.store.database import Session
from millstream.store.tenants import NewTenant

FIRST_KEY_NAME = "Initial Admin Key"


class Tenants:
    """The tenants of this installation."""

    def __init__(self, context: Context, removal: TenantRemoval, key_maker: KeyMaker) -> None:
        self._context = context
        self._removal = removal
        self._key_maker = key_maker

    async def create(
        self,
        *,
        name: str,
        slug: str,
        billing_email: str | None,
        plan_tier: str = "free",
        settings: str | None = None,
        custom_limits: str | None = None,
    ) -> tuple[Tenant, IssuedKey]:
        """Create a tenant and its first, unrestricted key. Raises Conflict when the slug is taken.

        Contract: spooled-tenancy 3.1.
        """
        async with self._context.database.session() as session:
            return await create_tenant(
                session,
                name=name,
                slug=slug,
                billing_email=billing_email,
                plan_tier=plan_tier,
                key_maker=self._key_maker,
                settings=settings,
                custom_limits=custom_limits,
            )

    async def get(self, principal: Principal, organization_id: str | None = None) -> Tenant:
        """Return the caller's tenant. Raises NotFound for any other id. Contract: spooled-tenancy 3.3."""
        _check_own(principal, organization_id)
        async with self._context.database.tenant(principal.tenant_id) as session:
            tenant = await tenants.find_tenant(session, principal.organization_id)
        if tenant is None:
            raise NotFound
        return tenant

    async def update(self, principal: Principal, organization_id: str, change: TenantChange) -> Tenant:
        """Change the caller's tenant. Raises NotFound, AccessDenied for a restricted key. Contract: 3.4."""
        _check_own(principal, organization_id)
        check_unrestricted(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            tenant = await tenants.update_tenant(
                session, principal.organization_id, change, self._context.now()
            )
        if tenant is None:
            raise NotFound
        await self._context.invalidations.tenant_changed(tenant.id)
        return tenant

    async def delete(self, principal: Principal, organization_id: str) -> None:
        """Delete the caller's tenant with everything in it. Contract: spooled-tenancy 3.5.

        Raises NotFound, AccessDenied for a restricted key, Conflict while anything of it is active.
        """
        _check_own(principal, organization_id)
        check_unrestricted(principal)
        await self._removal.remove(principal.organization_id, unless_active=True)

    async def find_webhook_token(self, principal: Principal, organization_id: str | None) -> str | None:
        """Return the token of the caller's incoming webhooks. Raises NotFound, AccessDenied. Contract: 3.10."""
        _check_own(principal, organization_id)
        check_unrestricted(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await tenants.find_webhook_token(session, principal.tenant_id)

    async def renew_webhook_token(self, principal: Principal, organization_id: str | None) -> str:
        """Replace the token of the caller's incoming webhooks; the old one stops at once. Contract: 3.10."""
        _check_own(principal, organization_id)
        check_unrestricted(principal)
        token = make_webhook_token()
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await tenants.replace_webhook_token(
                session, principal.tenant_id, token, self._context.now()
            )
        if not known:
            raise NotFound
        await self._context.invalidations.tenant_changed(principal.tenant_id)
        return token

    async def find_free_slug(self, slug: str) -> str:
        """Return `slug`, or one like it when a tenant has it. Contract: spooled-tenancy 3.8."""
        async with self._context.database.session() as session:
            found = await tenants.find_free_slug(session, alternatives(slug, secrets.token_hex(4)))
        if found is None:
            raise InternalError
        return found

    async def propose_slug(self, name: str) -> str:
        """Return a valid slug for `name` that nobody has at the moment. Contract: spooled-tenancy 3.9."""
        return await self.find_free_slug(slug_of(name))


def check_unrestricted(principal: Principal) -> None:
    """Raise AccessDenied for a key that is limited to some queues. Contract: spooled-tenancy 4.2."""
    if principal.queues is not None:
        raise AccessDenied


def make_webhook_token() -> str:
    """Make a token for incoming webhooks: 256 random bits, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


def _check_own(principal: Principal, organization_id: str | None) -> None:
    # Not AccessDenied: ids of others cannot be probed.
    if organization_id is not None and organization_id != principal.organization_id:
        raise NotFound


async def create_tenant(
    session: Session,
    *,
    name: str,
    slug: str,
    billing_email: str | None,
    plan_tier: str,
    key_maker: KeyMaker,
    settings: str | None = None,
    custom_limits: str | None = None,
) -> tuple[Tenant, IssuedKey]:
    """Create a tenant and its first, unrestricted key on `session`. Raises Conflict when the slug is taken."""
    key = await key_maker.make()
    key_id = uuid4()
    tenant = await tenants.create_tenant(
        session,
        NewTenant(
            public_id=str(uuid4()),
            slug=slug,
            name=name,
            plan_tier=plan_tier,
            billing_email=billing_email,
            webhook_token=make_webhook_token(),
            key_id=key_id,
            key_name=FIRST_KEY_NAME,
            key_prefix=key.prefix,
            key_digest=key.digest,
            key_hash=key.hash,
            settings=settings,
            custom_limits=custom_limits,
        ),
    )
    if tenant is None:
        raise Conflict("slug is taken")
    return tenant, IssuedKey(id=key_id, secret=key.secret, name=FIRST_KEY_NAME, created_at=tenant.created_at)
