"""Batches of messages in the log: appending them, finding them again, reading a stretch of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.topic import LANES
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.queries import load
from millstream.store.record_codec import encode_offsets, join_chunks

_QUERIES = load("record_batches")
APPEND_PARAMETERS = (
    "batch_id", "now", "tenant_ids", "topic_ids", "partitions", "counts", "size_bytes", "criticals", "highs", "normals",
    "lows", "backgrounds", "delayeds", "delayed_counts", "row_places", "row_tenant_ids", "row_topic_ids",
    "row_partitions", "row_lanes", "first_places", "last_places", "lane_places", "record_counts", "last_deliver_ats",
    "priority_counts", "codecs", "row_size_bytes", "offsets", "records", "delayed_places", "delayed_tenant_ids",
    "delayed_topic_ids", "delayed_partitions", "delayed_ranks", "delayed_priorities", "deliver_ats",
)  # fmt: skip
_APPEND = _QUERIES["append_record_batches"].taking(*APPEND_PARAMETERS)
_FIND_APPENDED = _QUERIES["find_appended"].taking(
    "batch_id", "limit", "places", "tenant_ids", "topic_ids", "partitions", "lanes"
)
_READ = _QUERIES["read_record_batches"].taking(
    "now", "tenant_id", "topic_id", "partition", "offset", "limit", "from_time", "to_time", "bytes_max"
)

# How many rows of a lane, from the last one on, are looked at for those of a batch whose connection was lost.
LOOKED_BACK_ROWS_MAX = 10_000
_PRIORITIES = 5


class Hidden(Struct, frozen=True, gc=False):
    """A message that is not delivered before `deliver_at`. `rank` is its place among those of its partition."""

    rank: int
    priority: int
    deliver_at: datetime


class Chunk(Struct, frozen=True, gc=False):
    """Encoded messages of one lane. `ranks` are their places among those of their partition."""

    lane: int
    ranks: Sequence[int]
    data: bytes
    hidden: Sequence[Hidden] = ()


class Part(Struct, frozen=True, gc=False):
    """What an append has for one partition: `count` messages in chunks that ascend within each lane."""

    partition: int
    count: int
    chunks: Sequence[Chunk]


class Append(Struct, frozen=True, gc=False):
    """Messages for partitions of one topic that are stored together."""

    tenant_id: int
    topic_id: int
    parts: Sequence[Part]


Starts = Mapping[int, int]
"""The offset of the first message by partition."""


async def append(
    session: Session, appends: Sequence[Append], *, batch_id: int, now: datetime | None
) -> list[Starts | None]:
    """Store `appends` and tell where each begins in its partitions; None when a partition is gone.

    Locks the rows of the partitions in their order.
    """
    batch = _Batch(appends)
    rows = await session.many(_APPEND, *batch.arguments(batch_id, now))
    return batch.starts({row["place"]: row["base_offset"] for row in rows})


async def find_appended(session: Session, appends: Sequence[Append], *, batch_id: int) -> list[Starts | None]:
    """Return what `append` answered under `batch_id`, None where it stored nothing."""
    batch = _Batch(appends)
    firsts = batch.first_rows()
    rows = await session.many(
        _FIND_APPENDED,
        batch_id,
        LOOKED_BACK_ROWS_MAX,
        [row.place for row in firsts],
        [row.entry.tenant_id for row in firsts],
        [row.entry.topic_id for row in firsts],
        [row.entry.partition for row in firsts],
        [row.lane for row in firsts],
    )
    ranks = {row.place: row.ranks[0] for row in firsts}
    bases: dict[int, int] = {}
    for row in rows:
        bases.setdefault(row["place"], row["base_offset"] - ranks[row["place"]])
    return batch.starts(bases)


class _Entry:
    # One partition of a batch, with what all of its appends have for it.
    __slots__ = (
        "count",
        "lane_counts",
        "partition",
        "priority_counts",
        "size_bytes",
        "tenant_id",
        "topic_id",
    )

    def __init__(self, tenant_id: int, topic_id: int, partition: int) -> None:
        self.tenant_id = tenant_id
        self.topic_id = topic_id
        self.partition = partition
        self.count = 0
        self.lane_counts = [0] * len(LANES)
        self.priority_counts: list[int] | None = None
        self.size_bytes = 0


class _Row:
    # One row of `record_batches` that is being put together. `place` is its entry's, from 1.
    __slots__ = ("data", "data_bytes", "entry", "hidden", "lane", "lane_place", "place", "ranks")

    def __init__(self, entry: _Entry, place: int, lane: int) -> None:
        self.entry = entry
        self.place = place
        self.lane = lane
        self.lane_place = entry.lane_counts[lane - 1]
        self.ranks: list[int] = []
        self.data: list[bytes] = []
        self.data_bytes = 0
        self.hidden: list[Hidden] = []

    def takes(self, chunk: Chunk) -> bool:
        # One large message has a row of its own: whoever reads its neighbours does not read it too.
        return (
            len(self.ranks) + len(chunk.ranks) <= limits.BATCH_RECORDS
            and self.data_bytes + len(chunk.data) <= 2 * limits.BATCH_RECORD_BYTES
        )


class _Batch:
    # Appends as they are stored: together by partition, each lane in rows of a bounded size.

    def __init__(self, appends: Sequence[Append]) -> None:
        self._appends = appends
        self._entries: list[_Entry] = []
        self._places: dict[tuple[int, int, int], int] = {}
        self._rows: list[_Row] = []
        # Where each part begins among the messages of its entry, append by append.
        self._shifts: list[list[tuple[int, int, int]]] = []
        open_rows: dict[tuple[int, int], _Row] = {}
        for one in appends:
            shifts: list[tuple[int, int, int]] = []
            for part in one.parts:
                place = self._place_of(one, part.partition)
                entry = self._entries[place - 1]
                shift = entry.count
                shifts.append((part.partition, place, shift))
                for chunk in part.chunks:
                    self._add(open_rows, entry, place, chunk, shift)
                entry.count += part.count
            self._shifts.append(shifts)

    def _place_of(self, one: Append, partition: int) -> int:
        key = (one.tenant_id, one.topic_id, partition)
        place = self._places.get(key)
        if place is None:
            self._entries.append(_Entry(*key))
            place = self._places[key] = len(self._entries)
        return place

    def _add(
        self, open_rows: dict[tuple[int, int], _Row], entry: _Entry, place: int, chunk: Chunk, shift: int
    ) -> None:
        key = (place, chunk.lane)
        row = open_rows.get(key)
        if row is None or not row.takes(chunk):
            row = open_rows[key] = _Row(entry, place, chunk.lane)
            self._rows.append(row)
        if shift:
            row.ranks.extend([shift + rank for rank in chunk.ranks])
        else:
            row.ranks.extend(chunk.ranks)
        row.data.append(chunk.data)
        row.data_bytes += len(chunk.data)
        entry.lane_counts[chunk.lane - 1] += len(chunk.ranks)
        for one in chunk.hidden:
            row.hidden.append(Hidden(shift + one.rank, one.priority, one.deliver_at))

    def first_rows(self) -> list[_Row]:
        """Return the first row of each entry."""
        firsts: dict[int, _Row] = {}
        for row in self._rows:
            firsts.setdefault(row.place, row)
        return list(firsts.values())

    def starts(self, bases: Mapping[int, int]) -> list[Starts | None]:
        """Return where each append begins, given where the entries do by place."""
        if len(bases) == len(self._entries):
            return [
                {partition: bases[place] + shift for partition, place, shift in shifts}
                for shifts in self._shifts
            ]
        return [
            {partition: bases[place] + shift for partition, place, shift in shifts}
            if all(place in bases for _, place, _ in shifts)
            else None
            for shifts in self._shifts
        ]

    def arguments(self, batch_id: int, now: datetime | None) -> list[object]:
        """Return what the statement takes."""
        rows = self._rows
        stored = [join_chunks(len(row.ranks), row.data) for row in rows]
        for row, (_, records, _) in zip(rows, stored, strict=True):
            row.entry.size_bytes += len(records)
            if row.hidden:
                counts = row.entry.priority_counts = row.entry.priority_counts or [0] * _PRIORITIES
                for one in row.hidden:
                    counts[one.priority] += 1
        entries = self._entries
        hidden = [(row, one) for row in rows for one in row.hidden]
        return [
            batch_id,
            now,
            arrays.ints([entry.tenant_id for entry in entries]),
            arrays.ints([entry.topic_id for entry in entries]),
            arrays.ints([entry.partition for entry in entries]),
            arrays.ints([entry.count for entry in entries]),
            arrays.ints([entry.size_bytes for entry in entries]),
            *(arrays.ints([entry.lane_counts[lane - 1] for entry in entries]) for lane in LANES),
            arrays.texts([_literal(entry.priority_counts) for entry in entries]),
            arrays.ints([row.place for row in rows]),
            arrays.ints([row.entry.tenant_id for row in rows]),
            arrays.ints([row.entry.topic_id for row in rows]),
            arrays.ints([row.entry.partition for row in rows]),
            arrays.ints([row.lane for row in rows]),
            arrays.ints([row.ranks[0] for row in rows]),
            arrays.ints([row.ranks[-1] for row in rows]),
            arrays.ints([row.lane_place for row in rows]),
            arrays.ints([len(row.ranks) for row in rows]),
            arrays.times([max((one.deliver_at for one in row.hidden), default=None) for row in rows]),
            arrays.texts([_literal(_by_priority(row.hidden)) for row in rows]),
            arrays.ints([codec for codec, _, _ in stored]),
            arrays.ints([size_bytes for _, _, size_bytes in stored]),
            [encode_offsets(row.ranks[0], row.ranks) for row in rows],
            [records for _, records, _ in stored],
            arrays.ints([row.place for row, _ in hidden]),
            arrays.ints([row.entry.tenant_id for row, _ in hidden]),
            arrays.ints([row.entry.topic_id for row, _ in hidden]),
            arrays.ints([row.entry.partition for row, _ in hidden]),
            arrays.ints([one.rank for _, one in hidden]),
            arrays.ints([one.priority for _, one in hidden]),
            arrays.times([one.deliver_at for _, one in hidden]),
        ]


def _by_priority(hidden: Iterable[Hidden]) -> list[int] | None:
    counts = [0] * _PRIORITIES
    for one in hidden:
        counts[one.priority] += 1
    return counts if any(counts) else None


def _literal(counts: Sequence[int] | None) -> str | None:
    return None if counts is None else arrays.ints(counts)


class ReadBatch(Struct, frozen=True, gc=False):
    """A batch as it was read; `records` are left out of those past the limit of bytes."""

    lane: int
    base_offset: int
    last_offset: int
    record_count: int
    published_at: datetime
    transaction_state: int | None
    codec: int
    size_bytes: int
    offsets: bytes | None
    records: bytes | None


class Stretch(Struct, frozen=True, gc=False):
    """What was read: when, from which offset on, where the readable log ends, and the batches lane by lane."""

    at: datetime
    begins: int
    ends: int
    batches: Sequence[ReadBatch]


async def read_stretch(
    session: Session,
    tenant_id: int,
    topic_id: int,
    partition: int,
    *,
    offset: int,
    limit: int,
    from_time: datetime | None,
    to_time: datetime | None,
    bytes_max: int,
    now: datetime | None,
) -> Stretch | None:
    """Read the batches of `limit` offsets from `offset` on; None when there is no such partition."""
    rows = await session.many(
        _READ, now, tenant_id, topic_id, partition, offset, limit, from_time, to_time, bytes_max
    )
    if not rows:
        return None
    first = rows[0]
    return Stretch(
        first["at"],
        first["begins"],
        first["ends"],
        [_to_batch(row) for row in rows if row["lane"] is not None],
    )


def _to_batch(row: Row) -> ReadBatch:
    # By place: a page may be made of a thousand of them.
    return ReadBatch(row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12])
