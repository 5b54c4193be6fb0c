"""Positions that members commit, or that are reset."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.group_position import GroupPositions, PartitionOffset
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("position_changes")

_LIST = _QUERIES["list_group_positions"].taking("tenant_id", "group_name", "topic")
_FIND_MEMBER = _QUERIES["find_committing_member"].taking("tenant_id", "group_name", "member_id")
_LOCK_OWNED = _QUERIES["lock_owned_partitions"].taking(
    "tenant_id", "group_id", "member_id", "topics", "partitions"
)
_COMMIT = _QUERIES["commit_positions"].taking(
    "now", "tenant_id", "group_id", "topic_ids", "partitions", "positions"
)
_FIND_RESET = _QUERIES["find_reset_positions"].taking(
    "tenant_id", "topic", "partition", "offset", "timestamp", "to_end"
)
_FIND_OR_CREATE = _QUERIES["find_or_create_group"].taking("now", "tenant_id", "group_name")
_LOCK_RESET = _QUERIES["lock_reset_partitions"].taking(
    "now", "tenant_id", "group_id", "topic_ids", "partitions", "positions"
)
_RESET = _QUERIES["reset_positions"].taking(
    "now", "tenant_id", "group_id", "topic_ids", "partitions", "positions"
)


class NewPosition(Struct, frozen=True, gc=False, order=True):
    """Where a group is to go on in a partition."""

    topic_id: int
    partition: int
    position: int


class CommittingMember(Struct, frozen=True, gc=False):
    """A group and, unless it is not known, its member."""

    group_id: int
    generation: int
    member_id: str | None


async def list_positions(
    session: Session, tenant_id: int, group: str, topic: str | None
) -> GroupPositions | None:
    """Return the committed offsets of a group; None if there is no such group."""
    rows = await session.many(_LIST, tenant_id, group, topic)
    if not rows:
        return None
    offsets: dict[str, dict[int, int]] = {}
    updated_at: datetime | None = None
    for row in rows:
        if row["topic"] is None:
            continue
        offsets.setdefault(row["topic"], {})[row["partition"]] = row["low"]
        updated_at = row["updated_at"] if updated_at is None else max(updated_at, row["updated_at"])
    return GroupPositions(generation=rows[0]["generation"], updated_at=updated_at, offsets=offsets)


async def find_committing_member(
    session: Session, tenant_id: int, group: str, member_id: str
) -> CommittingMember | None:
    """Return a group and its member; None if there is no such group."""
    row = await session.one(_FIND_MEMBER, tenant_id, group, member_id)
    return None if row is None else CommittingMember(row["group_id"], row["generation"], row["member_id"])


async def lock_owned(
    session: Session, tenant_id: int, member: CommittingMember, offsets: Sequence[PartitionOffset]
) -> list[NewPosition | None]:
    """Hold the partitions of `offsets`; None for each that the member does not own."""
    found: list[NewPosition | None] = [None] * len(offsets)
    rows = await session.many(
        _LOCK_OWNED,
        tenant_id,
        member.group_id,
        member.member_id,
        [one.topic for one in offsets],
        [one.partition for one in offsets],
    )
    for row in rows:
        number: int = row["number"]
        found[number - 1] = NewPosition(row["topic_id"], row["partition"], offsets[number - 1].offset)
    return found


async def commit(
    session: Session,
    tenant_id: int,
    group_id: int,
    positions: Sequence[NewPosition],
    now: datetime | None,
) -> None:
    """Settle all below `positions`, and nothing from there on."""
    await session.run(_COMMIT, now, tenant_id, group_id, *_columns(positions))


async def find_reset_positions(
    session: Session,
    tenant_id: int,
    topic: str,
    *,
    partition: int | None,
    offset: int | None,
    timestamp: datetime | None,
    to_end: bool,
) -> list[NewPosition]:
    """Return where a reset goes: to an offset or a time, else to the ends or the beginnings."""
    rows = await session.many(_FIND_RESET, tenant_id, topic, partition, offset, timestamp, to_end)
    return [NewPosition(row["topic_id"], row["partition"], row["position"]) for row in rows]


async def find_or_create_group(session: Session, tenant_id: int, group: str, now: datetime | None) -> int:
    """Hold a group; returns its id."""
    row = await session.one(_FIND_OR_CREATE, now, tenant_id, group)
    return 0 if row is None else int(row["id"])


async def lock_for_reset(
    session: Session,
    tenant_id: int,
    group_id: int,
    positions: Sequence[NewPosition],
    now: datetime | None,
) -> None:
    """Hold what a group knows of partitions, making it where it knows nothing."""
    await session.many(_LOCK_RESET, now, tenant_id, group_id, *_columns(positions))


async def reset(
    session: Session,
    tenant_id: int,
    group_id: int,
    positions: Sequence[NewPosition],
    now: datetime | None,
) -> None:
    """Let a group begin anew at `positions`."""
    await session.run(_RESET, now, tenant_id, group_id, *_columns(positions))


def _columns(positions: Sequence[NewPosition]) -> tuple[list[int], list[int], list[int]]:
    return (
        [one.topic_id for one in positions],
        [one.partition for one in positions],
        [one.position for one in positions],
    )
