"""What receipts do to messages, one after the other within a batch: settle them, put them off, keep them longer.

Contract: goqueue-messaging 9.6, 9.7, 14.1.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, assert_never

from msgspec import Struct

from millstream.domain.delivery import (
    Acked,
    Delivery,
    Extended,
    Nacked,
    Outcome,
    Rejected,
    after,
    is_spent,
    retry_seconds,
)
from millstream.domain.errors import Gone, MillstreamError, NotFound
from millstream.domain.receipt import DeliveryKey
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.lease_ends import key_of
from millstream.engine.message_burial import MAX_RETRIES_EXCEEDED, REJECTED, Burial
from millstream.store import message_counters
from millstream.store.group_positions import GroupPartition
from millstream.store.redeliveries import Redelivery

UNKNOWN: Final = "message not found or already processed"
SUPERSEDED: Final = "receipt expired: message was redelivered"


class Ack(Struct, frozen=True, gc=False):
    """The messages were processed."""


class Nack(Struct, frozen=True, gc=False):
    """Processing failed: deliver again after `delay_seconds`, None for the usual time."""

    delay_seconds: float | None
    reason: str | None


class Reject(Struct, frozen=True, gc=False):
    """The message cannot be processed."""

    reason: str


class Extend(Struct, frozen=True, gc=False):
    """Processing takes longer."""

    seconds: float


class SettleRow(Struct, frozen=True, gc=False):
    """What is to be done with messages of one delivery."""

    tenant_id: int
    key: DeliveryKey
    secret: int
    places: Sequence[int]
    act: Ack | Nack | Reject | Extend


Settled = Acked | Nacked | Rejected | Extended
Late = tuple[int, DeliveryKey, int]
"""Tenant, delivery and offset of a message that was given back: its lease has ended, or it was nacked."""


class Ledger:
    """What a batch does to deliveries that are held. `late` are the messages that were given back and are still owed.

    With `only_looks` nothing is changed: what had been done before is answered, all else is None.
    """

    def __init__(
        self,
        settings: TopicSettings,
        held: Mapping[tuple[int, DeliveryKey], Delivery],
        late: set[Late],
        at: datetime,
        dead_letter_topic_of: Callable[[Delivery], str | None],
        *,
        only_looks: bool = False,
    ) -> None:
        self._settings = settings
        self._held = held
        self._late = late
        self.at = at
        self._dead_letter_topic_of = dead_letter_topic_of
        self._only_looks = only_looks
        self.owed: list[Redelivery] = []
        self.forgotten: list[tuple[GroupPartition, int]] = []
        self.burials: list[Burial] = []
        self.settled: dict[tuple[GroupPartition, str], int] = {}
        self.tally: dict[tuple[int, int], int] = {}
        # What had been acknowledged with the same receipt before.
        self.repeated: set[tuple[int, DeliveryKey, int]] = set()
        # Whose leases may end earlier than anybody knows, in seconds.
        self.shortest_seconds: float | None = None

    def run(self, row: SettleRow) -> list[Settled | MillstreamError | None]:
        """Return what became of each message; acknowledgements are told as far as that is known here."""
        delivery = self._held.get((row.tenant_id, row.key))
        if delivery is None or delivery.secret != row.secret:
            return [NotFound(UNKNOWN)] * len(row.places)
        if isinstance(row.act, Ack):
            return self._ack_all(delivery, row.places)
        return [self._act(delivery, place, row.act) for place in row.places]

    def _act(
        self, delivery: Delivery, place: int, act: Ack | Nack | Reject | Extend
    ) -> Settled | MillstreamError | None:
        if place >= len(delivery.offsets):
            return NotFound(UNKNOWN)
        match act:
            case Ack():
                return self._ack_all(delivery, (place,))[0]
            case Nack():
                return self._nack(delivery, place, act)
            case Reject():
                return self._reject(delivery, place, act)
            case Extend():
                return self._extend(delivery, place, act)
            case _:
                assert_never(act)

    # Acknowledgements

    def _ack_all(self, delivery: Delivery, places: Sequence[int]) -> list[Settled | MillstreamError | None]:
        outcomes = delivery.outcomes
        topic, partition, offsets = delivery.topic, delivery.key.partition, delivery.offsets
        answers: list[Settled | MillstreamError | None] = []
        settled = Acked(topic, partition, -1, -1, False, 0) if len(places) > 1 else None
        leased = 0
        for place in places:
            if place >= len(outcomes):
                answers.append(NotFound(UNKNOWN))
                continue
            outcome = outcomes[place]
            if outcome == 0 and not self._only_looks:
                outcomes[place] = 1
                leased += 1
            elif outcome != 1:
                refusal = self._refusal(delivery, place)
                if refusal is not None or self._only_looks:
                    answers.append(refusal)
                    continue
                self._end(delivery, place, Outcome.ACKNOWLEDGED, message_counters.ACKED)
            else:
                self.repeated.add((delivery.tenant_id, delivery.key, place))
            # Of many at once nobody is told more than that they are settled.
            answers.append(settled or Acked(topic, partition, offsets[place], -1, False, 0))
        if leased:
            delivery.changed = True
            if delivery.deadlines is not None:
                delivery.settle(places[-1], Outcome(outcomes[places[-1]]))
            self._note_settled(delivery, leased)
            self._tally(delivery, message_counters.ACKED, leased)
        if any(isinstance(answer, Acked) for answer in answers):
            # An acknowledgement that comes twice is told where the group is, too.
            self.settled.setdefault((key_of(delivery), delivery.member_id), 0)
        return answers

    # Failures

    def _nack(self, delivery: Delivery, place: int, act: Nack) -> Settled | MillstreamError | None:
        known = delivery.results.get(str(place))
        if delivery.outcomes[place] == Outcome.NACKED and known is not None:
            return self._nacked(delivery, place, known)
        refusal = self._refusal(delivery, place)
        if refusal is not None or self._only_looks:
            return refusal
        if is_spent(self._settings, delivery.attempt):
            reason = act.reason or delivery.last_error
            self.burials.append(Burial(delivery, place, MAX_RETRIES_EXCEEDED, reason))
            result: list[str | int | None] = [None, self._dead_letter_topic_of(delivery)]
            self._end(delivery, place, Outcome.NACKED, message_counters.NACKED)
        else:
            seconds = act.delay_seconds
            if seconds is None:
                seconds = retry_seconds(self._settings, delivery.attempt)
            visible_at = after(self.at, seconds)
            result = [visible_at.isoformat(), None]
            self.owed.append(
                Redelivery(
                    key_of(delivery),
                    delivery.offsets[place],
                    delivery.lane,
                    visible_at,
                    delivery.attempt,
                    delivery.key.id,
                    delivery.first_delivered_at,
                    delivery.delivered_at,
                    act.reason or delivery.last_error,
                )
            )
            self._late.add((delivery.tenant_id, delivery.key, delivery.offsets[place]))
            delivery.settle(place, Outcome.NACKED)
            self._tally(delivery, message_counters.NACKED, 1)
            self._tally(delivery, message_counters.RETRIED, 1)
        delivery.results[str(place)] = result
        return self._nacked(delivery, place, result)

    def _nacked(self, delivery: Delivery, place: int, result: Sequence[str | int | None]) -> Nacked:
        visible_at, topic = result
        return Nacked(
            delivery.topic,
            delivery.key.partition,
            delivery.offsets[place],
            delivery.attempt,
            datetime.fromisoformat(visible_at) if isinstance(visible_at, str) else None,
            topic if isinstance(topic, str) else None,
        )

    def _reject(self, delivery: Delivery, place: int, act: Reject) -> Settled | MillstreamError | None:
        if delivery.outcomes[place] != Outcome.REJECTED:
            refusal = self._refusal(delivery, place)
            if refusal is not None or self._only_looks:
                return refusal
            self.burials.append(Burial(delivery, place, REJECTED, act.reason or delivery.last_error))
            self._end(delivery, place, Outcome.REJECTED, message_counters.REJECTED)
        return Rejected(
            delivery.topic,
            delivery.key.partition,
            delivery.offsets[place],
            act.reason,
            self._dead_letter_topic_of(delivery),
        )

    # Leases

    def _extend(self, delivery: Delivery, place: int, act: Extend) -> Settled | MillstreamError | None:
        if delivery.outcomes[place] != Outcome.LEASED or delivery.deadline_of(place) <= self.at:
            return self._refusal(delivery, place) or NotFound(UNKNOWN)
        if self._only_looks:
            return None
        deadline = after(self.at, act.seconds)
        delivery.extend(place, deadline)
        self._tally(delivery, message_counters.EXTENDED, 1)
        if self.shortest_seconds is None or act.seconds < self.shortest_seconds:
            self.shortest_seconds = act.seconds
        return Extended(deadline, act.seconds)

    # What they have in common

    def _refusal(self, delivery: Delivery, place: int) -> MillstreamError | None:
        """Return why a message is not to be settled with this receipt; None if it is."""
        outcome = Outcome(delivery.outcomes[place])
        match outcome:
            case Outcome.LEASED:
                return None
            case Outcome.GIVEN_BACK:
                late = (delivery.tenant_id, delivery.key, delivery.offsets[place])
                return None if late in self._late else Gone(SUPERSEDED)
            case Outcome.SUPERSEDED:
                return Gone(SUPERSEDED)
            case Outcome.NACKED if self._was_delivered_again(delivery, place):
                return Gone(SUPERSEDED)
            case (
                Outcome.ACKNOWLEDGED
                | Outcome.REJECTED
                | Outcome.NACKED
                | Outcome.DEAD_LETTERED
                | Outcome.COMMITTED
            ):
                return NotFound(UNKNOWN)
            case _:
                assert_never(outcome)

    def _was_delivered_again(self, delivery: Delivery, place: int) -> bool:
        _, dead_letter_topic = delivery.results.get(str(place), (None, None))
        waits = (delivery.tenant_id, delivery.key, delivery.offsets[place]) in self._late
        return dead_letter_topic is None and not waits

    def _end(self, delivery: Delivery, place: int, outcome: Outcome, kind: int) -> None:
        offset = delivery.offsets[place]
        late = (delivery.tenant_id, delivery.key, offset)
        if late in self._late:
            self._late.discard(late)
            self.forgotten.append((key_of(delivery), offset))
        delivery.settle(place, outcome)
        self._note_settled(delivery, 1)
        self._tally(delivery, kind, 1)

    def _note_settled(self, delivery: Delivery, count: int) -> None:
        key = (key_of(delivery), delivery.member_id)
        self.settled[key] = self.settled.get(key, 0) + count

    def _tally(self, delivery: Delivery, kind: int, count: int) -> None:
        key = (delivery.tenant_id, kind)
        self.tally[key] = self.tally.get(key, 0) + count
