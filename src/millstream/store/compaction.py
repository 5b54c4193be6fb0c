"""What compaction reads and writes: batches as they are stored, and messages that must stay."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain import limits
from millstream.store.database import Session
from millstream.store.queries import load
from millstream.store.record_codec import StoredRecord, decode_offsets, decode_records, encode_records

_QUERIES = load("compaction")
_LIST = _QUERIES["list_stored_batches"].taking(
    "now", "tenant_id", "topic_id", "partition", "after_lane", "after_offset", "limit", "bytes_max"
)
_HELD = _QUERIES["list_held_offsets"].taking("tenant_id", "topic_id", "partition")
_HIDDEN = _QUERIES["list_hidden_offsets"].taking("now", "tenant_id", "topic_id", "partition")
_REWRITE = _QUERIES["rewrite_record_batches"].taking(
    "tenant_id",
    "topic_id",
    "partition",
    "lanes",
    "base_offsets",
    "versions",
    "codecs",
    "size_bytes",
    "records",
)

Records = Sequence[StoredRecord | None]


class StoredBatch(Struct, frozen=True):
    """A batch with its records, and the version by which a change in between is noticed."""

    lane: int
    base_offset: int
    offsets: Sequence[int]
    records: Records
    published_at: datetime
    transaction_state: int | None
    version: int
    seen_at: datetime


async def list_stored_batches(
    session: Session,
    tenant_id: int,
    topic_id: int,
    partition: int,
    *,
    after: tuple[int, int],
    now: datetime | None,
) -> list[StoredBatch]:
    """Return some batches that come after one (lane, base offset); none when that was the last."""
    rows = await session.many(
        _LIST,
        now,
        tenant_id,
        topic_id,
        partition,
        *after,
        limits.COMPACTED_BATCHES_MAX,
        limits.COMPACTED_BYTES_MAX,
    )
    return [
        StoredBatch(
            row["lane"],
            row["base_offset"],
            decode_offsets(row["base_offset"], row["offsets"], row["record_count"]),
            decode_records(row["codec"], row["records"]),
            row["published_at"],
            row["transaction_state"],
            row["version"],
            row["at"],
        )
        for row in rows
    ]


async def list_held_offsets(session: Session, tenant_id: int, topic_id: int, partition: int) -> set[int]:
    """Return the offsets that groups have leased or are owed. The caller holds the groups' positions."""
    return {row["offset"] for row in await session.many(_HELD, tenant_id, topic_id, partition)}


async def list_hidden_offsets(
    session: Session, tenant_id: int, topic_id: int, partition: int, now: datetime | None
) -> set[int]:
    """Return the offsets of messages that wait to be delivered or are cancelled."""
    return {row["offset"] for row in await session.many(_HIDDEN, now, tenant_id, topic_id, partition)}


async def rewrite_batches(
    session: Session,
    tenant_id: int,
    topic_id: int,
    partition: int,
    changed: Sequence[tuple[StoredBatch, Records]],
) -> int:
    """Store the records that batches are left with; returns of how many batches, others having changed meanwhile."""
    stored = [encode_records(records) for _, records in changed]
    row = await session.one(
        _REWRITE,
        tenant_id,
        topic_id,
        partition,
        [batch.lane for batch, _ in changed],
        [batch.base_offset for batch, _ in changed],
        [batch.version for batch, _ in changed],
        [codec for codec, _, _ in stored],
        [size_bytes for _, _, size_bytes in stored],
        [records for _, records, _ in stored],
    )
    return 0 if row is None else int(row["batches"])
