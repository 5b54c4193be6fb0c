"""Tokens: the keys that they were made from, and those that were revoked."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.api_key import USE_NOTED_SECONDS
from millstream.store.api_keys import StoredKey, stored_key_from
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("tokens")
_FIND = _QUERIES["find_token_keys"].taking("now", "organization_ids", "key_ids", "jtis", "use_noted_seconds")
_SIGNED_IN = _QUERIES["find_signed_in"].taking("tenant_id", "key_id")
_REVOKE = _QUERIES["revoke_tokens"].taking("tenant_id", "jtis", "expires_ats")
_PRUNE = _QUERIES["prune_revoked_tokens"].taking("now", "limit")


class TokenRef(Struct, frozen=True):
    """What a token says of where it comes from."""

    organization_id: str
    key_id: UUID
    jti: UUID


class TokenKey(Struct, frozen=True):
    """The key that a token was made from, and whether the token was revoked."""

    key: StoredKey
    is_revoked: bool


async def find_token_keys(
    session: Session, refs: Sequence[TokenRef], now: datetime | None
) -> list[TokenKey | None]:
    """Return the keys of tokens in their order; None where the key is unknown or another tenant's."""
    rows = await session.many(
        _FIND,
        now,
        [ref.organization_id for ref in refs],
        [ref.key_id for ref in refs],
        [ref.jti for ref in refs],
        USE_NOTED_SECONDS,
    )
    found = {int(row["place"]): TokenKey(stored_key_from(row), row["is_revoked"]) for row in rows}
    return [found.get(place) for place in range(1, len(refs) + 1)]


class SignedInTenant(Struct, frozen=True, kw_only=True):
    """The tenant of a token, and the queues of the token's key."""

    name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    queues: tuple[str, ...]


async def find_signed_in(session: Session, tenant_id: int, key_id: UUID) -> SignedInTenant | None:
    """Return the tenant and the queues that a token of `key_id` stands for."""
    row = await session.one(_SIGNED_IN, tenant_id, key_id)
    if row is None:
        return None
    return SignedInTenant(
        name=row["name"],
        slug=row["slug"],
        plan_tier=row["plan_tier"],
        billing_email=row["billing_email"],
        queues=tuple(row["queues"]),
    )


async def revoke_tokens(session: Session, tenant_id: int, tokens: Sequence[tuple[UUID, datetime]]) -> None:
    """Remember tokens (id, end) as revoked until their end."""
    await session.run(_REVOKE, tenant_id, [token[0] for token in tokens], [token[1] for token in tokens])


async def prune_revoked_tokens(session: Session, *, limit: int, now: datetime | None) -> int:
    """Forget up to `limit` revoked tokens that have ended; returns how many."""
    row = await session.one(_PRUNE, now, limit)
    return 0 if row is None else int(row["pruned"])
