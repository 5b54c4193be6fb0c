"""Statistics of messages and deliveries."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("message_statistics")
_SUMS = _QUERIES["sum_message_counters"].taking("tenant_id")
_CURRENT = _QUERIES["count_current_deliveries"].taking("tenant_id", "suffix")
_PRIORITIES = _QUERIES["list_partition_priorities"].taking("tenant_id")


async def sum_counters(session: Session, tenant_id: int) -> dict[tuple[int, str], int]:
    """Return a tenant's totals by kind and subject."""
    rows = await session.many(_SUMS, tenant_id)
    return {(row["kind"], row["subject"]): row["amount"] for row in rows}


class Current(Struct, frozen=True, gc=False):
    """What is leased, what waits to be delivered again, and how many dead letters there are."""

    in_flight: int
    queued: int
    dead_letters: int


async def count_current(session: Session, tenant_id: int, suffix: str) -> Current:
    """Return what a tenant's groups are at."""
    row = await session.one(_CURRENT, tenant_id, suffix)
    return Current(0, 0, 0) if row is None else Current(row["in_flight"], row["queued"], row["dead_letters"])


class PriorityRow(Struct, frozen=True, gc=False):
    """What a partition retains, by priority."""

    topic: str
    partition: int
    total: Sequence[int]
    consumed: Sequence[int]
    oldest_at: Sequence[datetime | None]


async def list_priorities(session: Session, tenant_id: int) -> list[PriorityRow]:
    """Return all partitions of a tenant."""
    rows = await session.many(_PRIORITIES, tenant_id)
    return [
        PriorityRow(row["topic"], row["partition"], row["total"], row["consumed"], row["oldest_at"])
        for row in rows
    ]
