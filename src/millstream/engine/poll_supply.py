"""What there is for polls: positions looked up in the log, what is owed, what is fresh, what was delayed.

Contract: goqueue-messaging 14.3 to 14.5.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.handing_out import LEVELS, Owed, Supply, is_mixed
from millstream.domain.topic import DELAYED_LANE
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.routing import EPOCH, MICROSECOND
from millstream.store import message_fetches, redeliveries
from millstream.store.database import Session
from millstream.store.deliveries import Handed
from millstream.store.group_positions import GroupPartition, LogView, PollingMember, Position
from millstream.store.message_fetches import Batch, LanePlace, LogPartition
from millstream.store.record_codec import StoredRecord


class PollRow(Struct, frozen=True, gc=False):
    """A member's wish."""

    tenant_id: int
    group: str
    member_id: str
    messages_max: int
    generation: int


class Part:
    """One partition of a member, as far as a batch of polls is with it."""

    __slots__ = ("delayed", "kept", "position", "supply", "turn", "view")

    def __init__(self, position: Position, view: LogView, turn: int) -> None:
        self.position = position
        self.view = view
        self.turn = turn
        self.supply = Supply([0] * len(LEVELS))
        # Delayed messages that were passed a moment ago.
        self.delayed: list[Owed] = []
        # What is not handed out anew although the position lies before it.
        self.kept: set[int] = set()

    @property
    def log(self) -> LogPartition:
        key = self.position.key
        return LogPartition(key.tenant_id, key.topic_id, key.partition)

    @property
    def is_sought(self) -> bool:
        return self.position.seqs[0] >= 0

    def first_seq(self, lane: int) -> int:
        return max(self.position.seqs[lane - 1], self.view.lane_starts[lane - 1])

    def available(self, lane: int) -> int:
        return max(0, self.view.lane_nexts[lane - 1] - self.first_seq(lane)) if self.is_sought else 0

    def place(self, lane: int) -> LanePlace:
        base = max(self.position.bases[lane - 1], self.view.log_start)
        return LanePlace(self.log, lane, base, self.view.end)

    def pass_to(self, lane: int, base: int, offset: int, seq: int) -> None:
        position = self.position
        position.bases[lane - 1] = base
        position.offsets[lane - 1] = offset
        position.seqs[lane - 1] = seq
        position.changed = True


class Taking:
    """Messages (offset, record, published at) that are handed out as one delivery. `ready_at` is given of delayed ones."""

    __slots__ = ("handed", "messages", "part", "ready_at")

    def __init__(
        self,
        handed: Handed,
        part: Part,
        messages: Sequence[tuple[int, StoredRecord, datetime]],
        ready_at: datetime | None = None,
    ) -> None:
        self.handed = handed
        self.part = part
        self.messages = messages
        self.ready_at = ready_at


class Seat:
    """A poll within a batch: whose it is, what there is for it and what it gets."""

    __slots__ = ("budget", "handed", "is_full", "member", "parts", "row", "wants")

    def __init__(self, row: PollRow, member: PollingMember, parts: list[Part], budget: int) -> None:
        self.row = row
        self.member = member
        self.parts = parts
        self.budget = budget
        self.is_full = budget <= 0
        self.wants = 0
        self.handed: list[Taking] = []


