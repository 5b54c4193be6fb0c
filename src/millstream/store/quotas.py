"""What a tenant with finite caps has used, read under the lock of its row."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("quotas")
_LOCK = _QUERIES["lock_tenant"].taking("tenant_id")
_USAGE = _QUERIES["count_job_usage"].taking("now", "tenant_id", "active_max")
_KNOWN_KEYS = _QUERIES["find_known_keys"].taking("tenant_id", "keys")


class JobUsage(Struct, frozen=True):
    """Jobs created since midnight UTC, and active ones counted up to a bound."""

    today: int
    active: int


async def lock_tenant(session: Session, tenant_id: int) -> None:
    """Hold the tenant's row until the transaction ends: what it has used cannot grow meanwhile."""
    await session.one(_LOCK, tenant_id)


async def count_job_usage(
    session: Session, tenant_id: int, *, active_max: int | None, now: datetime | None
) -> JobUsage:
    """Return what is used; active jobs are counted up to one more than `active_max`."""
    row = await session.one(_USAGE, now, tenant_id, 0 if active_max is None else active_max + 1)
    return JobUsage(0, 0) if row is None else JobUsage(int(row["today"]), int(row["active"]))


async def find_known_keys(session: Session, tenant_id: int, keys: Sequence[str]) -> set[str]:
    """Return those idempotency `keys` that a job of the tenant holds."""
    return {row["key"] for row in await session.many(_KNOWN_KEYS, tenant_id, list(keys))}
