"""The transaction of polls: looks at what members own, takes what their turn is, leases it.

Contract: goqueue-messaging 8, 14.3 to 14.6.
"""

import hashlib
import os
import secrets
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.consumer_group import needs_rejoin
from millstream.domain.delivery import DeliveredMessage, after
from millstream.domain.errors import Conflict, MillstreamError, NotFound
from millstream.domain.handing_out import LEVELS, Owed, Supply, hand_out, is_mixed
from millstream.domain.receipt import DeliveryKey, write_receipts
from millstream.domain.topic import DELAYED_LANE, Priority
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.lease_ends import LeaseEnds
from millstream.engine.routing import EPOCH, MICROSECOND
from millstream.store import deliveries, group_positions, message_counters, message_fetches, redeliveries
from millstream.store.counters import Count
from millstream.store.database import Session
from millstream.store.deliveries import Handed
from millstream.store.group_positions import (
    GroupPartition,
    LogView,
    Poller,
    PollingMember,
    Position,
)
from millstream.store.message_fetches import Batch, LanePlace, LogPartition
from millstream.store.record_codec import StoredRecord
from millstream.store.redeliveries import Redelivery

GROUP_NOT_FOUND: Final = "group not found"
MEMBER_NOT_FOUND: Final = "member not found (may have been evicted)"
GENERATION_AHEAD: Final = "generation is ahead of the group's"


class PollRow(Struct, frozen=True, gc=False):
    """A member's wish."""

    tenant_id: int
    group: str
    member_id: str
    messages_max: int
    generation: int


class Page(Struct, frozen=True, kw_only=True):
    """What a poll got, and what to wait for when that is nothing.

    `deliveries` are what it was leased. `is_unfinished` says that there may be more at once. `is_full` says that the
    member holds as much as it may.
    """

    messages: Sequence[DeliveredMessage]
    deliveries: Sequence[tuple[int, DeliveryKey]]
    group_id: int
    generation: int
    rebalance_required: bool
    session_seconds: float
    topic_ids: Sequence[int]
    next_seconds: float | None
    is_unfinished: bool
    is_full: bool


class _Part:
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
        self.kept: set[int] | None = None

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


class _Taking:
    """Messages (offset, record, published at) that are handed out as one delivery. `ready_at` is given of delayed ones."""

    __slots__ = ("handed", "messages", "part", "ready_at")

    def __init__(
        self,
        handed: Handed,
        part: _Part,
        messages: Sequence[tuple[int, StoredRecord, datetime]],
        ready_at: datetime | None = None,
    ) -> None:
        self.handed = handed
        self.part = part
        self.messages = messages
        self.ready_at = ready_at


class _Seat:
    """A poll within a batch: whose it is, what there is for it and what it gets."""

    __slots__ = ("budget", "handed", "is_full", "member", "parts", "row", "wants")

    def __init__(self, row: PollRow, member: PollingMember, parts: list[_Part], budget: int) -> None:
        self.row = row
        self.member = member
        self.parts = parts
        self.budget = budget
        self.is_full = budget <= 0
        self.wants = 0
        self.handed: list[_Taking] = []


