"""Deliveries: what consumer groups were handed, and what became of it."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from millstream.domain.delivery import Delivery
from millstream.domain.receipt import DeliveryKey
from millstream.store import arrays
from millstream.store.counters import Count, columns_of
from millstream.store.database import Row, Session
from millstream.store.group_positions import GroupPartition, Position, move_columns
from millstream.store.queries import load
from millstream.store.record_codec import decode_offsets, encode_offsets

_QUERIES = load("deliveries")

_KEYS = ("tenant_ids", "group_ids", "topic_ids", "partitions")
_COUNTS = ("counted_tenant_ids", "kinds", "subjects", "amounts")
_GIVE_BACK = _QUERIES["give_back_deliveries"].taking("now", "tenant_id", "group_id", "member_ids")
_HAND_OUT = _QUERIES["hand_out"].taking(
    "now", "deadline", *_KEYS, "lanes", "member_ids", "secrets", "base_offsets", "message_counts", "offsets", "outcomes",
    "attempts", "first_delivered_ats", "last_errors", *_COUNTS, "moved_tenant_ids", "moved_group_ids", "moved_topic_ids",
    "moved_partitions", "lane_bases", "lane_offsets", "lane_seqs", "replay_untils", "handed_out", "starved_turns",
)  # fmt: skip
_LOCK = _QUERIES["lock_deliveries"].taking("now", "batch_id", *_KEYS, "ids")
_RECORD = _QUERIES["record_outcomes"].taking(
    "now",
    *_KEYS,
    "ids",
    "outcomes",
    "leased",
    "lowest_leased",
    "deadlines",
    "own_deadlines",
    "results",
    *_COUNTS,
)
_FIND_ENDED = _QUERIES["find_ended_partitions"].taking("now", "limit")
_LOCK_ENDED = _QUERIES["lock_ended_deliveries"].taking("now", "until", *_KEYS, "attempts_below", "limit")
_NEXT_DEADLINE = _QUERIES["next_deadline"].taking("now")
_FIND_POLLED = _QUERIES["find_polled_deliveries"].taking(
    "tenant_ids", "groups", "member_ids", "first_secret", "last_secret"
)
_REMOVE = _QUERIES["remove_deliveries"].taking(*_KEYS, "ids")
_PRUNE = _QUERIES["prune_deliveries"].taking("now", "kept_seconds", "limit")

# Later than any lease ends, and more often than anything is delivered.
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_ATTEMPTS_MAX = 2**31 - 1

_encode_results = msgspec.json.Encoder().encode
_decode_results = msgspec.json.Decoder(dict[str, list[str | int | None]]).decode


class Handed(Struct, frozen=True, gc=False):
    """Messages of one lane of a partition that a member is handed, and after how many deliveries before."""

    key: GroupPartition
    lane: int
    member_id: str
    secret: int
    offsets: Sequence[int]
    attempt: int = 1
    first_delivered_at: datetime | None = None
    last_error: str | None = None


async def give_back(
    session: Session, tenant_id: int, group_id: int, member_ids: Sequence[str], now: datetime | None
) -> int:
    """Make owed at once what members of a group hold; returns how many messages that were.

    The caller has locked the group and its partitions.
    """
    rows = await session.many(_GIVE_BACK, now, tenant_id, group_id, list(member_ids))
    return sum(row["leased"] for row in rows)


async def hand_out(
    session: Session,
    handed: Sequence[Handed],
    moved: Sequence[Position],
    deadline: datetime,
    counts: Sequence[Count],
    now: datetime | None,
) -> dict[int, int]:
    """Lease messages until `deadline`, and note how far their groups have come with that.

    Returns the ids of the deliveries by their secrets, which differ.
    """
    rows = await session.many(
        _HAND_OUT,
        now,
        deadline,
        *_columns([one.key for one in handed]),
        [one.lane for one in handed],
        [one.member_id for one in handed],
        [one.secret for one in handed],
        [one.offsets[0] for one in handed],
        [len(one.offsets) for one in handed],
        [encode_offsets(one.offsets[0], one.offsets) for one in handed],
        [bytes(len(one.offsets)) for one in handed],
        [one.attempt for one in handed],
        [one.first_delivered_at for one in handed],
        [one.last_error for one in handed],
        *columns_of(counts),
        *move_columns(moved),
    )
    return {row["secret"]: row["id"] for row in rows}


async def lock(
    session: Session, deliveries: Sequence[tuple[int, DeliveryKey]], batch_id: int, now: datetime | None
) -> tuple[dict[tuple[int, DeliveryKey], Delivery], datetime | None]:
    """Hold deliveries and the partitions that they are of; returns those that there are, and the time."""
    rows = await session.many(
        _LOCK,
        now,
        batch_id,
        [tenant_id for tenant_id, _ in deliveries],
        [key.group_id for _, key in deliveries],
        [key.topic_id for _, key in deliveries],
        [key.partition for _, key in deliveries],
        [key.id for _, key in deliveries],
    )
    found = [_delivery_from(row) for row in rows]
    looked_at = rows[0]["looked_at"] if rows else None
    return {(delivery.tenant_id, delivery.key): delivery for delivery in found}, looked_at


async def record(
    session: Session, deliveries: Sequence[Delivery], counts: Sequence[Count], now: datetime | None
) -> None:
    """Note what became of messages of deliveries that the caller holds."""
    await session.run(
        _RECORD,
        now,
        [delivery.tenant_id for delivery in deliveries],
        [delivery.key.group_id for delivery in deliveries],
        [delivery.key.topic_id for delivery in deliveries],
        [delivery.key.partition for delivery in deliveries],
        [delivery.key.id for delivery in deliveries],
        [bytes(delivery.outcomes) for delivery in deliveries],
        [delivery.leased for delivery in deliveries],
        [delivery.lowest_leased for delivery in deliveries],
        [delivery.deadline for delivery in deliveries],
        [None if one.deadlines is None else arrays.times(one.deadlines) for one in deliveries],
        [_encode_results(one.results).decode() if one.results else None for one in deliveries],
        *columns_of(counts),
    )


async def find_ended_partitions(session: Session, limit: int, now: datetime | None) -> list[GroupPartition]:
    """Return where leases have run out."""
    rows = await session.many(_FIND_ENDED, now, limit)
    return sorted(
        GroupPartition(row["tenant_id"], row["group_id"], row["topic_id"], row["partition"]) for row in rows
    )


async def lock_ended(
    session: Session,
    keys: Sequence[GroupPartition],
    *,
    attempts_below: int,
    limit: int,
    now: datetime | None,
) -> tuple[list[Delivery], datetime | None]:
    """Hold deliveries with leases that have run out, of partitions that the caller holds; returns the time, too."""
    rows = await session.many(_LOCK_ENDED, now, None, *_columns(keys), attempts_below, limit)
    return [_delivery_from(row) for row in rows], rows[0]["looked_at"] if rows else None


async def lock_live(session: Session, keys: Sequence[GroupPartition]) -> list[Delivery]:
    """Hold all deliveries with leases of partitions that the caller holds."""
    rows = await session.many(_LOCK_ENDED, None, _FOREVER, *_columns(keys), _ATTEMPTS_MAX, None)
    return [_delivery_from(row) for row in rows]


async def seconds_to_next_deadline(session: Session, now: datetime | None) -> float | None:
    """Return in how many seconds the next lease runs out; None if there is none."""
    row = await session.one(_NEXT_DEADLINE, now)
    return None if row is None else float(row["in_seconds"])


async def find_polled(
    session: Session, pollers: Sequence[tuple[int, str, str]], secrets: range
) -> list[tuple[int, DeliveryKey]]:
    """Return the live deliveries of members (tenant, group's name, member) with one of `secrets`."""
    rows = await session.many(
        _FIND_POLLED,
        [tenant_id for tenant_id, _, _ in pollers],
        [group for _, group, _ in pollers],
        [member_id for _, _, member_id in pollers],
        secrets.start,
        secrets.stop - 1,
    )
    return [(row["tenant_id"], _key_from(row)) for row in rows]


async def remove(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Remove deliveries that the caller holds."""
    await session.run(
        _REMOVE,
        [delivery.tenant_id for delivery in deliveries],
        [delivery.key.group_id for delivery in deliveries],
        [delivery.key.topic_id for delivery in deliveries],
        [delivery.key.partition for delivery in deliveries],
        [delivery.key.id for delivery in deliveries],
    )


async def prune(session: Session, *, kept_seconds: float, limit: int, now: datetime | None) -> int:
    """Remove up to `limit` deliveries that were finished longer ago; returns how many."""
    row = await session.one(_PRUNE, now, kept_seconds, limit)
    return 0 if row is None else int(row["removed"])


def _delivery_from(row: Row) -> Delivery:
    return Delivery(
        tenant_id=row["tenant_id"],
        key=_key_from(row),
        group=row["group_name"],
        topic=row["topic"],
        topic_partitions=row["partitions"],
        lane=row["lane"],
        member_id=row["member_id"],
        secret=row["secret"],
        offsets=decode_offsets(row["base_offset"], row["offsets"], row["message_count"]),
        outcomes=bytearray(row["outcomes"]),
        attempt=row["attempt"],
        first_delivered_at=row["first_delivered_at"],
        delivered_at=row["delivered_at"],
        deadline=row["deadline"],
        deadlines=row["deadlines"],
        last_error=row["last_error"],
        results={} if row["results"] is None else _decode_results(row["results"]),
    )


def _key_from(row: Row) -> DeliveryKey:
    return DeliveryKey(row["group_id"], row["topic_id"], row["partition"], row["id"])


def _columns(keys: Sequence[GroupPartition]) -> tuple[list[int], list[int], list[int], list[int]]:
    return (
        [key.tenant_id for key in keys],
        [key.group_id for key in keys],
        [key.topic_id for key in keys],
        [key.partition for key in keys],
    )
