"""Reading: a stretch of a partition as a page of messages, without a consumer group."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import NotFound
from millstream.domain.message import Message, Page, ReadRequest
from millstream.domain.tenant import Principal
from millstream.domain.topic import DELAYED_LANE, Priority, Topic
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.routing import EPOCH, MICROSECOND
from millstream.engine.topics import TOPIC_NOT_FOUND, Topics
from millstream.engine.wakeups import EVERYONE, topic_bell
from millstream.store import delayed_messages, record_batches
from millstream.store.database import Session
from millstream.store.record_batches import Stretch
from millstream.store.record_codec import StoredRecord, decode_offsets, decode_records

LOOK_AGAIN_SECONDS = 1.0
# Where most is hidden, stretches grow, up to this many offsets; a page ends after so many of them in any case.
STRETCH_OFFSETS_MAX: Final = 10_000
STRETCHES_MAX: Final = 64
_BY_LANE: Final = {priority + 1: priority for priority in Priority}
_OPEN, _ABORTED = 1, 3


class _Delayed(Struct, frozen=True, gc=False):
    offset: int
    published_at: datetime
    record: StoredRecord


class Reading:
    """Reads partitions of topics; leaves no trace."""

    def __init__(self, context: Context, topics: Topics, settings: TopicSettings) -> None:
        self._context = context
        self._topics = topics
        self._settings = settings
        self._closing = False

    def close(self) -> None:
        """Answer held reads with what there is."""
        self._closing = True
        for tenant_id, bell in self._context.wakeups.waiting_queues():
            self._context.wakeups.wake_here(tenant_id, bell, EVERYONE)

    async def read(self, principal: Principal, topic_name: str, partition: int, request: ReadRequest) -> Page:
        """Return the page that begins at the request's offset or time. Raises NotFound.

        Its messages are those of one contiguous stretch of the log, whose end `next_offset` is: whatever is left out
        was hidden. An empty page is held for the request's time at most. Contract: goqueue-messaging 5.
        """
        topic = await self._topics.get(principal, topic_name)
        held = min(request.wait_seconds, self._settings.poll_wait_seconds_max)
        deadline = time.monotonic() + held
        page = await self._read_once(topic, partition, request)
        while not page.messages and not self._closing:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # From the start again: what was pending a moment ago may be due.
            await self._context.wakeups.wait(
                topic.tenant_id, (topic_bell(topic.id),), min(left, LOOK_AGAIN_SECONDS)
            )
            page = await self._read_once(topic, partition, request)
        return page

    async def _read_once(self, topic: Topic, partition: int, request: ReadRequest) -> Page:
        async with self._context.database.tenant(topic.tenant_id) as session:
            return await _PageReader(session, topic, partition, request, self._context.now()).read()


class _PageReader:
    # Gathers one page, stretch by stretch.

    def __init__(
        self, session: Session, topic: Topic, partition: int, request: ReadRequest, now: datetime | None
    ) -> None:
        self._session = session
        self._topic = topic
        self._partition = partition
        self._request = request
        self._now = now
        self._messages: list[Message] = []
        self._lanes: set[int] = set()
        self._pending: list[int] = []

    async def read(self) -> Page:
        limit = min(self._request.limit, limits.READ_MESSAGES_MAX)
        offset, from_time = self._request.offset, self._request.from_time
        span = limit
        bytes_left = limits.READ_BYTES_MAX
        for _ in range(STRETCHES_MAX):
            stretch = await record_batches.read_stretch(
                self._session,
                self._topic.tenant_id,
                self._topic.id,
                self._partition,
                offset=offset,
                limit=span,
                from_time=from_time,
                to_time=self._request.to_time,
                bytes_max=bytes_left,
                now=self._now,
            )
            if stretch is None:
                raise NotFound(_unknown(self._topic, self._partition))
            # Batches of another append never begin within this one's offsets, so that what is read is whole.
            until = _end_of(stretch, span)
            bytes_left -= await self._take(stretch, until)
            offset, from_time = max(until, stretch.begins), None
            missing = limit - len(self._messages)
            if missing <= 0 or bytes_left <= 0 or not _may_go_on(stretch, until):
                break
            # As many offsets as messages are missing; while there are none at all, ever more.
            span = missing if self._messages else min(span * 2, STRETCH_OFFSETS_MAX)
        return self._page(limit, offset)

    async def _take(self, stretch: Stretch, until: int) -> int:
        """Add what is visible of a stretch; returns how many bytes that had."""
        begins = stretch.begins
        size_bytes = 0
        delayed: list[_Delayed] = []
        for batch in stretch.batches:
            if batch.records is None or batch.base_offset >= until:
                continue
            size_bytes += batch.size_bytes
            if batch.transaction_state == _ABORTED:
                continue
            records = decode_records(batch.codec, batch.records)
            offsets = decode_offsets(batch.base_offset, batch.offsets, batch.record_count)
            found = zip(offsets, records, strict=True)
            if batch.base_offset < begins or batch.last_offset >= until:
                found = [pair for pair in found if begins <= pair[0] < until]
            at = batch.published_at
            if batch.lane == DELAYED_LANE:
                delayed += [_Delayed(offset, at, record) for offset, record in found if record is not None]
                continue
            partition, priority = self._partition, _BY_LANE[batch.lane]
            self._lanes.add(batch.lane)
            self._messages += [
                Message(partition, offset, at, record.value, record.key, priority, record.headers)
                for offset, record in found
                if record is not None
            ]
        if delayed:
            await self._take_delayed(delayed, stretch.at)
        return size_bytes

    async def _take_delayed(self, delayed: Sequence[_Delayed], at: datetime) -> None:
        now_us = (at - EPOCH) // MICROSECOND
        due = [one for one in delayed if (one.record.deliver_at_us or 0) <= now_us]
        due_offsets = {one.offset for one in due}
        pending = [one.offset for one in delayed if one.offset not in due_offsets]
        place = (self._topic.tenant_id, self._topic.id, self._partition)
        if due:
            # Waits for a cancellation that is under way: either that wins, or the message was read.
            cancelled = await delayed_messages.hold_cancelled(self._session, *place, sorted(due_offsets))
            for one in due:
                if one.offset not in cancelled:
                    record = one.record
                    priority = Priority(record.priority or 0)
                    self._lanes.add(DELAYED_LANE)
                    self._messages.append(
                        Message(
                            self._partition,
                            one.offset,
                            one.published_at,
                            record.value,
                            record.key,
                            priority,
                            record.headers,
                        )
                    )
        if pending:
            cancelled = await delayed_messages.find_cancelled(self._session, *place, pending)
            self._pending += [offset for offset in pending if offset not in cancelled]

    def _page(self, limit: int, next_offset: int) -> Page:
        messages = self._messages
        mixed = len(self._lanes) > 1
        if mixed:
            messages.sort(key=_offset_of)
        if len(messages) >= limit:
            # The scan ends with the last message that fits. A stretch may have gone further, where most is hidden.
            del messages[limit:]
            next_offset = messages[-1].offset + 1
        if self._request.by_priority and (mixed or DELAYED_LANE in self._lanes):
            messages.sort(key=_priority_of)
        pending = min((offset for offset in self._pending if offset < next_offset), default=None)
        return Page(messages=messages, next_offset=next_offset, pending_delayed_from=pending)


def _end_of(stretch: Stretch, span: int) -> int:
    """Return the offset that the readable part of a stretch ends before."""
    ends = min(stretch.begins + span, stretch.ends)
    for batch in stretch.batches:
        if batch.records is None or batch.transaction_state == _OPEN:
            ends = min(ends, batch.base_offset)
    return ends


def _may_go_on(stretch: Stretch, until: int) -> bool:
    return until < stretch.ends and not any(
        batch.transaction_state == _OPEN and batch.base_offset <= until for batch in stretch.batches
    )


def _unknown(topic: Topic, partition: int) -> str:
    return TOPIC_NOT_FOUND if partition < topic.partitions else f"partition {partition} not found"


def _offset_of(message: Message) -> int:
    return message.offset


def _priority_of(message: Message) -> int:
    return message.priority
