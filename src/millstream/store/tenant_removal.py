"""How a tenant goes: first itself and its keys, then its rows in bounded steps."""

from datetime import datetime

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("tenant_removal")
_HOLD = _QUERIES["hold_tenant"].taking("public_id")
_ACTIVE = _QUERIES["count_active_resources"].taking("tenant_id", "counted_max")
_REMOVE = _QUERIES["remove_tenant"].taking("tenant_id", "now")
_LIST = _QUERIES["list_removed_tenants"].taking("limit")
_REMOVE_ROWS = _QUERIES["remove_tenant_rows"].taking("tenant_id", "limit")
_FORGET = _QUERIES["forget_removed_tenant"].taking("tenant_id", "now", "seconds")


class ActiveResources(Struct, frozen=True):
    """What of a tenant is in use: jobs that are not finished (counted up to a bound), workers not offline, schedules."""

    jobs: int
    workers: int
    schedules: int


async def hold_tenant(session: Session, public_id: str) -> int | None:
    """Hold a tenant's row until the transaction ends; returns its id, None when it is unknown."""
    row = await session.one(_HOLD, public_id)
    return None if row is None else int(row["id"])


async def count_active_resources(session: Session, tenant_id: int, *, counted_max: int) -> ActiveResources:
    """Return what of the tenant is in use."""
    row = await session.one(_ACTIVE, tenant_id, counted_max)
    if row is None:
        return ActiveResources(0, 0, 0)
    return ActiveResources(row["jobs"], row["workers"], row["schedules"])


async def remove_tenant(session: Session, tenant_id: int, now: datetime | None) -> None:
    """Remove the tenant and its keys; its other rows are left to `remove_tenant_rows`."""
    await session.one(_REMOVE, tenant_id, now)


async def list_removed_tenants(session: Session, *, limit: int) -> list[int]:
    """Return the ids of tenants that were removed and may have rows left."""
    return [int(row["id"]) for row in await session.many(_LIST, limit)]


async def remove_tenant_rows(session: Session, tenant_id: int, *, limit: int) -> int:
    """Delete up to `limit` rows of a removed tenant from all tables; returns how many."""
    row = await session.one(_REMOVE_ROWS, tenant_id, limit)
    return 0 if row is None else int(row["removed"])


async def forget_removed_tenant(
    session: Session, tenant_id: int, *, seconds: int, now: datetime | None
) -> None:
    """Stop looking for rows of a tenant that was removed more than `seconds` ago."""
    await session.run(_FORGET, tenant_id, now, seconds)
