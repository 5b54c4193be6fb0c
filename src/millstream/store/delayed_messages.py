"""Messages that are not due yet, and cancelled ones."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.delayed_message import DelayedMessage, DelayedStatistics
from millstream.domain.errors import NotFound
from millstream.domain.topic import Priority
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("delayed_messages")
_PENDING = _QUERIES["get_pending_counts"].taking("now", "tenant_id", "topic_id")
_FIND_CANCELLED = _QUERIES["find_cancelled"].taking("tenant_id", "topic_id", "partition", "offsets")
_HOLD_CANCELLED = _QUERIES["hold_cancelled"].taking("tenant_id", "topic_id", "partition", "offsets")
_LIST = _QUERIES["list_delayed_messages"].taking("now", "tenant_id", "topic_id", "limit", "skip")
_FIND = _QUERIES["find_delayed_message"].taking("now", "tenant_id", "topic_id", "partition", "offset")
_HOLD_POSITIONS = _QUERIES["hold_group_positions"].taking("tenant_id", "topic_id", "partition")
_CANCEL = _QUERIES["cancel_delayed_message"].taking("now", "tenant_id", "topic_id", "partition", "offset")
_FOLD = _QUERIES["fold_delivered_messages"].taking("now", "lookback_seconds", "limit")
_NEXT = _QUERIES["seconds_to_next_delivery"].taking("now", "lookback_seconds")
_COUNT = _QUERIES["count_delayed_messages"].taking("now", "tenant_id")
_COUNT_PENDING = _QUERIES["count_pending_messages"].taking("now", "tenant_id")


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


async def find_cancelled(
    session: Session, tenant_id: int, topic_id: int, partition: int, offsets: Sequence[int]
) -> set[int]:
    """Return which of `offsets` are cancelled messages."""
    rows = await session.many(_FIND_CANCELLED, tenant_id, topic_id, partition, offsets)
    return {row["offset"] for row in rows}


async def hold_cancelled(
    session: Session, tenant_id: int, topic_id: int, partition: int, offsets: Sequence[int]
) -> set[int]:
    """Return which of `offsets` are cancelled; none of the others is until the transaction ends.

    Waits for cancellations that are under way.
    """
    rows = await session.many(_HOLD_CANCELLED, tenant_id, topic_id, partition, offsets)
    return {row["offset"] for row in rows if row["cancelled"]}


async def list_delayed_messages(
    session: Session, tenant_id: int, topic_id: int, *, limit: int, skip: int, now: datetime | None
) -> list[DelayedMessage]:
    """Return messages that wait to be delivered, the next one first."""
    rows = await session.many(_LIST, now, tenant_id, topic_id, limit, skip)
    return [_to_delayed(row) for row in rows]


async def find_delayed_message(
    session: Session, tenant_id: int, topic_id: int, partition: int | None, offset: int, now: datetime | None
) -> DelayedMessage | None:
    """Return the message that waits at `offset` of `partition`, or of the first partition that has one."""
    row = await session.one(_FIND, now, tenant_id, topic_id, partition, offset)
    return None if row is None else _to_delayed(row)


async def cancel_delayed_message(
    session: Session, tenant_id: int, topic_id: int, partition: int, offset: int, now: datetime | None
) -> bool:
    """Cancel a message that is not due yet, for every group; False when there is none."""
    # A statement of its own: what groups are owed when it has their locks is what the next one sees.
    await hold_positions(session, tenant_id, topic_id, partition)
    return await session.one(_CANCEL, now, tenant_id, topic_id, partition, offset) is not None


async def hold_positions(session: Session, tenant_id: int, topic_id: int, partition: int) -> None:
    """Hold what groups know of a partition until the transaction ends: none is handed anything of it meanwhile."""
    await session.many(_HOLD_POSITIONS, tenant_id, topic_id, partition)


class Delivered(Struct, frozen=True):
    """How many messages of a topic have become due."""

    tenant_id: int
    topic_id: int
    messages: int


async def fold_delivered(
    session: Session, *, lookback_seconds: int, limit: int, now: datetime | None
) -> list[Delivered]:
    """Count up to `limit` messages that have become due as delivered."""
    rows = await session.many(_FOLD, now, lookback_seconds, limit)
    return [Delivered(row["tenant_id"], row["topic_id"], row["messages"]) for row in rows]


async def seconds_to_next_delivery(
    session: Session, *, lookback_seconds: int, now: datetime | None
) -> float | None:
    """Return in how many seconds the next message becomes due; None when none waits."""
    row = await session.one(_NEXT, now, lookback_seconds)
    return None if row is None else row["seconds"]


async def count_delayed_messages(session: Session, tenant_id: int, now: datetime | None) -> DelayedStatistics:
    """Return the totals of a tenant."""
    totals = await session.one(_COUNT, now, tenant_id)
    pending = await session.many(_COUNT_PENDING, now, tenant_id)
    if totals is None:
        raise LookupError
    return DelayedStatistics(
        scheduled=totals["scheduled"],
        delivered=totals["delivered"],
        cancelled=totals["cancelled"],
        delivered_delay_seconds=totals["delay_ms"] / 1000,
        pending_by_topic={row["name"]: row["pending"] for row in pending if row["pending"] > 0},
    )


def _to_delayed(row: Row) -> DelayedMessage:
    return DelayedMessage(
        partition=row["partition"],
        offset=row["offset"],
        priority=Priority(row["priority"]),
        published_at=row["published_at"],
        deliver_at=row["deliver_at"],
        seen_at=row["at"],
    )
