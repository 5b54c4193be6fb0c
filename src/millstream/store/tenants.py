"""Tenants and their API keys."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.tenant import Tenant
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("tenants")
_CREATE = _QUERIES["create_tenant"].taking(
    "public_id", "slug", "name", "plan_tier", "billing_email", "webhook_token", "key_id", "key_name", "key_prefix",
    "key_digest", "key_hash",
)  # fmt: skip
_COUNT = _QUERIES["count_tenants"].taking()
_FIND_KEY = _QUERIES["find_api_key"].taking("now", "digest")
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
    )
    if row is None:
        return None
    return Tenant(
        id=row["id"],
        public_id=row["public_id"],
        name=row["name"],
        slug=row["slug"],
        plan_tier=row["plan_tier"],
        billing_email=row["billing_email"],
        settings=row["settings"],
        custom_limits=row["custom_limits"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def has_tenants(session: Session) -> bool:
    """Tell whether any tenant exists."""
    row = await session.one(_COUNT)
    return row is not None and int(row["tenants"]) > 0


class StoredKey(Struct, frozen=True, kw_only=True):
    """An API key as it is stored, with what its tenant may do."""

    tenant_id: int
    id: UUID
    hash: str
    queues: tuple[str, ...]
    is_active: bool
    expires_in_seconds: float | None
    public_id: str
    plan_tier: str
    rate_limit: int | None = None


async def find_api_key(session: Session, digest: bytes, now: datetime | None) -> StoredKey | None:
    """Return the key whose secret has `digest`, active or not."""
    row = await session.one(_FIND_KEY, now, digest)
    if row is None:
        return None
    return StoredKey(
        tenant_id=row["tenant_id"],
        id=row["id"],
        hash=row["hash"],
        queues=tuple(row["queues"]),
        is_active=row["is_active"],
        expires_in_seconds=row["expires_in_seconds"],
        public_id=row["public_id"],
        plan_tier=row["plan_tier"],
        rate_limit=row["rate_limit"],
    )


async def get_setting(session: Session, key: str) -> str:
    """Return one fact about this installation. Raises LookupError when it was never noted."""
    row = await session.one(_SETTING, key)
    if row is None:
        raise LookupError(key)
    return str(row["value"])
