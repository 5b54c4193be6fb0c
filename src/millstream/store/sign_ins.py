"""Sign-ins by e-mail: codes, and the hidden keys that their tokens are made from."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.store.api_keys import StoredKey, stored_key_from
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("sign_ins")
_PUT = _QUERIES["put_sign_in_code"].taking("now", "email", "digest", "seconds")
_TRY = _QUERIES["try_sign_in_code"].taking("now", "email", "tries_max")
_DROP = _QUERIES["drop_sign_in_code"].taking("email")
_OFFER = _QUERIES["offer_sign_up"].taking("now", "email", "digest", "seconds")
_TAKE = _QUERIES["take_sign_up"].taking("now", "digest")
_TENANTS = _QUERIES["find_tenants_by_email"].taking("email", "limit")
_OPEN = _QUERIES["open_session_key"].taking("now", "tenant_id", "id", "name", "digest")
_PRUNE = _QUERIES["prune_sign_in_codes"].taking("now", "limit")


async def put_code(
    session: Session, email: str, digest: bytes, *, seconds: int, now: datetime | None
) -> None:
    """Make a code the one that counts for `email`, for `seconds`."""
    await session.run(_PUT, now, email, digest, seconds)


async def try_code(session: Session, email: str, now: datetime | None) -> bytes | None:
    """Count a try and return the digest of the code that counts, None when none does."""
    row = await session.one(_TRY, now, email, limits.SIGN_IN_CODE_TRIES_MAX)
    return None if row is None else bytes(row["digest"])


async def drop_code(session: Session, email: str) -> None:
    """Forget the code of `email`."""
    await session.run(_DROP, email)


async def offer_sign_up(
    session: Session, email: str, digest: bytes, *, seconds: int, now: datetime | None
) -> None:
    """Replace the code of `email` by the digest of what completes its sign-up."""
    await session.run(_OFFER, now, email, digest, seconds)


async def take_sign_up(session: Session, digest: bytes, now: datetime | None) -> str | None:
    """Use up an offered sign-up; returns its address, None when there is none."""
    row = await session.one(_TAKE, now, digest)
    return None if row is None else str(row["email"])


class TenantRef(Struct, frozen=True):
    """Which tenant."""

    id: int
    public_id: str


async def find_tenants_by_email(session: Session, email: str) -> list[TenantRef]:
    """Return the tenants whose bills go to `email` (in lower case), the oldest first."""
    rows = await session.many(_TENANTS, email, limits.UNPAGED_ROWS_MAX)
    return [TenantRef(row["id"], row["public_id"]) for row in rows]


async def open_session_key(
    session: Session, tenant_id: int, *, new_id: UUID, name: str, digest: bytes, now: datetime | None
) -> StoredKey | None:
    """Return the tenant's hidden key, made now unless it has one; None when the tenant is gone."""
    row = await session.one(_OPEN, now, tenant_id, new_id, name, digest)
    return None if row is None else stored_key_from(row)


async def prune_codes(session: Session, *, limit: int, now: datetime | None) -> int:
    """Forget up to `limit` codes that have ended; returns how many."""
    row = await session.one(_PRUNE, now, limit)
    return 0 if row is None else int(row["pruned"])
