"""Consumer groups: their state, and what is read of them."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.consumer_group import (
    GroupStatus,
    GroupSummary,
    MemberStatus,
    Protocol,
    TopicPartition,
    state_of,
)
from millstream.domain.rebalance import Group, Rebalance, RebalanceStatistics
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("consumer_groups")
_HOLD_TOPICS = _QUERIES["hold_topics"].taking("tenant_id", "names")
_CREATE = _QUERIES["create_group"].taking("now", "tenant_id", "name")
_LOCK = _QUERIES["lock_group"].taking("now", "tenant_id", "name")
_LOCK_OF_TOPIC = _QUERIES["lock_groups_of_topic"].taking("now", "tenant_id", "topic_id")
_SAVE = _QUERIES["save_groups"].taking(
    "at", "tenant_id", "ids", "protocols", "generations", "gathering_untils", "revoking_untils", "rebalances", "statistics",
)  # fmt: skip
_NAMES = _QUERIES["list_group_names"].taking("tenant_id", "limit")
_SUMMARIES = _QUERIES["list_group_summaries"].taking("tenant_id", "limit")
_STATISTICS = _QUERIES["list_group_statistics"].taking("tenant_id", "name")
_READ = _QUERIES["read_group"].taking("now", "tenant_id", "name")
_TO_TEND = _QUERIES["list_groups_to_tend"].taking(
    "now", "serving_since", "process_id", "live_seconds", "limit"
)
_DELETE = _QUERIES["delete_group"].taking("now", "tenant_id", "id")
_REMOVE_ROWS = _QUERIES["remove_group_rows"].taking("limit")

_REBALANCE = msgspec.json.Decoder(Rebalance)
_COUNTED = msgspec.json.Decoder(RebalanceStatistics)


class HeldTopic(Struct, frozen=True):
    """A topic that stays as it is until the transaction ends."""

    id: int
    name: str
    partitions: int


class LockedGroup(Struct, kw_only=True):
    """A group that a transaction holds; `at` is the time since when. `group` lacks members and partitions at first."""

    id: int
    name: str
    at: datetime
    group: Group


class GroupReading(Struct, frozen=True, kw_only=True):
    """A group as it was read. `gathers_for` is how long joins are still gathered, None when none are."""

    status: GroupStatus
    rebalance: Rebalance | None
    statistics: RebalanceStatistics
    gathers_for: float | None


class GroupToTend(Struct, frozen=True):
    """A group that a sweep has to look at, and from when on silence counts."""

    tenant_id: int
    name: str
    since: datetime


async def hold_topics(session: Session, tenant_id: int, names: Sequence[str]) -> list[HeldTopic]:
    """Return the topics of `names` that there are, which stay as they are until the transaction ends."""
    rows = await session.many(_HOLD_TOPICS, tenant_id, list(names))
    return [HeldTopic(row["id"], row["name"], row["partitions"]) for row in rows]


async def create_group(session: Session, tenant_id: int, name: str, now: datetime | None) -> None:
    """Make a group unless there is one of that name."""
    await session.run(_CREATE, now, tenant_id, name)


async def lock_group(session: Session, tenant_id: int, name: str, now: datetime | None) -> LockedGroup | None:
    """Hold a group until the transaction ends."""
    row = await session.one(_LOCK, now, tenant_id, name)
    return None if row is None else _locked_from(row)


async def lock_groups_of_topic(
    session: Session, tenant_id: int, topic_id: int, now: datetime | None
) -> list[LockedGroup]:
    """Hold the groups that subscribe to a topic or have positions in it."""
    return [_locked_from(row) for row in await session.many(_LOCK_OF_TOPIC, now, tenant_id, topic_id)]


async def save_groups(session: Session, tenant_id: int, groups: Sequence[LockedGroup], at: datetime) -> None:
    """Write what was decided about held groups."""
    decided = [held.group for held in groups]
    await session.run(
        _SAVE,
        at,
        tenant_id,
        [held.id for held in groups],
        [group.protocol for group in decided],
        [group.generation for group in decided],
        [group.gathering_until for group in decided],
        [group.revoking_until for group in decided],
        [None if group.rebalance is None else _text(group.rebalance) for group in decided],
        [_text(group.statistics) for group in decided],
    )


async def list_group_names(session: Session, tenant_id: int) -> list[str]:
    """Return the names of a tenant's groups, sorted."""
    return [row["name"] for row in await session.many(_NAMES, tenant_id, limits.GROUPS_LISTED_MAX)]


