"""Compaction: of the messages with one key, the last is kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import BadRequest
from millstream.domain.tenant import Principal
from millstream.domain.topic import CompactedPartition, Topic
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.topics import Topics
from millstream.store import compaction, delayed_messages
from millstream.store.compaction import Records, StoredBatch
from millstream.store.database import Session
from millstream.store.record_codec import StoredRecord

_COMMITTED = (None, 2)
_FIRST = (0, -1)


class _Survey(Struct):
    # What a partition holds: messages, those without an older fellow, and the last offset by key.
    records: int
    distinct: int
    lasts: dict[bytes, int]
    hidden: set[int]


class Compaction:
    """Compacts topics on request. Messages without a key stay, and so do all numbers."""

    def __init__(self, context: Context, topics: Topics, settings: TopicSettings) -> None:
        self._context = context
        self._topics = topics
        self._settings = settings

    async def compact(
        self,
        principal: Principal,
        topic_name: str,
        *,
        partitions: Sequence[int] | None = None,
        dry_run: bool = False,
    ) -> list[CompactedPartition]:
        """Remove what a later message with the same key supersedes, and what was deleted by an empty value long ago.

        Messages that are leased, owed to a group, not due or not committed stay. Raises NotFound, or BadRequest for a
        partition that the topic does not have. Contract: goqueue-messaging 13.3.
        """
        topic = await self._topics.get(principal, topic_name)
        chosen = range(topic.partitions) if partitions is None else partitions
        for partition in chosen:
            if not 0 <= partition < topic.partitions:
                raise BadRequest(f"invalid partition {partition} (topic has {topic.partitions} partitions)")
        return [
            await self._compact_partition(topic, partition, dry_run) for partition in dict.fromkeys(chosen)
        ]

    async def _compact_partition(self, topic: Topic, partition: int, dry_run: bool) -> CompactedPartition:
        survey = await self._survey(topic, partition)
        if survey is None:
            return CompactedPartition(
                partition=partition,
                records_before=0,
                records_after=0,
                dirty_ratio=0.0,
                error=f"more than {limits.COMPACTED_KEYS_MAX} keys",
            )
        ratio = (survey.records - survey.distinct) / survey.records if survey.records else 0.0
        removed = 0
        if survey.records and ratio >= self._settings.compaction_dirty_ratio:
            removed = await self._remove(topic, partition, survey, dry_run)
        return CompactedPartition(
            partition=partition,
            records_before=survey.records,
            records_after=survey.records - removed,
            dirty_ratio=ratio,
        )

    async def _survey(self, topic: Topic, partition: int) -> _Survey | None:
        """Look through a partition; None when it has more keys than can be compared."""
        lasts: dict[bytes, int] = {}
        records = others = 0
        async with self._context.database.tenant(topic.tenant_id) as session:
            hidden = await compaction.list_hidden_offsets(
                session, topic.tenant_id, topic.id, partition, self._context.now()
            )
        after = _FIRST
        while batches := await self._batches(topic, partition, after):
            after = (batches[-1].lane, batches[-1].base_offset)
            for batch in batches:
                for offset, record in zip(batch.offsets, batch.records, strict=True):
                    if record is None:
                        continue
                    records += 1
                    if _counts(batch, offset, record, hidden):
                        digest = _digest(record.key or "")
                        lasts[digest] = max(lasts.get(digest, offset), offset)
                    else:
                        others += 1
            if len(lasts) > limits.COMPACTED_KEYS_MAX:
                return None
        return _Survey(records, others + len(lasts), lasts, hidden)

    async def _remove(self, topic: Topic, partition: int, survey: _Survey, dry_run: bool) -> int:
        removed = 0
        after = _FIRST
        while batches := await self._batches(topic, partition, after):
            after = (batches[-1].lane, batches[-1].base_offset)
            if not any(self._superseded(batch, survey, set()) for batch in batches):
                continue
            async with self._context.database.tenant(topic.tenant_id) as session:
                removed += await self._rewrite(session, topic, partition, batches, survey, dry_run)
        return removed

    async def _rewrite(
        self,
        session: Session,
        topic: Topic,
        partition: int,
        batches: Sequence[StoredBatch],
        survey: _Survey,
        dry_run: bool,
    ) -> int:
        place = (topic.tenant_id, topic.id, partition)
        # From here on no group is handed what is about to go.
        await delayed_messages.hold_positions(session, *place)
        held = await compaction.list_held_offsets(session, *place)
        changed: list[tuple[StoredBatch, Records]] = []
        removed = 0
        for batch in batches:
            gone = self._superseded(batch, survey, held)
            if gone:
                removed += len(gone)
                kept = [
                    None if offset in gone else record
                    for offset, record in zip(batch.offsets, batch.records, strict=True)
                ]
                changed.append((batch, kept))
        if dry_run or not changed:
            return removed
        rewritten = await compaction.rewrite_batches(session, *place, changed)
        # Another compaction was there first: what it left is looked at next time.
        return removed if rewritten == len(changed) else 0

    def _superseded(self, batch: StoredBatch, survey: _Survey, held: set[int]) -> set[int]:
        gone: set[int] = set()
        forgotten_before = batch.seen_at - timedelta(seconds=self._settings.tombstone_seconds)
        for offset, record in zip(batch.offsets, batch.records, strict=True):
            if record is None or offset in held or not _counts(batch, offset, record, survey.hidden):
                continue
            last = survey.lasts.get(_digest(record.key or ""))
            if last is None:
                continue
            if offset < last or (
                offset == last and not record.value and batch.published_at <= forgotten_before
            ):
                gone.add(offset)
        return gone

    async def _batches(self, topic: Topic, partition: int, after: tuple[int, int]) -> list[StoredBatch]:
        now: datetime | None = self._context.now()
        async with self._context.database.tenant(topic.tenant_id) as session:
            return await compaction.list_stored_batches(
                session, topic.tenant_id, topic.id, partition, after=after, now=now
            )


def _counts(batch: StoredBatch, offset: int, record: StoredRecord, hidden: set[int]) -> bool:
    """Tell whether a message supersedes older ones of its key, and may be superseded."""
    return bool(record.key) and batch.transaction_state in _COMMITTED and offset not in hidden


def _digest(key: str) -> bytes:
    # Keys may have 64 KiB; their digests are compared instead.
    return blake2b(key.encode(), digest_size=16).digest()
