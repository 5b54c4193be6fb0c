"""Messages that are not due yet, and cancelled ones."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from millstream.domain.errors import NotFound
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("delayed_messages")
_PENDING = _QUERIES["get_pending_counts"].taking("now", "tenant_id", "topic_id")


class Pending(Struct, frozen=True):
    """How many messages of a topic wait to be delivered, by partition, and when that was."""

    at: datetime
    counts: Mapping[int, int]


async def get_pending(session: Session, tenant_id: int, topic_id: int, *, now: datetime | None) -> Pending:
    """Return how many messages wait in a topic, some that are due a moment ago among them. Raises NotFound."""
    rows = await session.many(_PENDING, now, tenant_id, topic_id)
    if not rows:
        raise NotFound("topic not found")
    return Pending(rows[0]["at"], {row["partition"]: row["delayed_pending"] for row in rows})