class PollSupply:
    """Finds out what can be handed out."""

    def __init__(self, settings: TopicSettings) -> None:
        self._settings = settings

    async def find(self, session: Session, seats: Mapping[int, Seat], now: datetime | None) -> None:
        """Find out of each partition what can be handed out."""
        open_seats = [seat for seat in seats.values() if seat.budget]
        parts = [part for seat in open_seats for part in seat.parts]
        await self._seek(session, [part for part in parts if not part.is_sought])
        due = {part.position.key: list[Owed]() for part in parts}
        with_due = [part.position.key for part in parts if part.view.has_due]
        if with_due:
            found = await redeliveries.list_due(session, with_due, limits.READ_MESSAGES_MAX, now)
            due.update(zip(with_due, found, strict=True))
        await self._find_kept(session, parts)
        await self._pass_delayed(session, parts, due)
        for part in parts:
            owed = due[part.position.key]
            owed += [one for one in part.delayed if one.visible_at <= part.view.looked_at]
            fresh = [part.available(level + 1) for level in LEVELS]
            if part.position.unsettled >= self._settings.unsettled_gaps_max:
                # So much is acknowledged out of order that nothing new is handed out. Contract: 14.5.
                fresh = [0] * len(LEVELS)
            part.supply = Supply(fresh, owed, turn=part.position.starved_turn)
        await self._count_readable(session, [part for part in parts if part.kept or not part.view.is_stable])
        await self._find_heads(session, open_seats)

    async def _seek(self, session: Session, parts: Sequence[Part]) -> None:
        """Look up positions that are known by their offset only, unless the log does not reach them yet."""
        parts = [part for part in parts if part.view.end >= part.position.offsets[0]]
        if not parts:
            return
        found = await message_fetches.find_positions(
            session, [(part.log, part.position.offsets[0]) for part in parts]
        )
        for part, batches in zip(parts, found, strict=True):
            target = part.position.offsets[0]
            for lane in range(1, DELAYED_LANE + 1):
                part.pass_to(lane, target, target, part.view.lane_starts[lane - 1])
            for batch in batches:
                if batch.last_offset < target:
                    part.pass_to(batch.lane, target, target, batch.lane_first + batch.count)
                else:
                    place = bisect_left(batch.offsets, target)
                    part.pass_to(
                        batch.lane, batch.base_offset, batch.offsets[place], batch.lane_first + place
                    )

    async def _find_kept(self, session: Session, parts: Sequence[Part]) -> None:
        replaying: list[Part] = []
        for part in parts:
            until = part.position.replay_until
            if until is None:
                continue
            if min(part.position.offsets) >= until:
                part.position.replay_until = None
                part.position.changed = True
            else:
                replaying.append(part)
        if replaying:
            kept = await redeliveries.list_kept_offsets(session, [part.position.key for part in replaying])
            for part, offsets in zip(replaying, kept, strict=True):
                part.kept = offsets

    async def _pass_delayed(
        self, session: Session, parts: Sequence[Part], due: Mapping[GroupPartition, Sequence[Owed]]
    ) -> None:
        """Pass delayed messages, so that the group is owed them, unless it is owed enough already."""
        passing = [
            part
            for part in parts
            if part.available(DELAYED_LANE) and len(due[part.position.key]) < limits.READ_MESSAGES_MAX
        ]
        if not passing:
            return
        batches = await fetch(session, [(part, DELAYED_LANE, limits.PASSED_DELAYED_MAX) for part in passing])
        ranges = [
            (part.log, part.position.offsets[DELAYED_LANE - 1], found[-1].last_offset + 1)
            for part, found in zip(passing, batches, strict=True)
            if found
        ]
        cancelled = iter(await message_fetches.list_cancelled(session, ranges)) if ranges else iter(())
        for part, found in zip(passing, batches, strict=True):
            if not found:
                continue
            hidden = next(cancelled)
            for offset, record, published_at in consume(part, DELAYED_LANE, found, limits.PASSED_DELAYED_MAX):
                if offset not in hidden and record.priority is not None:
                    visible_at = _deliver_at(record, published_at)
                    part.delayed.append(Owed(offset, record.priority + 1, visible_at, 0, is_new=True))

    async def _count_readable(self, session: Session, parts: Sequence[Part]) -> None:
        # While a transaction is open, or much is passed by, lanes hold more than can be read: only a look tells how much.
        if not parts:
            return
        wants = [
            (part, level + 1, limits.READ_MESSAGES_MAX)
            for part in parts
            for level in LEVELS
            if part.supply.fresh[level]
        ]
        for (part, lane, _), batches in zip(wants, await fetch(session, wants), strict=True):
            last = batches[-1] if batches else None
            readable = 0 if last is None else last.lane_first + last.count - part.first_seq(lane)
            floor = part.position.offsets[lane - 1]
            passed = sum(
                floor <= offset and offset in part.kept for batch in batches for offset in batch.offsets
            )
            part.supply.fresh[lane - 1] = min(part.supply.fresh[lane - 1], readable) - passed

    async def _find_heads(self, session: Session, seats: Sequence[Seat]) -> None:
        """Where not all can be handed out, find out how long the first message of each lane has waited."""
        lanes = [
            (part, level)
            for seat in seats
            if is_mixed([part.supply for part in seat.parts])
            and sum(part.supply.messages for part in seat.parts) > seat.budget
            for part in seat.parts
            for level in LEVELS
            if part.supply.fresh[level]
        ]
        if len(lanes) > 1:
            heads = await message_fetches.find_lane_heads(
                session, [part.place(level + 1) for part, level in lanes]
            )
            for (part, level), head in zip(lanes, heads, strict=True):
                part.supply.heads[level] = head


async def fetch(session: Session, wants: Sequence[tuple[Part, int, int]]) -> list[list[Batch]]:
    """Return the next batches of lanes, that many messages of each besides those that are passed by."""
    found: list[list[Batch]] = [[] for _ in wants]
    asked: list[tuple[LanePlace, int, int]] = []
    for part, lane, count in wants:
        reach = count + len(part.kept)
        asked.append((part.place(lane), part.first_seq(lane) + reach, reach + 1))
    if asked:
        for number, batch in await message_fetches.fetch_batches(session, asked):
            found[number].append(batch)
    return found


def consume(
    part: Part, lane: int, batches: Sequence[Batch], count: int
) -> list[tuple[int, StoredRecord, datetime]]:
    """Take up to `count` messages of a lane out of its next batches, and move the position past them."""
    floor = max(part.position.offsets[lane - 1], part.view.log_start)
    kept = part.kept
    taken: list[tuple[int, StoredRecord, datetime]] = []
    for batch in batches:
        left = count - len(taken)
        if not left:
            break
        if batch.is_aborted:
            part.pass_to(lane, batch.last_offset + 1, batch.last_offset + 1, batch.lane_first + batch.count)
            continue
        offsets = batch.offsets
        place = 0 if offsets[0] >= floor else bisect_left(offsets, floor)
        records = batch.decode()
        published_at = batch.published_at
        while place < batch.count and left:
            chunk = records[place : place + left]
            taken += [
                (offset, record, published_at)
                for record, offset in zip(chunk, offsets[place : place + left], strict=True)
                if record is not None and offset not in kept
            ]
            place += len(chunk)
            left = count - len(taken)
        if place >= batch.count:
            part.pass_to(lane, batch.last_offset + 1, batch.last_offset + 1, batch.lane_first + batch.count)
        else:
            part.pass_to(lane, batch.base_offset, offsets[place], batch.lane_first + place)
    return taken


def _deliver_at(record: StoredRecord, published_at: datetime) -> datetime:
    return published_at if record.deliver_at_us is None else EPOCH + record.deliver_at_us * MICROSECOND
