"""Deliveries: what consumer groups were handed, and what they are owed again."""

from collections.abc import Sequence
from datetime import datetime

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("deliveries")

_GIVE_BACK = _QUERIES["give_back_deliveries"].taking("now", "tenant_id", "group_id", "member_ids")


async def give_back(
    session: Session, tenant_id: int, group_id: int, member_ids: Sequence[str], now: datetime | None
) -> int:
    """Make owed at once what members of a group hold; returns how many messages that were.

    The caller has locked the group and its partitions.
    """
    rows = await session.many(_GIVE_BACK, now, tenant_id, group_id, list(member_ids))
    return sum(row["leased"] for row in rows)
