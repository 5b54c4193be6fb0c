"""Dead letters: messages that are settled by putting a copy into their topic's dead-letter topic.

Contract: goqueue-messaging 9.8.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from millstream.domain.delivery import Delivery
from millstream.domain.message import NewMessage
from millstream.domain.topic import Priority
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.partition import partition_of
from millstream.engine.publishing import Publishing
from millstream.engine.topics import Topics
from millstream.store import message_counters, message_fetches
from millstream.store.counters import Count
from millstream.store.database import Session
from millstream.store.message_fetches import LogPartition
from millstream.store.record_codec import StoredRecord

REJECTED: Final = "REJECTED"
MAX_RETRIES_EXCEEDED: Final = "MAX_RETRIES_EXCEEDED"

LetterTopic = tuple[int, str, int]
"""Tenant and name of a dead-letter topic, and of how many partitions its source is."""


class _Envelope(Struct, frozen=True, kw_only=True):
    original_topic: str
    original_partition: int
    original_offset: int
    original_timestamp: datetime
    original_key: str | UnsetType = UNSET
    original_value: str
    original_encoding: str = "utf-8"
    original_priority: str
    original_headers: dict[str, str] | UnsetType = UNSET
    delivery_attempts: int
    first_delivery: datetime
    last_delivery: datetime
    dlq_time: datetime
    last_consumer: str
    last_group: str
    reason: str
    last_error: str | UnsetType = UNSET


class Burial(Struct, frozen=True):
    """A message of a delivery that is to become a dead letter, and why."""

    delivery: Delivery
    place: int
    reason: str
    last_error: str | None

    @property
    def offset(self) -> int:
        """The message's offset."""
        return self.delivery.offsets[self.place]


class MessageBurial:
    """Writes dead letters within transactions that settle their messages."""

    def __init__(self, topics: Topics, publishing: Publishing, settings: TopicSettings) -> None:
        self._topics = topics
        self._publishing = publishing
        self._settings = settings

    def topic_of(self, delivery: Delivery) -> str | None:
        """Return where dead letters of a delivery go, or stay; None if nowhere."""
        if delivery.topic.endswith(self._settings.dead_letter_suffix):
            return delivery.topic
        return delivery.topic + self._settings.dead_letter_suffix if self._settings.dead_letters else None

    async def bury(self, session: Session, burials: Sequence[Burial], at: datetime) -> list[tuple[int, int]]:
        """Append a dead letter for each message of `burials` that the log still holds; returns the (tenant, topic) they
        went to. Topics are made at first use, and letters are of any size: limits are for publishers.

        The last thing that a transaction locks.
        """
        copied = [
            burial
            for burial in burials
            if self.topic_of(burial.delivery) not in (None, burial.delivery.topic)
        ]
        # Partitions are locked in one order.
        copied.sort(key=lambda one: (one.delivery.tenant_id, one.delivery.topic, one.delivery.key.partition))
        told: dict[tuple[int, int], None] = {}
        # Some at a time: a page holds a bounded number of bytes.
        while copied:
            letters, copied = await self._write_page(session, copied, at)
            for where, messages in letters.items():
                told[await self._append(session, where, messages)] = None
        return list(told)

    def counts(self, burials: Sequence[Burial]) -> list[Count]:
        """Return what to count of `burials`."""
        counts: list[Count] = []
        for burial in burials:
            tenant_id = burial.delivery.tenant_id
            counts.append(Count(tenant_id, message_counters.BURIED_FOR, burial.reason, 1))
            counts.append(Count(tenant_id, message_counters.BURIED_FROM, burial.delivery.topic, 1))
        return counts

    def announce(self, told: Sequence[tuple[int, int]]) -> None:
        """Wake those who wait for dead letters, once they are committed."""
        for tenant_id, topic_id in told:
            self._publishing.announce(tenant_id, (topic_id,))

    async def _write_page(
        self, session: Session, burials: Sequence[Burial], at: datetime
    ) -> tuple[dict[LetterTopic, list[NewMessage]], list[Burial]]:
        """Return dead letters by where they go, and the burials that a page had no room for."""
        wanted = [(_log_of(burial.delivery), burial.delivery.lane, burial.offset) for burial in burials]
        letters: dict[int, NewMessage] = {}
        left: set[int] = set()
        for numbers, batch in await message_fetches.fetch_messages(session, wanted):
            if batch.records is None:
                left.update(numbers)
                continue
            records = batch.decode()
            places = {offset: place for place, offset in enumerate(batch.offsets)}
            for number in numbers:
                place = places.get(burials[number].offset)
                record = None if place is None else records[place]
                if record is not None:
                    letters[number] = _letter_of(burials[number], record, batch.published_at, at)
        by_topic: dict[LetterTopic, list[NewMessage]] = {}
        for number, letter in sorted(letters.items()):
            delivery = burials[number].delivery
            name = self.topic_of(delivery)
            assert name is not None
            where = (delivery.tenant_id, name, delivery.topic_partitions)
            by_topic.setdefault(where, []).append(letter)
        return by_topic, [burials[number] for number in sorted(left - letters.keys())]

    async def _append(
        self, session: Session, where: LetterTopic, letters: Sequence[NewMessage]
    ) -> tuple[int, int]:
        tenant_id, name, partitions = where
        while True:
            topic = await self._topics.find_or_create(
                session,
                tenant_id,
                name,
                partitions=partitions,
                retention_hours=self._settings.dead_letter_retention_hours,
            )
            routed = [_routed(letter, topic.partitions) for letter in letters]
            # It may be deleted meanwhile: then the letters go into a new one.
            if await self._publishing.append_committed(session, topic, routed):
                return tenant_id, topic.id


def _log_of(delivery: Delivery) -> LogPartition:
    return LogPartition(delivery.tenant_id, delivery.key.topic_id, delivery.key.partition)


def _letter_of(burial: Burial, record: StoredRecord, published_at: datetime, at: datetime) -> NewMessage:
    delivery = burial.delivery
    original = dict(record.headers) if record.headers else {}
    envelope = _Envelope(
        original_topic=delivery.topic,
        original_partition=delivery.key.partition,
        original_offset=burial.offset,
        original_timestamp=published_at,
        original_key=record.key or UNSET,
        original_value=record.value,
        original_priority=Priority(delivery.lane - 1).word,
        original_headers=original or UNSET,
        delivery_attempts=delivery.attempt,
        first_delivery=delivery.first_delivered_at,
        last_delivery=delivery.delivered_at,
        dlq_time=at,
        last_consumer=delivery.member_id,
        last_group=delivery.group,
        reason=burial.reason,
        last_error=burial.last_error or UNSET,
    )
    headers = {
        "x-goqueue-dlq-reason": burial.reason,
        "x-goqueue-original-topic": delivery.topic,
        "x-goqueue-original-partition": str(delivery.key.partition),
        "x-goqueue-original-offset": str(burial.offset),
        "x-goqueue-delivery-attempts": str(delivery.attempt),
    }
    if burial.last_error:
        headers["x-goqueue-last-error"] = burial.last_error
    return NewMessage(
        value=msgspec.json.encode(envelope).decode(),
        key=record.key,
        partition=delivery.key.partition,
        headers=original | headers,
    )


def _routed(message: NewMessage, partitions: int) -> NewMessage:
    """Keep the original partition where there is one of that number; else go by the key, else in turn."""
    if message.partition is None or message.partition < partitions:
        return message
    return msgspec.structs.replace(
        message, partition=partition_of(message.key, partitions) if message.key else None
    )
