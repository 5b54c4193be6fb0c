"""How logs grow shorter: expired messages, and deleted topics."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("log_retention")
_KEY = ("tenant_ids", "topic_ids", "partitions")
_LIST_STARTS = _QUERIES["list_log_starts"].taking(
    "now", "after_tenant_id", "after_topic_id", "after_partition", "limit"
)
_ADVANCE = _QUERIES["advance_log_starts"].taking(*_KEY, "log_starts")
_PRUNE = (
    _QUERIES["prune_redeliveries"].taking(*_KEY, "limit"),
    _QUERIES["prune_delayed_messages"].taking(*_KEY, "limit"),
    _QUERIES["prune_record_batches"].taking(*_KEY, "limit"),
)
_LIST_DELETED = _QUERIES["list_deleted_topics"].taking("limit")
_REMOVE_ROWS = _QUERIES["remove_topic_rows"].taking("tenant_id", "topic_id", "limit")
_FORGET = _QUERIES["forget_topic"].taking("tenant_id", "topic_id")

PartitionKey = tuple[int, int, int]
"""Tenant, topic and number of a partition."""


class LogStart(Struct, frozen=True):
    """Where the log of a partition is to begin, whether that is later than it does, and if older rows are left."""

    key: PartitionKey
    log_start: int
    moves: bool
    has_rest: bool


async def list_log_starts(
    session: Session, *, after: PartitionKey, limit: int, now: datetime | None
) -> list[LogStart]:
    """Return where the logs of the partitions that come `after` one are to begin."""
    return [
        LogStart(
            (row["tenant_id"], row["topic_id"], row["partition"]),
            row["log_start"],
            row["moves"],
            row["has_rest"],
        )
        for row in await session.many(_LIST_STARTS, now, *after, limit)
    ]


async def advance_log_starts(session: Session, starts: Sequence[LogStart]) -> int:
    """Let logs begin later; returns of how many that was true."""
    return len(
        await session.many(
            _ADVANCE, *_columns([start.key for start in starts]), [start.log_start for start in starts]
        )
    )


async def prune(session: Session, keys: Sequence[PartitionKey], *, limit: int) -> int:
    """Delete rows from before the beginnings of logs, up to `limit` of a kind; returns the most of any kind."""
    pruned = 0
    for statement in _PRUNE:
        # Each by itself, so that no two kinds of locks are held at once.
        row = await session.one(statement, *_columns(keys), limit)
        pruned = max(pruned, 0 if row is None else int(row["pruned"]))
    return pruned


async def list_deleted_topics(session: Session, *, limit: int) -> list[tuple[int, int]]:
    """Return (tenant, topic) of deleted topics, the longest deleted first."""
    return [(row["tenant_id"], row["id"]) for row in await session.many(_LIST_DELETED, limit)]


async def remove_topic_rows(session: Session, tenant_id: int, topic_id: int, *, limit: int) -> int:
    """Delete up to `limit` rows of a deleted topic from each table; returns how many."""
    row = await session.one(_REMOVE_ROWS, tenant_id, topic_id, limit)
    return 0 if row is None else int(row["removed"])


async def forget_topic(session: Session, tenant_id: int, topic_id: int) -> None:
    """Remove the row of a deleted topic that has no others."""
    await session.run(_FORGET, tenant_id, topic_id)


def _columns(keys: Sequence[PartitionKey]) -> tuple[list[int], list[int], list[int]]:
    return [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]
