"""How far consumer groups are: what they were handed out of each lane, and their committed offsets."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from millstream.domain.consumer_group import AssignmentChange
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("group_positions")
_CHANGES = msgspec.json.Decoder(tuple[AssignmentChange, ...])

_KEYS = ("tenant_ids", "group_ids", "topic_ids", "partitions")
_LOCK_POLLED = _QUERIES["lock_polled_partitions"].taking("batch_id", "tenant_ids", "groups", "member_ids")
_LOOK = _QUERIES["look_at_partitions"].taking(
    "now", *_KEYS, "member_numbers", "member_tenant_ids", "member_group_ids", "member_ids"
)
_LOCK = _QUERIES["lock_group_partitions"].taking(*_KEYS)
_MOVE = _QUERIES["move_positions"].taking(
    "now", *_KEYS, "lane_bases", "lane_offsets", "lane_seqs", "replay_untils", "handed_out", "starved_turns"
)
_ADVANCE = _QUERIES["advance_lows"].taking("now", *_KEYS, "member_ids", "settled")
_NEXT_WAKES = _QUERIES["next_wakes"].taking("now", "numbers", *_KEYS)
_SEE = _QUERIES["see_members"].taking("now", "tenant_ids", "group_ids", "member_ids")


class GroupPartition(Struct, frozen=True, gc=False, order=True):
    """Names a group's place in a partition."""

    tenant_id: int
    group_id: int
    topic_id: int
    partition: int


class Position(Struct, gc=False):
    """How far a group has been handed a partition, by lane from 1, as lists from 0."""

    key: GroupPartition
    bases: list[int]
    offsets: list[int]
    seqs: list[int]
    replay_until: int | None
    unsettled: int
    starved_turn: int
    handed_out: int = 0
    changed: bool = False


class PollingMember(Struct, frozen=True):
    """A member that polls, and the partitions that it owns, the one that was served longest ago first.

    `member_id` is None when the group does not know it.
    """

    group_id: int
    generation: int
    member_id: str | None
    session_timeout_ms: int
    topic_ids: Sequence[int]
    changes: tuple[AssignmentChange, ...]
    positions: Sequence[Position]


class Poller(Struct, frozen=True, gc=False):
    """Who polls, by the names that clients use."""

    tenant_id: int
    group: str
    member_id: str


async def lock_polled(
    session: Session, pollers: Sequence[Poller], batch_id: int
) -> list[PollingMember | None]:
    """Hold what different members own; None for each whose group is not known."""
    rows = await session.many(
        _LOCK_POLLED,
        batch_id,
        [poller.tenant_id for poller in pollers],
        [poller.group for poller in pollers],
        [poller.member_id for poller in pollers],
    )
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["number"], []).append(row)
    return [
        _member_from(poller.tenant_id, found[number]) if number in found else None
        for number, poller in enumerate(pollers, start=1)
    ]


def _member_from(tenant_id: int, rows: Sequence[Row]) -> PollingMember:
    first = rows[0]
    return PollingMember(
        first["group_id"],
        first["generation"],
        first["member_id"],
        first["session_timeout_ms"] or 0,
        first["topic_ids"] or (),
        () if first["changes"] is None else _CHANGES.decode(first["changes"]),
        [
            Position(
                GroupPartition(tenant_id, row["group_id"], row["topic_id"], row["partition"]),
                row["lane_bases"],
                row["lane_offsets"],
                row["lane_seqs"],
                row["replay_until"],
                row["unsettled"],
                row["starved_turn"],
            )
            for row in rows
            if row["topic_id"] is not None
        ],
    )


class LogView(Struct, frozen=True, gc=False):
    """How far the log of a partition reaches for readers, and what its group's members have of it."""

    topic: str
    log_start: int
    end: int
    is_stable: bool
    lane_starts: Sequence[int]
    lane_nexts: Sequence[int]
    in_flight: int
    looked_at: datetime
    has_ended: bool
    has_due: bool