class HandingOut:
    """Runs batches of polls."""

    def __init__(self, context: Context, lease_ends: LeaseEnds, settings: TopicSettings) -> None:
        self._context = context
        self._lease_ends = lease_ends
        self._settings = settings
        self._key = os.urandom(32)

    def secrets_of(self, batch_id: int) -> range:
        """Return the secrets that a batch's deliveries may have: half of each is random anew."""
        digest = hashlib.blake2b(batch_id.to_bytes(8), key=self._key, digest_size=4).digest()
        first = int.from_bytes(digest, signed=True) << 32
        return range(first, first + 2**32)

    async def run(self, rows: Sequence[PollRow], batch_id: int) -> list[Page | MillstreamError]:
        """Answer polls of different members in one transaction."""
        now = self._context.now()
        async with self._context.database.session() as session, session.together():
            members = await group_positions.lock_polled(session, [_poller(row) for row in rows], batch_id)
            refusals = [_refusal(row, member) for row, member in zip(rows, members, strict=True)]
            seats = await self._seats(session, rows, members, refusals, now)
            await self._supply(session, seats, now)
            await self._take(session, seats, now)
            ids = await self._write(session, seats, batch_id, now)
            wakes = await self._wakes(session, seats, now)
        pages: dict[int, Page] = {
            number: self._page(seat, ids, wakes.get(number)) for number, seat in seats.items()
        }
        return [pages[number] if refusal is None else refusal for number, refusal in enumerate(refusals)]

    # What there is

    async def _seats(
        self,
        session: Session,
        rows: Sequence[PollRow],
        members: Sequence[PollingMember | None],
        refusals: Sequence[MillstreamError | None],
        now: datetime | None,
    ) -> dict[int, _Seat]:
        admitted = [
            (number, row, member)
            for number, (row, member, refusal) in enumerate(zip(rows, members, refusals, strict=True))
            if refusal is None and member is not None
        ]
        views = await self._look(session, admitted, now)
        ended = [key for key, view in views.items() if view.has_ended]
        if ended and await self._lease_ends.give_back(session, ended):
            views = await self._look(session, admitted, now)
        seats: dict[int, _Seat] = {}
        for number, row, member in admitted:
            parts = [
                _Part(position, views[position.key], turn)
                for turn, position in enumerate(member.positions)
                if position.key in views
            ]
            in_flight = parts[0].view.in_flight if parts else 0
            budget = min(row.messages_max, self._settings.member_in_flight_max - in_flight)
            seats[number] = _Seat(row, member, parts, max(budget, 0))
        return seats

    async def _look(
        self, session: Session, admitted: Sequence[tuple[int, PollRow, PollingMember]], now: datetime | None
    ) -> dict[GroupPartition, LogView]:
        keys = [position.key for _, _, member in admitted for position in member.positions]
        if not keys:
            return {}
        numbers = [place for place, (_, _, member) in enumerate(admitted, start=1) for _ in member.positions]
        owners = [(row.tenant_id, member.group_id, row.member_id) for _, row, member in admitted]
        views = await group_positions.look(session, keys, numbers, owners, now)
        return {key: view for key, view in zip(keys, views, strict=True) if view is not None}

    async def _supply(self, session: Session, seats: Mapping[int, _Seat], now: datetime | None) -> None:
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
        await self._count_stable(session, [part for part in parts if not part.view.is_stable])
        await self._find_heads(session, open_seats)

    async def _seek(self, session: Session, parts: Sequence[_Part]) -> None:
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

    async def _find_kept(self, session: Session, parts: Sequence[_Part]) -> None:
        replaying: list[_Part] = []
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
            ranges = [
                (part.position.key, min(part.position.offsets), part.position.replay_until or 0)
                for part in replaying
            ]
            kept = await redeliveries.list_kept_offsets(session, ranges)
            for part, offsets in zip(replaying, kept, strict=True):
                part.kept = offsets

    async def _pass_delayed(
        self, session: Session, parts: Sequence[_Part], due: Mapping[GroupPartition, Sequence[Owed]]
    ) -> None:
        """Pass delayed messages, so that the group is owed them, unless it is owed enough already."""
        passing = [
            part
            for part in parts
            if part.available(DELAYED_LANE) and len(due[part.position.key]) < limits.READ_MESSAGES_MAX
        ]
        if not passing:
            return
        batches = await self._fetch(
            session, [(part, DELAYED_LANE, limits.PASSED_DELAYED_MAX) for part in passing]
        )
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
            for offset, record, published_at in _consume(
                part, DELAYED_LANE, found, limits.PASSED_DELAYED_MAX
            ):
                if offset not in hidden and record.priority is not None:
                    visible_at = _deliver_at(record, published_at)
                    part.delayed.append(Owed(offset, record.priority + 1, visible_at, 0, is_new=True))

    async def _count_stable(self, session: Session, parts: Sequence[_Part]) -> None:
        # While a transaction is open, lanes hold more than can be read: only a look tells how much.
        if not parts:
            return
        wants = [
            (part, level + 1, limits.READ_MESSAGES_MAX)
            for part in parts
            for level in LEVELS
            if part.supply.fresh[level]
        ]
        for (part, lane, _), batches in zip(wants, await self._fetch(session, wants), strict=True):
            last = batches[-1] if batches else None
            readable = 0 if last is None else last.lane_first + last.count - part.first_seq(lane)
            part.supply.fresh[lane - 1] = min(part.supply.fresh[lane - 1], readable)

    async def _find_heads(self, session: Session, seats: Sequence[_Seat]) -> None:
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

    async def _fetch(self, session: Session, wants: Sequence[tuple[_Part, int, int]]) -> list[list[Batch]]:
        """Return the next batches of lanes, that many messages of each."""
        found: list[list[Batch]] = [[] for _ in wants]
        asked = [(part.place(lane), part.first_seq(lane) + count, count + 1) for part, lane, count in wants]
        if asked:
            for number, batch in await message_fetches.fetch_batches(session, asked):
                found[number].append(batch)
        return found

    # Taking it

    async def _take(self, session: Session, seats: Mapping[int, _Seat], now: datetime | None) -> None:
        wants: list[tuple[_Part, int, int]] = []
        wanting: list[_Seat] = []
        owed: list[tuple[_Seat, _Part, Owed]] = []
        for seat in seats.values():
            if not seat.budget or not seat.parts:
                continue
            starved_before = after(seat.parts[0].view.looked_at, -self._settings.starvation_seconds)
            hand_out([part.supply for part in seat.parts], seat.budget, starved_before)
            for level in LEVELS:
                for part in seat.parts:
                    if part.supply.taken_fresh[level]:
                        wants.append((part, level + 1, part.supply.taken_fresh[level]))
                        wanting.append(seat)
                        seat.wants += 1
            owed += [(seat, part, one) for part in seat.parts for one in part.supply.taken_owed]
            for part in seat.parts:
                if part.supply.turn != part.position.starved_turn:
                    part.position.starved_turn = part.supply.turn
                    part.position.changed = True
        for (part, lane, count), seat, batches in zip(
            wants, wanting, await self._fetch(session, wants), strict=True
        ):
            taken = _consume(part, lane, batches, count)
            if taken:
                handed = Handed(
                    part.position.key, lane, seat.row.member_id, 0, [offset for offset, _, _ in taken]
                )
                seat.handed.append(_Taking(handed, part, taken))
        if owed:
            await self._take_owed(session, owed)

    async def _take_owed(self, session: Session, owed: Sequence[tuple[_Seat, _Part, Owed]]) -> None:
        wanted = [(part.log, one.lane, one.offset) for _, part, one in owed]
        found: dict[int, tuple[StoredRecord | None, datetime]] = {}
        put_off: set[int] = set()
        for numbers, batch in await message_fetches.fetch_messages(session, wanted):
            places = {offset: place for place, offset in enumerate(batch.offsets)}
            records = batch.decode()
            for number in numbers:
                place = places.get(owed[number][2].offset)
                if place is None:
                    continue
                if batch.records is None:
                    put_off.add(number)
                else:
                    found[number] = (records[place], batch.published_at)
        gone: list[tuple[GroupPartition, int]] = []
        taken: list[tuple[GroupPartition, int]] = []
        settled: list[tuple[GroupPartition, str, int]] = []
        for number, (seat, part, one) in enumerate(owed):
            key = part.position.key
            if number in put_off:
                # The page is full without it.
                part.supply.taken_owed.remove(one)
                continue
            record, published_at = found.get(number, (None, part.view.looked_at))
            if not one.is_new:
                taken.append((key, one.offset))
            if record is None:
                # Compaction or retention took it.
                gone.append((key, one.offset))
                settled.append((key, seat.row.member_id, 1 if one.attempt else 0))
                continue
            handed = Handed(
                key,
                one.lane,
                seat.row.member_id,
                0,
                (one.offset,),
                one.attempt + 1,
                one.first_delivered_at,
                one.last_error,
            )
            seat.handed.append(_Taking(handed, part, [(one.offset, record, published_at)], one.visible_at))
        if taken:
            await redeliveries.remove(session, taken)
        if settled:
            await group_positions.advance(session, settled, self._context.now())

    # Writing it down

    async def _write(
        self, session: Session, seats: Mapping[int, _Seat], batch_id: int, now: datetime | None
    ) -> dict[int, int]:
        handed: list[Handed] = []
        span = self.secrets_of(batch_id)
        used: set[int] = set()
        deadline: datetime | None = None
        tally: dict[tuple[int, int, str], int] = {}
        for seat in seats.values():
            for taking in seat.handed:
                part = taking.part
                secret = span.start + secrets.randbits(32)
                while secret in used:
                    secret = span.start + secrets.randbits(32)
                used.add(secret)
                taking.handed = msgspec.structs.replace(taking.handed, secret=secret)
                handed.append(taking.handed)
                deadline = deadline or after(part.view.looked_at, self._settings.visibility_seconds)
                _count(tally, taking)
                if taking.handed.attempt == 1:
                    part.position.handed_out += len(taking.messages)
                    part.position.changed = True
        later = [
            Redelivery(part.position.key, one.offset, one.lane, one.visible_at, 0)
            for seat in seats.values()
            for part in seat.parts
            if part.delayed
            for one in _not_taken(part)
        ]
        if later:
            await redeliveries.owe(session, later)
        moved = [part.position for seat in seats.values() for part in seat.parts if part.position.changed]
        ids: dict[int, int] = {}
        if handed and deadline is not None:
            counts = [Count(tenant_id, kind, subject, n) for (tenant_id, kind, subject), n in tally.items()]
            ids = await deliveries.hand_out(session, handed, moved, deadline, counts, now)
        elif moved:
            await group_positions.move(session, moved, now)
        return ids

    async def _wakes(
        self, session: Session, seats: Mapping[int, _Seat], now: datetime | None
    ) -> dict[int, float]:
        waits = [
            (number, part.position.key)
            for number, seat in seats.items()
            if not seat.handed
            for part in seat.parts
        ]
        return await group_positions.next_wakes(session, waits, now) if waits else {}

    def _page(self, seat: _Seat, ids: Mapping[int, int], next_seconds: float | None) -> Page:
        chunks: dict[tuple[int, int], list[DeliveredMessage]] = {}
        keys: list[tuple[int, DeliveryKey]] = []
        for taking in seat.handed:
            handed, part, taken = taking.handed, taking.part, taking.messages
            key = DeliveryKey(
                handed.key.group_id, handed.key.topic_id, handed.key.partition, ids[handed.secret]
            )
            keys.append((handed.key.tenant_id, key))
            receipts = write_receipts(key, handed.secret, len(taken))
            topic, partition, attempt = part.view.topic, handed.key.partition, handed.attempt
            priority = Priority(handed.lane - 1)
            deadline = after(part.view.looked_at, self._settings.visibility_seconds)
            chunks.setdefault((handed.lane, part.turn), []).extend(
                [
                    DeliveredMessage(
                        topic,
                        partition,
                        offset,
                        published_at,
                        record.value,
                        record.key,
                        record.headers,
                        priority,
                        receipt,
                        attempt,
                        deadline,
                    )
                    for (offset, record, published_at), receipt in zip(taken, receipts, strict=True)
                ]
            )
        messages: list[DeliveredMessage] = []
        for place in sorted(chunks):
            chunk = chunks[place]
            if any(one.delivery_count > 1 for one in chunk) or len(keys) > len(chunks):
                chunk.sort(key=_offset_of)
            messages += chunk
        row, member = seat.row, seat.member
        return Page(
            messages=messages,
            deliveries=keys,
            group_id=member.group_id,
            generation=member.generation,
            rebalance_required=_must_rejoin(row, seat),
            session_seconds=member.session_timeout_ms / 1000,
            topic_ids=sorted({part.position.key.topic_id for part in seat.parts}),
            next_seconds=next_seconds,
            is_unfinished=not messages
            and (
                seat.wants > 0 or any(part.position.changed or part.supply.taken_owed for part in seat.parts)
            ),
            is_full=seat.is_full,
        )


