"""Tenants: creation with their first API key."""

import secrets
from uuid import uuid4

from millstream.domain.errors import Conflict
from millstream.domain.tenant import IssuedKey, Tenant
from millstream.engine.context import Context
from millstream.engine.credentials import make_key
from millstream.store import tenants
from millstream.store.database import Session
from millstream.store.tenants import NewTenant

FIRST_KEY_NAME = "Initial Admin Key"


class Tenants:
    """The tenants of this installation."""

    def __init__(self, context: Context, *, pepper: bytes, live_keys: bool) -> None:
        self._context = context
        self._pepper = pepper
        self._live_keys = live_keys

    async def create(
        self, *, name: str, slug: str, billing_email: str | None, plan_tier: str = "free"
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
                pepper=self._pepper,
                live_keys=self._live_keys,
            )


async def create_tenant(
    session: Session,
    *,
    name: str,
    slug: str,
    billing_email: str | None,
    plan_tier: str,
    pepper: bytes,
    live_keys: bool,
) -> tuple[Tenant, IssuedKey]:
    """Create a tenant and its first, unrestricted key on `session`. Raises Conflict when the slug is taken."""
    key = await make_key(pepper, live=live_keys)
    key_id = uuid4()
    tenant = await tenants.create_tenant(
        session,
        NewTenant(
            public_id=str(uuid4()),
            slug=slug,
            name=name,
            plan_tier=plan_tier,
            billing_email=billing_email,
            webhook_token=secrets.token_urlsafe(32),
            key_id=key_id,
            key_name=FIRST_KEY_NAME,
            key_prefix=key.prefix,
            key_digest=key.digest,
            key_hash=key.hash,
        ),
    )
    if tenant is None:
        raise Conflict("slug is taken")
    return tenant, IssuedKey(id=key_id, secret=key.secret, name=FIRST_KEY_NAME, created_at=tenant.created_at)
