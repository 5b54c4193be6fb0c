"""Tenants, each made with its first API key, and the facts of the installation."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.tenant import Tenant, TenantChange
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("tenants")
_CREATE = _QUERIES["create_tenant"].taking(
    "public_id", "slug", "name", "plan_tier", "billing_email", "webhook_token", "key_id", "key_name", "key_prefix",
    "key_digest", "key_hash", "settings", "custom_limits",
)  # fmt: skip
_COUNT = _QUERIES["count_tenants"].taking()
_FIND = _QUERIES["find_tenant"].taking("public_id")
_FIND_SERVED = _QUERIES["find_served_tenant"].taking("slug")
_UPDATE = _QUERIES["update_tenant"].taking(
    "now", "public_id", "name", "billing_email", "settings", "description", "plan_tier", "custom_limits", "is_active",
    "stripe_customer_id", "stripe_subscription_id", "stripe_subscription_status", "cleared",
)  # fmt: skip
_WEBHOOK_TOKEN = _QUERIES["get_webhook_token"].taking("tenant_id")
_REPLACE_WEBHOOK_TOKEN = _QUERIES["replace_webhook_token"].taking("now", "tenant_id", "webhook_token")
_FREE_SLUG = _QUERIES["find_free_slug"].taking("slugs")
_SETTING = _QUERIES["get_setting"].taking("key")


class NewTenant(Struct, frozen=True, kw_only=True):
    """A tenant to create together with its first API key."""

    public_id: str
    slug: str
    name: str
    plan_tier: str
    billing_email: str | None
    webhook_token: str
    key_id: UUID
    key_name: str
    key_prefix: str
    key_digest: bytes
    key_hash: str
    settings: str | None = None
    custom_limits: str | None = None


class ServedTenant(Struct, frozen=True, kw_only=True):
    """What a request for a tenant needs to know of it."""

    id: int
    public_id: str
    slug: str
    plan_tier: str
    custom_limits: str | None


async def create_tenant(session: Session, new: NewTenant) -> Tenant | None:
    """Create a tenant; None when its slug is taken."""
    row = await session.one(
        _CREATE,
        new.public_id,
        new.slug,
        new.name,
        new.plan_tier,
        new.billing_email,
        new.webhook_token,
        new.key_id,
        new.key_name,
        new.key_prefix,
        new.key_digest,
        new.key_hash,
        new.settings,
        new.custom_limits,
    )
    return None if row is None else tenant_from(row)


async def find_tenant(session: Session, public_id: str) -> Tenant | None:
    """Return a tenant, served or not."""
    row = await session.one(_FIND, public_id)
    return None if row is None else tenant_from(row)


async def find_served_tenant(session: Session, slug: str) -> ServedTenant | None:
    """Return a tenant that is active and not deleted."""
    row = await session.one(_FIND_SERVED, slug)
    if row is None:
        return None
    return ServedTenant(
        id=row["id"],
        public_id=row["public_id"],
        slug=row["slug"],
        plan_tier=row["plan_tier"],
        custom_limits=row["custom_limits"],
    )


async def update_tenant(
    session: Session, public_id: str, change: TenantChange, now: datetime | None
) -> Tenant | None:
    """Change a tenant; None when it is unknown."""
    row = await session.one(
        _UPDATE,
        now,
        public_id,
        change.name,
        change.billing_email,
        change.settings,
        change.description,
        change.plan_tier,
        change.custom_limits,
        change.is_active,
        change.stripe_customer_id,
        change.stripe_subscription_id,
        change.stripe_subscription_status,
        list(change.cleared),
    )
    return None if row is None else tenant_from(row)


async def find_webhook_token(session: Session, tenant_id: int) -> str | None:
    """Return the token of a tenant's incoming webhooks, if it has one."""
    row = await session.one(_WEBHOOK_TOKEN, tenant_id)
    return None if row is None else row["webhook_token"]


async def replace_webhook_token(session: Session, tenant_id: int, token: str, now: datetime | None) -> bool:
    """Give a tenant another webhook token; returns whether the tenant is known."""
    return await session.one(_REPLACE_WEBHOOK_TOKEN, now, tenant_id, token) is not None


async def find_free_slug(session: Session, slugs: Sequence[str]) -> str | None:
    """Return the first of `slugs` that nobody has."""
    row = await session.one(_FREE_SLUG, list(slugs))
    return None if row is None else str(row["slug"])


def tenant_from(row: Row) -> Tenant:
    """Return the tenant that a row of its columns holds."""
    return Tenant(
        id=row["id"],
        public_id=row["public_id"],
        name=row["name"],
        slug=row["slug"],
        plan_tier=row["plan_tier"],
        billing_email=row["billing_email"],
        settings=row["settings"],
        custom_limits=row["custom_limits"],
        description=row["description"],
        is_active=row["is_active"],
        stripe_customer_id=row["stripe_customer_id"],
        stripe_subscription_id=row["stripe_subscription_id"],
        stripe_subscription_status=row["stripe_subscription_status"],
        stripe_current_period_end=row["stripe_current_period_end"],
        stripe_cancel_at_period_end=row["stripe_cancel_at_period_end"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def has_tenants(session: Session) -> bool:
    """Tell whether any tenant exists."""
    row = await session.one(_COUNT)
    return row is not None and int(row["tenants"]) > 0


async def get_setting(session: Session, key: str) -> str:
    """Return one fact about this installation. Raises LookupError when it was never noted."""
    value = await find_setting(session, key)
    if value is None:
        raise LookupError(key)
    return value


async def find_setting(session: Session, key: str) -> str | None:
    """Return one fact about this installation, None when it was never noted."""
    row = await session.one(_SETTING, key)
    return None if row is None else str(row["value"])
