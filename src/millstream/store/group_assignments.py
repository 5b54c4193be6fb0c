"""Who owns which partition of a consumer group, and where a group begins to read."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millstream.store.consumer_groups import LockedGroup
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("group_assignments")
_LIST = _QUERIES["list_assignments"].taking("tenant_id", "group_ids")
_COUNT = _QUERIES["count_subscribed_partitions"].taking("tenant_id", "topic_ids")
_LOCK = _QUERIES["lock_assignments"].taking("tenant_id", "group_ids")
_CHANGE = _QUERIES["change_assignments"].taking(
    "at", "tenant_id", "group_ids", "topic_ids", "partitions", "member_ids", "target_ids"
)
_ADD = _QUERIES["add_assignments"].taking(
    "at", "tenant_id", "group_ids", "topic_ids", "partitions", "member_ids", "target_ids", "at_ends"
)
_TOPIC_IDS = _QUERIES["list_topic_ids"].taking("tenant_id", "names")
_LOCK_TOPIC = _QUERIES["lock_topic_positions"].taking("tenant_id", "topic_id")
_FORGET_TOPIC = _QUERIES["forget_topic_positions"].taking("tenant_id", "topic_id", "group_ids")
_TOPIC_STATE = _QUERIES["find_topic_state"].taking("tenant_id", "topic_id")


class Assignment(Struct, frozen=True, kw_only=True):
    """Who owns a partition of a group and who is to; `at_end` counts when the group has no position there yet."""

    group_id: int
    topic_id: int
    partition: int
    member_id: str | None
    target_id: str | None
    at_end: bool = False


async def load_assignments(session: Session, tenant_id: int, groups: Sequence[LockedGroup]) -> None:
    """Fill in who owns what of held groups, and how many partitions the topics of their members have."""
    by_id = {held.id: held.group for held in groups}
    for row in await session.many(_LIST, tenant_id, list(by_id)):
        group = by_id[row["group_id"]]
        partition = (row["topic_id"], row["partition"])
        group.owners[partition] = row["member_id"]
        if row["target_member_id"] is not None:
            group.targets[partition] = row["target_member_id"]
    topic_ids = {
        topic_id
        for group in by_id.values()
        for member in group.members.values()
        for topic_id in member.topic_ids
    }
    rows = await session.many(_COUNT, tenant_id, sorted(topic_ids))
    topics = {row["id"]: row["partitions"] for row in rows}
    for group in by_id.values():
        group.topics = topics


async def list_topic_ids(session: Session, tenant_id: int, names: Sequence[str]) -> Mapping[str, int]:
    """Return the ids of the topics of `names` that there are."""
    return {row["name"]: row["id"] for row in await session.many(_TOPIC_IDS, tenant_id, list(names))}


async def lock_assignments(session: Session, tenant_id: int, groups: Sequence[LockedGroup]) -> None:
    """Hold all partitions of held groups, polls and acknowledgements of them too."""
    await session.many(_LOCK, tenant_id, [held.id for held in groups])


async def change_assignments(
    session: Session, tenant_id: int, changed: Sequence[Assignment], at: datetime
) -> None:
    """Write who owns partitions that groups have positions in, and that the caller holds."""
    await session.run(_CHANGE, at, tenant_id, *_columns(changed))


async def add_assignments(
    session: Session, tenant_id: int, added: Sequence[Assignment], at: datetime
) -> None:
    """Give groups positions in partitions that they have none in."""
    await session.run(_ADD, at, tenant_id, *_columns(added), [assignment.at_end for assignment in added])


async def forget_topic_if_deleted(
    session: Session, tenant_id: int, topic_id: int, groups: Sequence[LockedGroup]
) -> None:
    """Remove what held groups know of a topic that is deleted, if it is."""
    row = await session.one(_TOPIC_STATE, tenant_id, topic_id)
    if row is None or row["deleted"]:
        await session.many(_LOCK_TOPIC, tenant_id, topic_id)
        await session.run(_FORGET_TOPIC, tenant_id, topic_id, [held.id for held in groups])


def _columns(
    assignments: Sequence[Assignment],
) -> tuple[list[int], list[int], list[int], list[str | None], list[str | None]]:
    return (
        [assignment.group_id for assignment in assignments],
        [assignment.topic_id for assignment in assignments],
        [assignment.partition for assignment in assignments],
        [assignment.member_id for assignment in assignments],
        [assignment.target_id for assignment in assignments],
    )
