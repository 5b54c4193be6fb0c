"""Random publishes, cancels, retention and compaction against a list: reading loses nothing and shows nothing twice."""

import asyncio
import random
from datetime import datetime

import pytest
from msgspec import Struct

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import NotFound
from millstream.domain.message import Message, NewMessage, PublishedMessage, ReadRequest
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine

RETENTION_SECONDS = 3600


class Record(Struct):
    """A message as the model keeps it."""

    value: str
    key: str | None
    priority: Priority
    published_at: datetime
    deliver_at: datetime | None
    cancelled: bool = False
    compacted: bool = False


class Model(Struct):
    """One partition as a list; what is at a place has that offset."""

    records: list[Record]
    log_start: int = 0

    def is_visible(self, record: Record, now: datetime) -> bool:
        due = record.deliver_at is None or record.deliver_at <= now
        return due and not record.cancelled and not record.compacted

    def page(self, offset: int, limit: int, now: datetime) -> tuple[list[int], int, int | None]:
        """Return the offsets of a page, where the next begins, and the lowest pending offset that was passed."""
        at = max(offset, self.log_start)
        page: list[int] = []
        pending: int | None = None
        while at < len(self.records) and len(page) < limit:
            record = self.records[at]
            if self.is_visible(record, now):
                page.append(at)
            elif not record.cancelled and not record.compacted and pending is None:
                pending = at
            at += 1
        return page, at, pending


class Trial:
    """An engine and the model beside it, under the same random operations."""

    def __init__(self, engine: Engine, principal: Principal, clock: SteeredClock, seed: int) -> None:
        self.engine = engine
        self.principal = principal
        self.clock = clock
        self.random = random.Random(seed)
        self.model = Model([])
        self.topic = f"t{seed}"

    async def run(self, steps: int) -> None:
        await self.engine.topics.create(self.principal, self.topic, 1, RETENTION_SECONDS // 3600)
        weighted = (
            [self.publish] * 6
            + [self.cancel] * 2
            + [self.advance] * 2
            + [self.compact, self.retain, self.fold]
        )
        for _ in range(steps):
            await self.random.choice(weighted)()
            await self.compare()

    async def publish(self) -> None:
        now = self.clock.now()
        messages = [self.new_message(number) for number in range(self.random.choice((1, 2, 5, 30)))]
        # One publish, or several that share a statement.
        cut = self.random.randint(0, len(messages))
        parts = [part for part in (messages[:cut], messages[cut:]) if part]
        answers = await asyncio.gather(
            *(self.engine.publishing.publish(self.principal, self.topic, part) for part in parts)
        )
        stored: list[tuple[int, Record]] = []
        for part, outcomes in zip(parts, answers, strict=True):
            offsets: list[int] = []
            for given, answer in zip(part, outcomes, strict=True):
                assert isinstance(answer, PublishedMessage)
                offsets.append(answer.offset)
                record = Record(given.value, given.key, given.priority, now, answer.deliver_at)
                stored.append((answer.offset, record))
            assert offsets == sorted(offsets)
        # Which of two publishes at once came first is for the server to say.
        stored.sort(key=lambda one: one[0])
        begin = len(self.model.records)
        assert [offset for offset, _ in stored] == list(range(begin, begin + len(messages)))
        self.model.records += [record for _, record in stored]

    def new_message(self, number: int) -> NewMessage:
        chance = self.random
        return NewMessage(
            "" if chance.random() < 0.1 else f"{len(self.model.records)}.{number}",
            chance.choice((None, "a", "b", "c")),
            None,
            Priority(chance.choice((0, 1, 2, 2, 2, 3, 4))),
            chance.choice((60.0, 600.0)) if chance.random() < 0.2 else None,
        )

    async def cancel(self) -> None:
        if not self.model.records:
            return
        offset = self.random.randrange(len(self.model.records))
        record = self.model.records[offset]
        pending = (
            record.deliver_at is not None and record.deliver_at > self.clock.now() and not record.cancelled
        )
        try:
            await self.engine.delayed.cancel(self.principal, self.topic, 0, offset)
        except NotFound:
            assert not pending
        else:
            assert pending
            record.cancelled = True

    async def advance(self) -> None:
        self.clock.advance(self.random.choice((1, 60, 600, 1800)))

    async def fold(self) -> None:
        await self.engine.delayed.deliver()

    async def retain(self) -> None:
        await self.engine.log_retention.prune()
        [partition] = (await self.engine.topics.describe(self.principal, self.topic)).partitions
        oldest = self.clock.now().timestamp() - RETENTION_SECONDS
        gone = self.model.records[: partition.log_start]
        # A cancelled message may hold its neighbours back for as long as its delay was.
        assert all((one.deliver_at or one.published_at).timestamp() < oldest for one in gone)
        kept = self.model.records[partition.log_start :]
        assert not kept or any((one.deliver_at or one.published_at).timestamp() >= oldest for one in kept)
        self.model.log_start = partition.log_start

    async def compact(self) -> None:
        now = self.clock.now()
        held = [one for one in self.model.records[self.model.log_start :] if not one.compacted]
        live = [one for one in held if one.key is not None and self.model.is_visible(one, now)]
        lasts = {one.key: one for one in live}
        distinct = len(held) - len(live) + len(lasts)
        if held and (len(held) - distinct) / len(held) >= 0.5:
            for one in live:
                one.compacted = lasts[one.key] is not one
        [done] = await self.engine.compaction.compact(self.principal, self.topic)
        assert (done.records_before, done.records_after) == (
            len(held),
            sum(not one.compacted for one in held),
        )

    async def compare(self) -> None:
        now = self.clock.now()
        ends = len(self.model.records)
        offset = self.random.randint(0, ends + 1)
        limit = self.random.choice((1, 2, 7, 1000))
        page = await self.engine.reading.read(
            self.principal, self.topic, 0, ReadRequest(offset=offset, limit=limit)
        )
        expected, next_offset, pending = self.model.page(offset, limit, now)
        assert (page.next_offset, page.pending_delayed_from) == (next_offset, pending)
        ordered = sorted(expected, key=lambda at: (self.model.records[at].priority, at))
        assert [self.as_read(at) for at in ordered] == page.messages

    def as_read(self, offset: int) -> Message:
        record = self.model.records[offset]
        return Message(0, offset, record.published_at, record.value, record.key, record.priority)


@pytest.mark.parametrize("seed", [1, 2])
async def test_reading_shows_what_a_list_would(
    engine: Engine, principal: Principal, clock: SteeredClock, seed: int
) -> None:
    await Trial(engine, principal, clock, seed).run(60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 22))
async def test_reading_shows_what_a_list_would_for_longer(
    engine: Engine, principal: Principal, clock: SteeredClock, seed: int
) -> None:
    await Trial(engine, principal, clock, seed).run(250)
