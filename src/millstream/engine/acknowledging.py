"""Acknowledging: receipts settle messages, by group commit; those of one delivery are merged into one update.

Contract: goqueue-messaging 9.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar, cast

import msgspec

from millstream.domain import limits
from millstream.domain.delivery import Acked, Delivery, Extended, Nacked, Outcome, Rejected
from millstream.domain.errors import BadRequest, MillstreamError, OutcomeUnknown
from millstream.domain.receipt import DeliveryKey, malformed, read_receipt, read_receipts
from millstream.domain.tenant import Principal
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.engine.lease_ends import LeaseEnds
from millstream.engine.message_burial import MessageBurial
from millstream.engine.receipt_ledger import (
    Ack,
    Extend,
    Late,
    Ledger,
    Nack,
    Reject,
    Settled,
    SettleRow,
)
from millstream.engine.sightings import Sightings
from millstream.engine.wakeups import EVERYONE, group_bell, member_bell
from millstream.store import batches, deliveries, group_positions, redeliveries
from millstream.store.counters import Count
from millstream.store.database import Session
from millstream.store.group_positions import Committed, GroupPartition

ROW_BYTES: Final = 200
_GIVEN_BACK: Final = (Outcome.GIVEN_BACK, Outcome.NACKED)
# The time of a batch that holds no delivery: nothing is done at it.
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")
Answers = Sequence[Settled | MillstreamError | None]


class Acknowledging:
    """Settles messages and prolongs leases."""

    def __init__(
        self,
        context: Context,
        burial: MessageBurial,
        lease_ends: LeaseEnds,
        sightings: Sightings,
        settings: TopicSettings,
    ) -> None:
        self._context = context
        self._burial = burial
        self._lease_ends = lease_ends
        self._sightings = sightings
        self._settings = settings
        self.acks: Batcher[SettleRow, Answers] = self._batcher("ack")
        # Apart from acknowledgements: what becomes a dead letter waits for its topic.
        self.failures: Batcher[SettleRow, Answers] = self._batcher("nack")

    async def ack(self, principal: Principal, receipt: str) -> Acked:
        """Settle a message. Raises BadRequest, NotFound or Gone by the state of its receipt. Contract: 9.1, 9.6."""
        return await self._submit(self.acks, principal, receipt, Ack(), Acked)

    async def ack_many(self, principal: Principal, receipts: Sequence[str]) -> list[MillstreamError | None]:
        """Settle messages, each for itself; returns what was wrong with each receipt, if anything. Contract: 9.5."""
        refusals: list[MillstreamError | None] = [malformed()] * len(receipts)
        read = read_receipts(receipts)
        rows = [
            SettleRow(principal.tenant_id, named.key, named.secret, named.places, Ack()) for named, _ in read
        ]
        answered = await self.acks.submit(principal.tenant_id, rows, ROW_BYTES * len(rows))
        for (_, numbers), answers in zip(read, answered, strict=True):
            if isinstance(answers, MillstreamError):
                for number in numbers:
                    refusals[number] = answers
                continue
            for number, answer in zip(numbers, answers, strict=True):
                refusals[number] = answer if isinstance(answer, MillstreamError) else None
        return refusals

    async def nack(
        self,
        principal: Principal,
        receipt: str,
        *,
        delay_seconds: float | None = None,
        reason: str | None = None,
    ) -> Nacked:
        """Have a message delivered again, after a delay or the usual time; the last time it becomes a dead letter.

        Contract: goqueue-messaging 9.2.
        """
        longest = self._settings.delay_seconds_max
        if delay_seconds is not None and not 0 <= delay_seconds <= longest:
            raise BadRequest(f"delay must be between 0 and {longest:.12g} seconds")
        act = Nack(delay_seconds, _storable(reason) if reason else None)
        return await self._submit(self.failures, principal, receipt, act, Nacked)

    async def reject(self, principal: Principal, receipt: str, *, reason: str | None = None) -> Rejected:
        """Make a message a dead letter. Contract: goqueue-messaging 9.3."""
        act = Reject(_storable(reason or ""))
        rejected = await self._submit(self.failures, principal, receipt, act, Rejected)
        return msgspec.structs.replace(rejected, reason=reason or "")

    async def extend(self, principal: Principal, receipt: str, seconds: float) -> Extended:
        """Have the lease of a message end in `seconds` from now, earlier or later than before. Contract: 9.4."""
        if not 0 < seconds <= limits.VISIBILITY_SECONDS_MAX:
            raise BadRequest(f"timeout must be above 0 and at most {limits.VISIBILITY_SECONDS_MAX} seconds")
        return await self._submit(self.failures, principal, receipt, Extend(seconds), Extended)

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self.acks.close()
        await self.failures.close()

    async def _submit(
        self,
        batcher: "Batcher[SettleRow, Answers]",
        principal: Principal,
        receipt: str,
        act: Ack | Nack | Reject | Extend,
        kind: type[T],
    ) -> T:
        named = read_receipt(receipt)
        row = SettleRow(principal.tenant_id, named.key, named.secret, named.places, act)
        [answer] = await batcher.submit_one(principal.tenant_id, row, ROW_BYTES)
        if isinstance(answer, MillstreamError):
            raise answer
        if not isinstance(answer, kind):
            raise OutcomeUnknown
        return answer

    def _batcher(self, name: str) -> "Batcher[SettleRow, Answers]":
        return Batcher(
            name,
            self._settle,
            recover=self._recover,
            observe=self._context.observe_batch(name),
            rows_max=limits.BATCH_ACKS_MAX,
        )

    # The batch

    async def _settle(self, rows: list[SettleRow], batch_id: int) -> Sequence[Answers | MillstreamError]:
        now = self._context.now()
        told: list[tuple[int, int]] = []
        committed: dict[tuple[GroupPartition, str], Committed] = {}
        async with self._context.database.session() as session, session.together():
            held, ledger = await self._open(session, rows, batch_id)
            answers = [ledger.run(row) for row in rows]
            changed = [delivery for delivery in held.values() if delivery.changed]
            if ledger.forgotten:
                await redeliveries.remove(session, ledger.forgotten)
            if ledger.owed:
                await redeliveries.owe(session, ledger.owed)
            if changed:
                counts = [Count(tenant, kind, "", n) for (tenant, kind), n in ledger.tally.items()]
                counts += self._burial.counts(ledger.burials)
                await deliveries.record(session, changed, counts, now)
                committed = await self._advance(session, ledger, now)
                told = await self._burial.bury(session, ledger.burials, ledger.at)
            elif ledger.settled:
                committed = await self._advance(session, ledger, now)
        self._announce(changed, ledger, told)
        await self._sightings.saw({(one.tenant_id, one.key.group_id, one.member_id) for one in held.values()})
        for row, answer in zip(rows, answers, strict=True):
            _complete(row, held, committed, ledger.repeated, answer)
        return answers

    async def _open(
        self, session: Session, rows: Sequence[SettleRow], batch_id: int, *, only_looks: bool = False
    ) -> tuple[dict[tuple[int, DeliveryKey], Delivery], Ledger]:
        """Hold the deliveries of `rows`."""
        keys = sorted({(row.tenant_id, row.key) for row in rows})
        held, at = await deliveries.lock(session, keys, batch_id, self._context.now())
        late = _late_of(rows, held)
        if late:
            late = await redeliveries.find_given_back(session, sorted(late))
        ledger = Ledger(
            self._settings,
            held,
            late,
            at or _NEVER,
            self._burial.topic_of,
            only_looks=only_looks,
        )
        return held, ledger

    async def _advance(
        self, session: Session, ledger: Ledger, now: datetime | None
    ) -> dict[tuple[GroupPartition, str], Committed]:
        settled = [(key, member_id, count) for (key, member_id), count in ledger.settled.items()]
        if not settled:
            return {}
        advanced = await group_positions.advance(session, settled, now)
        return {
            (key, member_id): one
            for (key, member_id, _), one in zip(settled, advanced, strict=True)
            if one is not None
        }

    async def _recover(
        self, rows: list[SettleRow], batch_id: int, _started_at: float
    ) -> Sequence[Answers | MillstreamError]:
        """Answer what the lost batch did: whatever it did is what a repeated call is answered with."""
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            held, ledger = await self._open(session, rows, batch_id, only_looks=True)
            answers = [
                [OutcomeUnknown() if answer is None else answer for answer in ledger.run(row)] for row in rows
            ]
            committed = await self._advance(session, ledger, self._context.now())
        for row, answer in zip(rows, answers, strict=True):
            told = cast("list[Settled | MillstreamError | None]", answer)
            _complete(row, held, committed, ledger.repeated, told)
        return answers

    def _announce(self, changed: Sequence[Delivery], ledger: Ledger, told: Sequence[tuple[int, int]]) -> None:
        self._burial.announce(told)
        wakeups = self._context.wakeups
        for tenant_id, group_id, member_id in {
            (one.tenant_id, one.key.group_id, one.member_id) for one in changed
        }:
            wakeups.wake(tenant_id, member_bell(group_id, member_id), EVERYONE)
        for tenant_id, group_id in {(one.key.tenant_id, one.key.group_id) for one in ledger.owed}:
            wakeups.wake(tenant_id, group_bell(group_id), EVERYONE)
        if ledger.shortest_seconds is not None:
            self._lease_ends.hint.set()


def _late_of(rows: Sequence[SettleRow], held: dict[tuple[int, DeliveryKey], Delivery]) -> set[Late]:
    late: set[Late] = set()
    for row in rows:
        delivery = held.get((row.tenant_id, row.key))
        if delivery is None or not any(outcome in delivery.outcomes for outcome in _GIVEN_BACK):
            continue
        late.update(
            (row.tenant_id, row.key, delivery.offsets[place])
            for place in row.places
            if place < len(delivery.offsets) and delivery.outcomes[place] in _GIVEN_BACK
        )
    return late


def _complete(
    row: SettleRow,
    held: dict[tuple[int, DeliveryKey], Delivery],
    committed: dict[tuple[GroupPartition, str], Committed],
    repeated: set[tuple[int, DeliveryKey, int]],
    answers: list[Settled | MillstreamError | None],
) -> None:
    """Tell acknowledgements, in place, where their group is."""
    # A call for many messages is not told: it would be answered with what nobody reads.
    if not isinstance(row.act, Ack) or len(row.places) > 1:
        return
    delivery = held.get((row.tenant_id, row.key))
    answer = answers[0]
    if delivery is None or not isinstance(answer, Acked):
        return
    key = GroupPartition(row.tenant_id, row.key.group_id, row.key.topic_id, row.key.partition)
    one = committed.get((key, delivery.member_id))
    if one is not None:
        # A repeated acknowledgement is answered as the one that moved the position, which nobody noted.
        was_owed = one.low_before <= answer.offset or (row.tenant_id, row.key, row.places[0]) in repeated
        answers[0] = Acked(
            answer.topic,
            answer.partition,
            answer.offset,
            one.low - 1,
            was_owed and answer.offset < one.low,
            one.in_flight,
        )


def _storable(text: str) -> str:
    """Return a text that can be stored: what the database or UTF-8 has no place for is replaced."""
    cut = text[: limits.ERROR_CHARS_MAX].replace("\x00", "\ufffd")
    return cut.encode("utf-8", "replace").decode()