async def list_group_summaries(session: Session, tenant_id: int) -> list[GroupSummary]:
    """Return a tenant's groups, sorted by name."""
    return [
        GroupSummary(
            name=row["name"],
            state=state_of(range(row["members"]), is_rebalancing=row["rebalancing"]),
            generation=row["generation"],
            members=row["members"],
            topics=sorted(row["topics"]),
        )
        for row in await session.many(_SUMMARIES, tenant_id, limits.GROUPS_LISTED_MAX)
    ]


async def list_statistics(session: Session, tenant_id: int, name: str | None) -> list[RebalanceStatistics]:
    """Return what rebalances a group had, or all groups of a tenant."""
    return [decode_statistics(row["statistics"]) for row in await session.many(_STATISTICS, tenant_id, name)]


async def read_group(
    session: Session, tenant_id: int, name: str, now: datetime | None
) -> GroupReading | None:
    """Return a group with its members, as of one moment."""
    rows = await session.many(_READ, now, tenant_id, name)
    if not rows:
        return None
    first = rows[0]
    members = [_member_from(row) for row in rows if row["member_id"] is not None]
    rebalance = decode_rebalance(first["rebalance"])
    is_rebalancing = first["gathering_until"] is not None or (rebalance is not None and rebalance.is_active)
    status = GroupStatus(
        id=first["id"],
        name=first["name"],
        state=state_of(members, is_rebalancing=is_rebalancing),
        protocol=Protocol(first["protocol"]),
        generation=first["generation"],
        members=members,
        created_at=first["created_at"],
    )
    gathers_for = first["gathers_for"]
    return GroupReading(
        status=status,
        rebalance=rebalance,
        statistics=decode_statistics(first["statistics"]),
        gathers_for=None if gathers_for is None else gathers_for.total_seconds(),
    )


async def list_groups_to_tend(
    session: Session,
    *,
    serving_since: datetime,
    process_id: object,
    live_seconds: int,
    limit: int,
    now: datetime | None,
) -> list[GroupToTend]:
    """Return groups of all tenants that have silent members or something that ends."""
    rows = await session.many(_TO_TEND, now, serving_since, process_id, live_seconds, limit)
    return [GroupToTend(row["tenant_id"], row["name"], row["since"]) for row in rows]


async def delete_group(session: Session, tenant_id: int, group_id: int, now: datetime | None) -> None:
    """Delete a group that the caller holds with its partitions; what it is owed goes in the background."""
    await session.run(_DELETE, now, tenant_id, group_id)


async def remove_group_rows(session: Session, *, limit: int) -> int:
    """Remove rows of deleted groups; returns how many."""
    row = await session.one(_REMOVE_ROWS, limit)
    return 0 if row is None else int(row["removed"])


def decode_rebalance(text: str | None) -> Rebalance | None:
    """Return the rebalance that `text` tells of."""
    return None if text is None else _REBALANCE.decode(text)


def decode_statistics(text: str | None) -> RebalanceStatistics:
    """Return the statistics that `text` tells of, none for None."""
    return RebalanceStatistics() if text is None else _COUNTED.decode(text)


def partitions_from(topics: Sequence[str] | None, partitions: Sequence[int] | None) -> list[TopicPartition]:
    """Return partitions that a statement has aggregated."""
    return [
        TopicPartition(topic, partition)
        for topic, partition in zip(topics or (), partitions or (), strict=True)
    ]


def _text(value: Struct) -> str:
    return msgspec.json.encode(value).decode()


def _locked_from(row: Row) -> LockedGroup:
    group = Group(
        protocol=Protocol(row["protocol"]),
        generation=row["generation"],
        gathering_until=row["gathering_until"],
        revoking_until=row["revoking_until"],
        rebalance=decode_rebalance(row["rebalance"]),
        statistics=decode_statistics(row["statistics"]),
        members={},
        owners={},
        targets={},
        topics={},
    )
    return LockedGroup(id=row["id"], name=row["name"], at=row["at"], group=group)


def _member_from(row: Row) -> MemberStatus:
    return MemberStatus(
        member_id=row["member_id"],
        client_id=row["client_id"],
        topics=row["topics"],
        assigned=partitions_from(row["assigned_topics"], row["assigned_partitions"]),
        session_seconds=row["session_timeout_ms"] / 1000,
        joined_at=row["joined_at"],
        seen_at=row["seen_at"],
    )
