"""Topics and their partitions as they are configured."""

from collections.abc import Sequence
from datetime import datetime

from millstream.domain.topic import PartitionStatus, Topic
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("topics")
_CREATE = _QUERIES["create_topic"].taking("now", "tenant_id", "name", "partitions", "retention_hours")
_FIND = _QUERIES["find_topic"].taking("tenant_id", "name")
_LIST_NAMES = _QUERIES["list_topic_names"].taking("tenant_id")
_LIST_PARTITIONS = _QUERIES["list_partitions"].taking("tenant_id", "topic_id")
_MARK_DELETED = _QUERIES["mark_topic_deleted"].taking("now", "tenant_id", "topic_id")
_DELETE_PARTITIONS = _QUERIES["delete_partitions"].taking("tenant_id", "topic_id")
_ADD_PARTITIONS = _QUERIES["add_partitions"].taking("tenant_id", "topic_id", "partitions")


async def create_topic(
    session: Session,
    tenant_id: int,
    name: str,
    *,
    partitions: int,
    retention_hours: int,
    now: datetime | None,
) -> Topic | None:
    """Create a topic with empty partitions; None when the name is taken."""
    row = await session.one(_CREATE, now, tenant_id, name, partitions, retention_hours)
    return None if row is None else _to_topic(row)


async def find_topic(session: Session, tenant_id: int, name: str) -> Topic | None:
    """Return a topic, None when there is none of that name."""
    row = await session.one(_FIND, tenant_id, name)
    return None if row is None else _to_topic(row)


async def list_topic_names(session: Session, tenant_id: int) -> list[str]:
    """Return the names of all topics of a tenant but internal ones, sorted."""
    return [row["name"] for row in await session.many(_LIST_NAMES, tenant_id)]


async def list_partitions(session: Session, tenant_id: int, topic_id: int) -> Sequence[PartitionStatus]:
    """Return how far the partitions of a topic reach, in their order; none when it is deleted."""
    return [
        PartitionStatus(
            partition=row["partition"],
            log_start=row["log_start"],
            next_offset=row["next_offset"],
            size_bytes=row["size_bytes"],
        )
        for row in await session.many(_LIST_PARTITIONS, tenant_id, topic_id)
    ]


async def mark_topic_deleted(session: Session, tenant_id: int, topic_id: int, now: datetime | None) -> bool:
    """Mark a topic as deleted; False when it was already."""
    return await session.one(_MARK_DELETED, now, tenant_id, topic_id) is not None


async def delete_partitions(session: Session, tenant_id: int, topic_id: int) -> None:
    """Remove the partitions of a deleted topic, and the positions of groups in them."""
    await session.run(_DELETE_PARTITIONS, tenant_id, topic_id)


async def add_partitions(session: Session, tenant_id: int, topic_id: int, partitions: int) -> int | None:
    """Raise the number of partitions to `partitions`, if it is lower; returns what it was, None for no topic.

    The caller holds the groups of the topic.
    """
    row = await session.one(_ADD_PARTITIONS, tenant_id, topic_id, partitions)
    return None if row is None else int(row["partitions"])


def _to_topic(row: Row) -> Topic:
    return Topic(
        tenant_id=row["tenant_id"],
        id=row["id"],
        name=row["name"],
        partitions=row["partitions"],
        retention_hours=row["retention_hours"],
        created_at=row["created_at"],
    )
