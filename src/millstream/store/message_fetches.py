"""Messages out of the log for those whom they are handed to."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain import limits
from millstream.store.database import Row, Session
from millstream.store.queries import load
from millstream.store.record_codec import StoredRecord, decode_offsets, decode_records

_QUERIES = load("message_fetches")

_FETCH_BATCHES = _QUERIES["fetch_batches"].taking(
    "tenant_ids", "topic_ids", "partitions", "lanes", "bases", "ends", "seq_ends", "row_limits", "bytes_max"
)
_HEADS = _QUERIES["find_lane_heads"].taking("tenant_ids", "topic_ids", "partitions", "lanes", "bases", "ends")
_POSITIONS = _QUERIES["find_positions"].taking("tenant_ids", "topic_ids", "partitions", "positions")
_FETCH_MESSAGES = _QUERIES["fetch_messages"].taking(
    "tenant_ids", "topic_ids", "partitions", "lanes", "offsets", "bytes_max"
)
_CANCELLED = _QUERIES["list_cancelled_messages"].taking(
    "tenant_ids", "topic_ids", "partitions", "froms", "untils"
)

ABORTED = 3


class LogPartition(Struct, frozen=True, gc=False):
    """Names a partition of a log."""

    tenant_id: int
    topic_id: int
    partition: int


class LanePlace(Struct, frozen=True, gc=False):
    """A place in a lane: from the batch at `base` on, up to offset `end`, which is not part of it."""

    log: LogPartition
    lane: int
    base: int
    end: int


class Batch(Struct, frozen=True, gc=False):
    """A batch of the log. `records` is None when the page is full without it."""

    base_offset: int
    last_offset: int
    lane_first: int
    count: int
    published_at: datetime
    is_aborted: bool
    codec: int
    offsets: Sequence[int]
    records: bytes | None

    def decode(self) -> list[StoredRecord | None]:
        """Return its messages, None for each that compaction took."""
        return [] if self.records is None else decode_records(self.codec, self.records)


async def fetch_batches(
    session: Session, wants: Sequence[tuple[LanePlace, int, int]]
) -> list[tuple[int, Batch]]:
    """Return (number of the want, batch) in order: `wants` are a place, the lane sequence to stop at, a number of rows."""
    rows = await session.many(
        _FETCH_BATCHES,
        *_places([place for place, _, _ in wants]),
        [seq_end for _, seq_end, _ in wants],
        [row_limit for _, _, row_limit in wants],
        limits.READ_BYTES_MAX,
    )
    return [(row["number"] - 1, _batch_from(row)) for row in rows]


async def find_lane_heads(session: Session, places: Sequence[LanePlace]) -> list[datetime | None]:
    """Return when the first message after each place was published."""
    heads: list[datetime | None] = [None] * len(places)
    for row in await session.many(_HEADS, *_places(places)):
        heads[row["number"] - 1] = row["published_at"]
    return heads


class LaneBatch(Struct, frozen=True, gc=False):
    """Where a batch lies, without its messages."""

    lane: int
    base_offset: int
    last_offset: int
    lane_first: int
    count: int
    offsets: Sequence[int]


async def find_positions(
    session: Session, positions: Sequence[tuple[LogPartition, int]]
) -> list[list[LaneBatch]]:
    """Return for each offset the last batch of each lane that does not begin behind it."""
    found: list[list[LaneBatch]] = [[] for _ in positions]
    rows = await session.many(
        _POSITIONS, *_logs([log for log, _ in positions]), [offset for _, offset in positions]
    )
    for row in rows:
        offsets = decode_offsets(row["base_offset"], row["offsets"], row["record_count"])
        number: int = row["number"]
        found[number - 1].append(
            LaneBatch(
                row["lane"],
                row["base_offset"],
                row["last_offset"],
                row["lane_first"],
                row["record_count"],
                offsets,
            )
        )
    return found


async def fetch_messages(
    session: Session, messages: Sequence[tuple[LogPartition, int, int]]
) -> list[tuple[Sequence[int], Batch]]:
    """Return batches with the numbers of those `messages` (partition, lane, offset) that they may hold."""
    rows = await session.many(
        _FETCH_MESSAGES,
        *_logs([log for log, _, _ in messages]),
        [lane for _, lane, _ in messages],
        [offset for _, _, offset in messages],
        limits.READ_BYTES_MAX,
    )
    return [([number - 1 for number in row["numbers"]], _batch_from(row)) for row in rows]


async def list_cancelled(session: Session, ranges: Sequence[tuple[LogPartition, int, int]]) -> list[set[int]]:
    """Return the offsets of each range (first, until) whose messages were cancelled."""
    found: list[set[int]] = [set() for _ in ranges]
    rows = await session.many(
        _CANCELLED,
        *_logs([log for log, _, _ in ranges]),
        [first for _, first, _ in ranges],
        [until for _, _, until in ranges],
    )
    for row in rows:
        number: int = row["number"]
        found[number - 1].add(row["offset"])
    return found


def _batch_from(row: Row) -> Batch:
    return Batch(
        row["base_offset"],
        row["last_offset"],
        row["lane_first"],
        row["record_count"],
        row["published_at"],
        row["transaction_state"] == ABORTED,
        row["codec"],
        decode_offsets(row["base_offset"], row["offsets"], row["record_count"]),
        row["records"],
    )


def _logs(logs: Sequence[LogPartition]) -> tuple[list[int], list[int], list[int]]:
    return [log.tenant_id for log in logs], [log.topic_id for log in logs], [log.partition for log in logs]


def _places(places: Sequence[LanePlace]) -> tuple[list[int], ...]:
    return (
        *_logs([place.log for place in places]),
        [place.lane for place in places],
        [place.base for place in places],
        [place.end for place in places],
    )
