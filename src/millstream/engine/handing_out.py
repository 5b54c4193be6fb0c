"""The transaction of polls: looks at what members own, takes what their turn is, leases it.

Contract: goqueue-messaging 8, 14.3 to 14.6.
"""

import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from millstream.domain.consumer_group import needs_rejoin
from millstream.domain.delivery import DeliveredMessage, after
from millstream.domain.errors import Conflict, MillstreamError, NotFound
from millstream.domain.handing_out import LEVELS, Owed, hand_out
from millstream.domain.receipt import DeliveryKey, write_receipts
from millstream.domain.topic import Priority
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.lease_ends import LeaseEnds
from millstream.engine.poll_supply import Part, PollRow, PollSupply, Seat, Taking, consume, fetch
from millstream.engine.routing import MICROSECOND
from millstream.store import deliveries, group_positions, message_counters, message_fetches, redeliveries
from millstream.store.counters import Count
from millstream.store.database import Session
from millstream.store.deliveries import Handed
from millstream.store.group_positions import (
    GroupPartition,
    LogView,
    Poller,
    PollingMember,
)
from millstream.store.record_codec import StoredRecord
from millstream.store.redeliveries import Redelivery

GROUP_NOT_FOUND: Final = "group not found"
MEMBER_NOT_FOUND: Final = "member not found (may have been evicted)"
GENERATION_AHEAD: Final = "generation is ahead of the group's"


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


class HandingOut:
    """Runs batches of polls."""

    def __init__(self, context: Context, lease_ends: LeaseEnds, settings: TopicSettings) -> None:
        self._context = context
        self._lease_ends = lease_ends
        self._settings = settings
        self._poll_supply = PollSupply(settings)
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
            await self._poll_supply.find(session, seats, now)
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
    ) -> dict[int, Seat]:
        admitted = [
            (number, row, member)
            for number, (row, member, refusal) in enumerate(zip(rows, members, refusals, strict=True))
            if refusal is None and member is not None
        ]
        views = await self._look(session, admitted, now)
        ended = [key for key, view in views.items() if view.has_ended]
        if ended and await self._lease_ends.give_back(session, ended):
            views = await self._look(session, admitted, now)
        seats: dict[int, Seat] = {}
        for number, row, member in admitted:
            parts = [
                Part(position, views[position.key], turn)
                for turn, position in enumerate(member.positions)
                if position.key in views
            ]
            in_flight = parts[0].view.in_flight if parts else 0
            budget = min(row.messages_max, self._settings.member_in_flight_max - in_flight)
            seats[number] = Seat(row, member, parts, max(budget, 0))
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

    # Taking it

    async def _take(self, session: Session, seats: Mapping[int, Seat], now: datetime | None) -> None:
        wants: list[tuple[Part, int, int]] = []
        wanting: list[Seat] = []
        owed: list[tuple[Seat, Part, Owed]] = []
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
            wants, wanting, await fetch(session, wants), strict=True
        ):
            taken = consume(part, lane, batches, count)
            if taken:
                handed = Handed(
                    part.position.key, lane, seat.row.member_id, 0, [offset for offset, _, _ in taken]
                )
                seat.handed.append(Taking(handed, part, taken))
        if owed:
            await self._take_owed(session, owed)

    async def _take_owed(self, session: Session, owed: Sequence[tuple[Seat, Part, Owed]]) -> None:
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
            if record is None or one.offset < part.view.log_start:
                # Compaction took it; or retention did, although it is stored still because it was leased.
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
            seat.handed.append(Taking(handed, part, [(one.offset, record, published_at)], one.visible_at))
        if taken:
            await redeliveries.remove(session, taken)
        if settled:
            await group_positions.advance(session, settled, self._context.now())

    # Writing it down

    async def _write(
        self, session: Session, seats: Mapping[int, Seat], batch_id: int, now: datetime | None
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
        self, session: Session, seats: Mapping[int, Seat], now: datetime | None
    ) -> dict[int, float]:
        waits = [
            (number, part.position.key)
            for number, seat in seats.items()
            if not seat.handed
            for part in seat.parts
        ]
        return await group_positions.next_wakes(session, waits, now) if waits else {}

    def _page(self, seat: Seat, ids: Mapping[int, int], next_seconds: float | None) -> Page:
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


def _must_rejoin(row: PollRow, seat: Seat) -> bool:
    """Tell whether a member owns something else than at the generation that it knows of. Contract: 7.5."""
    return row.generation != seat.member.generation and needs_rejoin(seat.member.changes, row.generation)


def _not_taken(part: Part) -> list[Owed]:
    taken = {one.offset for one in part.supply.taken_owed if one.is_new}
    return [one for one in part.delayed if one.offset not in taken]


def _count(tally: dict[tuple[int, int, str], int], taking: Taking) -> None:
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
