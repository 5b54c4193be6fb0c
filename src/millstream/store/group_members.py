"""Members of consumer groups, and when each was last seen."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from millstream.domain.consumer_group import AssignmentChange, Protocol, TopicPartition
from millstream.domain.rebalance import GroupMember, Rebalance
from millstream.store.consumer_groups import LockedGroup, decode_rebalance, partitions_from
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("group_members")
_LIST = _QUERIES["list_group_members"].taking("tenant_id", "group_ids")
_PUT = _QUERIES["put_member"].taking(
    "at", "tenant_id", "group_id", "member_id", "client_id", "topic_ids", "starts_latest", "session_timeout_ms"
)  # fmt: skip
_SAVE = _QUERIES["save_members"].taking("tenant_id", "group_ids", "member_ids", "generations", "changes")
_GREET = _QUERIES["greet_members"].taking("at", "tenant_id", "group_id")
_TOUCH = _QUERIES["touch_members"].taking("now", "tenant_id", "group_ids", "member_ids")
_BEAT = _QUERIES["beat_member"].taking("now", "tenant_id", "group_name", "member_id", "generation")
_REMOVE = _QUERIES["remove_member"].taking("tenant_id", "group_id", "member_id")
_REMOVE_SILENT = _QUERIES["remove_silent_members"].taking("at", "tenant_id", "group_id", "since")

_CHANGES = msgspec.json.Decoder(tuple[AssignmentChange, ...])


class Beat(Struct, frozen=True, kw_only=True):
    """What a heartbeat finds. `accepted`: the member is there, and was noted as seen.

    `moving` are those of the member's partitions that it is to give up.
    """

    group_id: int
    protocol: Protocol
    generation: int
    is_gathering: bool
    revoking_until: datetime | None
    rebalance: Rebalance | None
    at: datetime
    known: bool
    accepted: bool
    confirmed: int
    changes: tuple[AssignmentChange, ...]
    topics: Sequence[str]
    assigned: Sequence[TopicPartition]
    moving: Sequence[TopicPartition]

    @property
    def is_rebalancing(self) -> bool:
        """Whether members do not know all of their assignments yet."""
        return self.is_gathering or (self.rebalance is not None and self.rebalance.is_active)


async def load_members(session: Session, tenant_id: int, groups: Sequence[LockedGroup]) -> None:
    """Fill in the members of held groups."""
    by_id = {held.id: held.group for held in groups}
    for group in by_id.values():
        group.members = {}
    for row in await session.many(_LIST, tenant_id, list(by_id)):
        by_id[row["group_id"]].members[row["member_id"]] = GroupMember(
            topic_ids=row["topic_ids"],
            starts_latest=row["starts_latest"],
            confirmed=row["generation"],
            changes=_CHANGES.decode(row["changes"]),
        )


async def put_member(
    session: Session,
    tenant_id: int,
    group_id: int,
    member_id: str,
    *,
    client_id: str,
    topic_ids: Sequence[int],
    starts_latest: bool,
    session_timeout_ms: int,
    at: datetime,
) -> None:
    """Add a member to a held group, or change one that joins anew."""
    await session.run(
        _PUT, at, tenant_id, group_id, member_id, client_id, list(topic_ids), starts_latest, session_timeout_ms
    )  # fmt: skip


async def save_members(
    session: Session, tenant_id: int, changed: Mapping[tuple[int, str], GroupMember]
) -> None:
    """Write what was decided about members, by group and id."""
    await session.run(
        _SAVE,
        tenant_id,
        [group_id for group_id, _ in changed],
        [member_id for _, member_id in changed],
        [member.confirmed for member in changed.values()],
        [msgspec.json.encode(member.changes).decode() for member in changed.values()],
    )


async def greet_members(session: Session, tenant_id: int, group_id: int, at: datetime) -> None:
    """Count the silence of a group's members from `at` on."""
    await session.run(_GREET, at, tenant_id, group_id)


async def touch_member(
    session: Session, tenant_id: int, group_id: int, member_id: str, now: datetime | None
) -> bool:
    """Note that a member was seen; returns whether there is such a member. Contract: goqueue-messaging 7.7.

    It locks the member's row: take it before any of the group's partitions.
    """
    return bool(await session.many(_TOUCH, now, tenant_id, [group_id], [member_id]))


async def touch_members(
    session: Session, tenant_id: int, members: Sequence[tuple[int, str]], now: datetime | None
) -> list[bool]:
    """Note that members, by group and id, were seen; returns of each whether there is such a member."""
    rows = await session.many(
        _TOUCH,
        now,
        tenant_id,
        [group_id for group_id, _ in members],
        [member_id for _, member_id in members],
    )
    places = {row["place"] for row in rows}
    return [place in places for place in range(1, len(members) + 1)]


async def beat_member(
    session: Session, tenant_id: int, group: str, member_id: str, generation: int, now: datetime | None
) -> Beat | None:
    """Note a heartbeat unless its generation lies ahead; returns None for an unknown group."""
    row = await session.one(_BEAT, now, tenant_id, group, member_id, generation)
    if row is None:
        return None
    assigned = partitions_from(row["assigned_topics"], row["assigned_partitions"])
    moving = row["assigned_moving"] or ()
    return Beat(
        group_id=row["id"],
        protocol=Protocol(row["protocol"]),
        generation=row["generation"],
        is_gathering=row["gathering_until"] is not None,
        revoking_until=row["revoking_until"],
        rebalance=decode_rebalance(row["rebalance"]),
        at=row["at"],
        known=row["known"],
        accepted=row["confirmed"] is not None,
        confirmed=row["confirmed"] or 0,
        changes=() if row["changes"] is None else _CHANGES.decode(row["changes"]),
        topics=row["topics"],
        assigned=assigned,
        moving=[partition for partition, moves in zip(assigned, moving, strict=True) if moves],
    )


async def remove_member(session: Session, tenant_id: int, group_id: int, member_id: str) -> bool:
    """Remove a member of a held group; returns whether there was one."""
    return await session.one(_REMOVE, tenant_id, group_id, member_id) is not None


async def remove_silent_members(
    session: Session, tenant_id: int, group_id: int, *, since: datetime, at: datetime
) -> list[str]:
    """Remove the members of a held group that were silent too long; returns their ids."""
    rows = await session.many(_REMOVE_SILENT, at, tenant_id, group_id, since)
    return [row["member_id"] for row in rows]