def _poller(row: PollRow) -> Poller:
    return Poller(row.tenant_id, row.group, row.member_id)


def _refusal(row: PollRow, member: PollingMember | None) -> MillstreamError | None:
    if member is None:
        return NotFound(GROUP_NOT_FOUND)
    if member.member_id is None:
        return NotFound(MEMBER_NOT_FOUND)
    if row.generation > member.generation:
        return Conflict(GENERATION_AHEAD)
    return None


def _must_rejoin(row: PollRow, seat: _Seat) -> bool:
    """Tell whether a member owns something else than at the generation that it knows of. Contract: 7.5."""
    return row.generation != seat.member.generation and needs_rejoin(seat.member.changes, row.generation)


def _consume(
    part: _Part, lane: int, batches: Sequence[Batch], count: int
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
                if record is not None and (kept is None or offset not in kept)
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


def _not_taken(part: _Part) -> list[Owed]:
    taken = {one.offset for one in part.supply.taken_owed if one.is_new}
    return [one for one in part.delayed if one.offset not in taken]


def _count(tally: dict[tuple[int, int, str], int], taking: _Taking) -> None:
    handed, messages = taking.handed, taking.messages
    tenant_id, subject = handed.key.tenant_id, str(handed.lane - 1)
    amounts = {(tenant_id, message_counters.DELIVERED, ""): len(messages)}
    if handed.attempt == 1:
        at = taking.part.view.looked_at
        # Messages of one batch were published at the same time.
        times = Counter([taking.ready_at or published_at for _, _, published_at in messages])
        amounts[(tenant_id, message_counters.FIRST_DELIVERED, subject)] = len(messages)
        amounts[(tenant_id, message_counters.WAITED_US, subject)] = sum(
            (at - ready_at) // MICROSECOND * count for ready_at, count in times.items()
        )
    for key, amount in amounts.items():
        tally[key] = tally.get(key, 0) + amount


def _offset_of(message: DeliveredMessage) -> int:
    return message.offset
