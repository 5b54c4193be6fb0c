"""API keys."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.api_key import USE_NOTED_SECONDS, ApiKey, ApiKeyChange, Member, NewApiKey
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("api_keys")
_FIND = _QUERIES["find_api_keys"].taking("now", "digests", "use_noted_seconds")
_PREVIEW = _QUERIES["preview_api_key"].taking("now", "tenant_id", "expires_at")
_CREATE = _QUERIES["create_api_key"].taking(
    "now", "tenant_id", "id", "name", "key_prefix", "digest", "hash", "queues", "rate_limit", "expires_at", "keys_max"
)  # fmt: skip
_LIST = _QUERIES["list_api_keys"].taking("tenant_id", "id", "limit")
_UPDATE = _QUERIES["update_api_key"].taking(
    "now", "tenant_id", "id", "name", "queues", "rate_limit", "is_active", "keys_max"
)
_REVOKE = _QUERIES["revoke_api_key"].taking("now", "tenant_id", "id")
_MEMBERS = _QUERIES["list_members"].taking("tenant_id", "limit")
_NOTE_USES = _QUERIES["note_key_uses"].taking("now", "tenant_ids", "ids", "use_noted_seconds")


class StoredKey(Struct, frozen=True, kw_only=True):
    """An API key as credentials are checked against it, with what its tenant may do.

    `hash` is empty when the key was found by what a token says.
    """

    tenant_id: int
    id: UUID
    hash: str
    queues: tuple[str, ...]
    rate_limit: int | None
    is_active: bool
    expires_in_seconds: float | None
    use_is_due: bool
    public_id: str
    plan_tier: str
    custom_limits: str | None


async def find_api_keys(
    session: Session, digests: Sequence[bytes], now: datetime | None
) -> list[StoredKey | None]:
    """Return the keys whose secrets have these digests, active or not, in their order."""
    rows = await session.many(_FIND, now, list(digests), USE_NOTED_SECONDS)
    found = {bytes(row["digest"]): stored_key_from(row, hash=row["hash"]) for row in rows}
    return [found.get(digest) for digest in digests]


class Creation(Struct, frozen=True):
    """What became of a new key: when it was made (None: it was not), how many there were, whether its end is to come."""

    created_at: datetime | None
    active: int
    ends_later: bool


async def preview_api_key(session: Session, tenant_id: int, new: NewApiKey, now: datetime | None) -> Creation:
    """Return what would become of a new key, without making it."""
    row = await session.one(_PREVIEW, now, tenant_id, new.expires_at)
    if row is None:
        return Creation(None, 0, ends_later=True)
    return Creation(None, int(row["active"]), row["ends_later"])


class Minted(Struct, frozen=True, kw_only=True):
    """What is stored of a fresh secret."""

    id: UUID
    prefix: str
    digest: bytes
    hash: str


async def create_api_key(
    session: Session,
    tenant_id: int,
    new: NewApiKey,
    minted: Minted,
    *,
    keys_max: int | None,
    now: datetime | None,
) -> Creation:
    """Make a key, if its end is to come and the tenant has fewer than `keys_max` active ones."""
    row = await session.one(
        _CREATE,
        now,
        tenant_id,
        minted.id,
        new.name,
        minted.prefix,
        minted.digest,
        minted.hash,
        list(new.queues),
        new.rate_limit,
        new.expires_at,
        keys_max,
    )
    if row is None:
        return Creation(None, 0, ends_later=True)
    return Creation(row["created_at"], int(row["active"]), row["ends_later"])


async def list_api_keys(
    session: Session, tenant_id: int, *, key_id: UUID | None = None, limit: int
) -> list[ApiKey]:
    """Return keys, the newest first, or the one with `key_id`."""
    return [_api_key_from(row) for row in await session.many(_LIST, tenant_id, key_id, limit)]


class Update(Struct, frozen=True):
    """What became of a change: the key as it is now (None: no such key, or no room), whether it is known."""

    key: ApiKey | None
    known: bool
    active: int


async def update_api_key(
    session: Session,
    tenant_id: int,
    key_id: UUID,
    change: ApiKeyChange,
    *,
    keys_max: int | None,
    now: datetime | None,
) -> Update:
    """Change a key, unless it becomes active while the tenant has `keys_max` active ones already."""
    row = await session.one(
        _UPDATE,
        now,
        tenant_id,
        key_id,
        change.name,
        None if change.queues is None else list(change.queues),
        change.rate_limit,
        change.is_active,
        keys_max,
    )
    if row is None:
        return Update(None, known=False, active=0)
    return Update(None if row["id"] is None else _api_key_from(row), row["known"], int(row["active"]))


async def revoke_api_key(session: Session, tenant_id: int, key_id: UUID, now: datetime | None) -> bool:
    """Make a key inactive; returns whether it is known."""
    return await session.one(_REVOKE, now, tenant_id, key_id) is not None


async def list_members(session: Session, tenant_id: int, *, limit: int) -> list[Member]:
    """Return the active keys as members, the oldest first."""
    return [
        Member(
            id=row["id"],
            name=row["name"],
            email=row["email"],
            queues=tuple(row["queues"]),
            joined_at=row["created_at"],
        )
        for row in await session.many(_MEMBERS, tenant_id, limit)
    ]


async def note_key_uses(session: Session, uses: Sequence[tuple[int, UUID]], now: datetime | None) -> int:
    """Note that keys (tenant, id) are in use; returns of how many it was news."""
    rows = await session.many(
        _NOTE_USES, now, [use[0] for use in uses], [use[1] for use in uses], USE_NOTED_SECONDS
    )
    return len(rows)


def stored_key_from(row: Row, *, hash: str = "") -> StoredKey:
    """Return the key that a look-up's row holds."""
    return StoredKey(
        tenant_id=row["tenant_id"],
        id=UUID(int=row["id"].int),
        hash=hash,
        queues=tuple(row["queues"]),
        rate_limit=row["rate_limit"],
        is_active=row["is_active"],
        expires_in_seconds=row["expires_in_seconds"],
        use_is_due=row["use_is_due"],
        public_id=row["public_id"],
        plan_tier=row["plan_tier"],
        custom_limits=row["custom_limits"],
    )


def _api_key_from(row: Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        prefix=row["key_prefix"],
        queues=tuple(row["queues"]),
        rate_limit=row["rate_limit"],
        is_active=row["is_active"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
    )
