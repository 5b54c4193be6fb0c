"""Dead letters: messages that are settled by putting a copy into their topic's dead-letter topic.

Contract: goqueue-messaging 9.8.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from millstream.domain import limits
from millstream.domain.delivery import Delivery
from millstream.domain.errors import Unavailable
from millstream.domain.message import NewMessage, RefusedMessage
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
# What is left of the headers' size for those that tell of the death.
_OWN_HEADERS_BYTES: Final = 8 * 1024


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


class Letters(Struct):
    """Dead letters by tenant and dead-letter topic, and of how many partitions their source is."""

    messages: dict[tuple[int, str, int], list[NewMessage]]
    burials: Sequence[Burial]


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

    async def write(self, session: Session, burials: Sequence[Burial], at: datetime) -> Letters:
        """Return the dead letters of `burials`: one for each whose message the log still holds."""
        letters = Letters({}, burials)
        copied = [
            burial
            for burial in burials
            if self.topic_of(burial.delivery) not in (None, burial.delivery.topic)
        ]
        wanted = [
            (
                LogPartition(
                    burial.delivery.tenant_id, burial.delivery.key.topic_id, burial.delivery.key.partition
                ),
                burial.delivery.lane,
                burial.offset,
            )
            for burial in copied
        ]
        # Some at a time: a page holds a bounded number of bytes.
        remaining = list(range(len(wanted)))
        while remaining:
            found = await message_fetches.fetch_messages(session, [wanted[number] for number in remaining])
            left: list[int] = []
            for numbers, batch in found:
                if batch.records is None:
                    left += [remaining[number] for number in numbers]
                    continue
                records = batch.decode()
                places = {offset: place for place, offset in enumerate(batch.offsets)}
                for number in numbers:
                    burial = copied[remaining[number]]
                    place = places.get(burial.offset)
                    record = None if place is None else records[place]
                    if record is not None:
                        self._add(letters, burial, record, batch.published_at, at)
            remaining = sorted(set(left))
        return letters

    async def bury(self, session: Session, letters: Letters) -> list[tuple[int, int]]:
        """Append dead letters, to topics that are made at first use; returns the (tenant, topic) they went to.

        The last thing that a transaction locks. Raises Unavailable when a letter is larger than a message may be.
        """
        told: list[tuple[int, int]] = []
        for (tenant_id, name, partitions), messages in sorted(
            letters.messages.items(), key=lambda item: item[0]
        ):
            topic = await self._topics.find_or_create(
                session,
                tenant_id,
                name,
                partitions=partitions,
                retention_hours=self._settings.dead_letter_retention_hours,
            )
            routed = [_routed(message, topic.partitions) for message in messages]
            outcomes = await self._publishing.append(session, topic, routed)
            refused = next((one for one in outcomes if isinstance(one, RefusedMessage)), None)
            if refused is not None:
                raise Unavailable(f"the dead letter cannot be written: {refused.error}")
            told.append((tenant_id, topic.id))
        return told

    def counts(self, letters: Letters) -> list[Count]:
        """Return what to count of `letters`."""
        counts: list[Count] = []
        for burial in letters.burials:
            tenant_id = burial.delivery.tenant_id
            counts.append(Count(tenant_id, message_counters.BURIED_FOR, burial.reason, 1))
            counts.append(Count(tenant_id, message_counters.BURIED_FROM, burial.delivery.topic, 1))
        return counts

    def announce(self, told: Sequence[tuple[int, int]]) -> None:
        """Wake those who wait for dead letters, once they are committed."""
        for tenant_id, topic_id in told:
            self._publishing.announce(tenant_id, (topic_id,))

    def _add(
        self, letters: Letters, burial: Burial, record: StoredRecord, published_at: datetime, at: datetime
    ) -> None:
        delivery = burial.delivery
        name = self.topic_of(delivery)
        if name is None:
            return
        message = _letter_of(burial, record, published_at, at)
        letters.messages.setdefault((delivery.tenant_id, name, delivery.topic_partitions), []).append(message)


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
    size = sum(len(name.encode()) + len(value.encode()) for name, value in original.items())
    # Headers that leave no room are in the envelope.
    if size + _OWN_HEADERS_BYTES * 2 <= limits.HEADERS_BYTES_MAX:
        headers = original | headers
    return NewMessage(
        value=msgspec.json.encode(envelope).decode(),
        key=record.key,
        partition=delivery.key.partition,
        headers=headers,
    )


def _routed(message: NewMessage, partitions: int) -> NewMessage:
    """Keep the original partition where there is one of that number; else go by the key, else in turn."""
    if message.partition is None or message.partition < partitions:
        return message
    return msgspec.structs.replace(
        message, partition=partition_of(message.key, partitions) if message.key else None
    )
