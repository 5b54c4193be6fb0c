"""What consumer groups are owed apart from their positions. The caller holds the group's partitions."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.handing_out import Owed
from millstream.domain.receipt import DeliveryKey
from millstream.store.database import Session
from millstream.store.group_positions import GroupPartition
from millstream.store.queries import load

_QUERIES = load("redeliveries")

_KEYS = ("tenant_ids", "group_ids", "topic_ids", "partitions")
_DUE = _QUERIES["list_due_redeliveries"].taking("now", *_KEYS, "limit")
_KEPT = _QUERIES["list_kept_offsets"].taking(*_KEYS)
_OWE = _QUERIES["owe_messages"].taking(
    *_KEYS, "offsets", "lanes", "visible_ats", "attempts", "delivery_ids", "first_delivered_ats", "last_delivered_ats",
    "last_errors",
)  # fmt: skip
_REMOVE = _QUERIES["remove_redeliveries"].taking(*_KEYS, "offsets")
_GIVEN_BACK = _QUERIES["find_given_back"].taking(*_KEYS, "offsets", "delivery_ids")


class Redelivery(Struct, frozen=True, gc=False):
    """A message that a group is owed from `visible_at` on, after `attempt` deliveries.

    A receipt of `delivery_id`, if there is one, settles it until it is delivered again, unless it was nacked with it.
    """

    key: GroupPartition
    offset: int
    lane: int
    visible_at: datetime
    attempt: int
    delivery_id: int | None = None
    first_delivered_at: datetime | None = None
    last_delivered_at: datetime | None = None
    last_error: str | None = None


async def list_due(
    session: Session, keys: Sequence[GroupPartition], limit: int, now: datetime | None
) -> list[list[Owed]]:
    """Return what is owed now of each partition, up to `limit` of each lane."""
    due: list[list[Owed]] = [[] for _ in keys]
    for row in await session.many(_DUE, now, *_columns(keys), limit):
        number: int = row["number"]
        due[number - 1].append(
            Owed(
                row["offset"],
                row["lane"],
                row["visible_at"],
                row["attempt"],
                row["first_delivered_at"],
                row["last_error"],
            )
        )
    return due


async def list_kept_offsets(session: Session, keys: Sequence[GroupPartition]) -> list[set[int]]:
    """Return of each partition what is not handed out anew, as it was under way when the position was set before it."""
    kept: list[set[int]] = [set() for _ in keys]
    for row in await session.many(_KEPT, *_columns(keys)):
        number: int = row["number"]
        kept[number - 1].update(range(row["first_offset"], row["end_offset"]))
    return kept


async def owe(session: Session, owed: Sequence[Redelivery]) -> None:
    """Note what groups are owed, or anew when."""
    await session.run(
        _OWE,
        *_columns([one.key for one in owed]),
        [one.offset for one in owed],
        [one.lane for one in owed],
        [one.visible_at for one in owed],
        [one.attempt for one in owed],
        [one.delivery_id for one in owed],
        [one.first_delivered_at for one in owed],
        [one.last_delivered_at for one in owed],
        [one.last_error for one in owed],
    )


async def remove(session: Session, messages: Sequence[tuple[GroupPartition, int]]) -> None:
    """Forget that groups are owed messages (partition, offset)."""
    await session.run(_REMOVE, *_columns([key for key, _ in messages]), [offset for _, offset in messages])


async def find_given_back(
    session: Session, messages: Sequence[tuple[int, DeliveryKey, int]]
) -> set[tuple[int, DeliveryKey, int]]:
    """Return those of `messages` (tenant, delivery, offset) that are owed still, their delivery being the last one."""
    keys = [
        GroupPartition(tenant_id, key.group_id, key.topic_id, key.partition) for tenant_id, key, _ in messages
    ]
    rows = await session.many(
        _GIVEN_BACK,
        *_columns(keys),
        [offset for _, _, offset in messages],
        [key.id for _, key, _ in messages],
    )
    owed = {
        (GroupPartition(row["tenant_id"], row["group_id"], row["topic_id"], row["partition"]), row["offset"])
        for row in rows
    }
    return {message for key, message in zip(keys, messages, strict=True) if (key, message[2]) in owed}


def _columns(keys: Sequence[GroupPartition]) -> tuple[list[int], list[int], list[int], list[int]]:
    return (
        [key.tenant_id for key in keys],
        [key.group_id for key in keys],
        [key.topic_id for key in keys],
        [key.partition for key in keys],
    )