async def look(
    session: Session,
    keys: Sequence[GroupPartition],
    member_numbers: Sequence[int],
    members: Sequence[tuple[int, int, str]],
    now: datetime | None,
) -> list[LogView | None]:
    """Return what there is of partitions that the caller holds, None for each that is gone.

    `members` are (tenant, group, member); `member_numbers` say from 1 whose each partition is.
    """
    views: list[LogView | None] = [None] * len(keys)
    rows = await session.many(
        _LOOK,
        now,
        *_columns(keys),
        member_numbers,
        [tenant_id for tenant_id, _, _ in members],
        [group_id for _, group_id, _ in members],
        [member_id for _, _, member_id in members],
    )
    for row in rows:
        views[row["number"] - 1] = LogView(
            row["topic"],
            row["log_start"],
            row["end_offset"],
            row["is_stable"],
            row["lane_starts"],
            row["lane_nexts"],
            row["in_flight"],
            row["looked_at"],
            row["has_ended"],
            row["has_due"],
        )
    return views


async def lock(session: Session, keys: Sequence[GroupPartition]) -> list[GroupPartition]:
    """Hold partitions of groups; returns those that there are."""
    rows = await session.many(_LOCK, *_columns(keys))
    return [
        GroupPartition(row["tenant_id"], row["group_id"], row["topic_id"], row["partition"]) for row in rows
    ]


async def move(session: Session, positions: Sequence[Position], now: datetime | None) -> None:
    """Note how far groups have handed out what."""
    await session.run(_MOVE, now, *move_columns(positions))


def move_columns(positions: Sequence[Position]) -> tuple[Sequence[object], ...]:
    """Return `positions` as the columns that statements take which move them."""
    return (
        *_columns([position.key for position in positions]),
        [arrays.ints(position.bases) for position in positions],
        [arrays.ints(position.offsets) for position in positions],
        [arrays.ints(position.seqs) for position in positions],
        [position.replay_until for position in positions],
        [position.handed_out for position in positions],
        [position.starved_turn for position in positions],
    )


class Committed(Struct, frozen=True, gc=False):
    """A committed offset before and after, and what a member still holds there."""

    low_before: int
    low: int
    in_flight: int


async def advance(
    session: Session, settled: Sequence[tuple[GroupPartition, str, int]], now: datetime | None
) -> list[Committed | None]:
    """Move committed offsets on after (partition, member, number of messages) were settled."""
    committed: list[Committed | None] = [None] * len(settled)
    rows = await session.many(
        _ADVANCE,
        now,
        *_columns([key for key, _, _ in settled]),
        [member_id for _, member_id, _ in settled],
        [count for _, _, count in settled],
    )
    for row in rows:
        committed[row["number"] - 1] = Committed(row["low_before"], row["low"], row["in_flight"])
    return committed


async def next_wakes(
    session: Session, waits: Sequence[tuple[int, GroupPartition]], now: datetime | None
) -> dict[int, float]:
    """Return by the given number in how many seconds something is due in its partitions."""
    rows = await session.many(
        _NEXT_WAKES, now, [number for number, _ in waits], *_columns([key for _, key in waits])
    )
    return {row["number"]: row["in_seconds"] for row in rows if row["in_seconds"] is not None}


async def see_members(
    session: Session, members: Sequence[tuple[int, int, str]], now: datetime | None
) -> None:
    """Note that members (tenant, group, member) were heard of."""
    await session.run(
        _SEE,
        now,
        [tenant_id for tenant_id, _, _ in members],
        [group_id for _, group_id, _ in members],
        [member_id for _, _, member_id in members],
    )


def _columns(keys: Sequence[GroupPartition]) -> tuple[list[int], list[int], list[int], list[int]]:
    return (
        [key.tenant_id for key in keys],
        [key.group_id for key in keys],
        [key.topic_id for key in keys],
        [key.partition for key in keys],
    )
