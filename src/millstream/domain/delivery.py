"""Deliveries: what a consumer group's members are handed, and how each message of it ends.

Contract: goqueue-messaging 9, 14.1.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum

from msgspec import Struct

from millstream.domain.receipt import DeliveryKey
from millstream.domain.topic import Priority
from millstream.domain.topic_settings import TopicSettings


class PollRequest(Struct, frozen=True, kw_only=True):
    """A member asks for up to `max_messages`, and waits up to `wait_seconds` for the first."""

    member_id: str
    max_messages: int = 100
    wait_seconds: float = 0.0
    generation: int | None = None


class DeliveredMessage(Struct, frozen=True, gc=False):
    """A message in a member's hands until `deadline`; `delivery_count` is 1 the first time."""

    topic: str
    partition: int
    offset: int
    published_at: datetime
    value: str
    key: str | None
    headers: Mapping[str, str] | None
    priority: Priority
    receipt: str
    delivery_count: int
    deadline: datetime


class Polled(Struct, frozen=True):
    """What a poll handed out, by priority, then partition in turn, then offset."""

    messages: Sequence[DeliveredMessage]
    generation: int
    rebalance_required: bool


class Outcome(IntEnum):
    """What became of one message of a delivery, as it is stored."""

    LEASED = 0
    ACKNOWLEDGED = 1
    REJECTED = 2
    NACKED = 3
    # Its lease ended or its member left: it is owed again, and its receipt is good until it is delivered again.
    GIVEN_BACK = 4
    DEAD_LETTERED = 5
    SUPERSEDED = 6
    COMMITTED = 7


class Acked(Struct, frozen=True, gc=False):
    """An acknowledgement. `committed_offset` is the last offset below which, itself included, all is settled, or -1;
    `offset_advanced` tells whether that passed this message now; `in_flight` is what the member still holds there.
    """

    topic: str
    partition: int
    offset: int
    committed_offset: int
    offset_advanced: bool
    in_flight: int


class Nacked(Struct, frozen=True, gc=False):
    """A failed delivery: delivered again at `next_visible_at`, else settled, copied to `dead_letter_topic` if there is one."""

    topic: str
    partition: int
    offset: int
    delivery_count: int
    next_visible_at: datetime | None
    dead_letter_topic: str | None


class Rejected(Struct, frozen=True, gc=False):
    """A message that is settled, copied to `dead_letter_topic` if there is one."""

    topic: str
    partition: int
    offset: int
    reason: str
    dead_letter_topic: str | None


class Extended(Struct, frozen=True, gc=False):
    """A lease that ends at `deadline`, so many seconds after it was extended."""

    deadline: datetime
    seconds: float


class Delivery:
    """A delivery as it is stored, and as a batch changes it."""

    __slots__ = (
        "attempt",
        "base_offset",
        "changed",
        "deadline",
        "deadlines",
        "delivered_at",
        "first_delivered_at",
        "group",
        "key",
        "lane",
        "last_error",
        "member_id",
        "offsets",
        "outcomes",
        "results",
        "secret",
        "tenant_id",
        "topic",
        "topic_partitions",
    )

    def __init__(
        self,
        *,
        tenant_id: int,
        key: DeliveryKey,
        group: str,
        topic: str,
        topic_partitions: int,
        lane: int,
        member_id: str,
        secret: int,
        offsets: Sequence[int],
        outcomes: bytearray,
        attempt: int,
        first_delivered_at: datetime,
        delivered_at: datetime,
        deadline: datetime,
        deadlines: list[datetime] | None,
        last_error: str | None,
        results: dict[str, list[str | int | None]],
    ) -> None:
        self.tenant_id = tenant_id
        self.key = key
        self.group = group
        self.topic = topic
        self.topic_partitions = topic_partitions
        self.lane = lane
        self.member_id = member_id
        self.secret = secret
        self.offsets = offsets
        self.outcomes = outcomes
        self.attempt = attempt
        self.first_delivered_at = first_delivered_at
        self.delivered_at = delivered_at
        self.deadline = deadline
        self.deadlines = deadlines
        self.last_error = last_error
        self.results = results
        self.changed = False

    @property
    def leased(self) -> int:
        """How many of its messages are leased."""
        return self.outcomes.count(Outcome.LEASED)

    @property
    def lowest_leased(self) -> int | None:
        """The lowest offset that is leased."""
        place = self.outcomes.find(Outcome.LEASED)
        return None if place < 0 else self.offsets[place]

    def place_of(self, offset: int) -> int | None:
        """Return the place of an offset, None if it is none of these."""
        place = bisect_left(self.offsets, offset)
        return place if place < len(self.offsets) and self.offsets[place] == offset else None

    def deadline_of(self, place: int) -> datetime:
        """Return when the lease of one message ends."""
        return self.deadline if self.deadlines is None else self.deadlines[place]

    def settle(self, place: int, outcome: Outcome) -> None:
        """Note what became of one message."""
        self.outcomes[place] = outcome
        self.changed = True
        if self.deadlines is not None:
            self._note_first_deadline()

    def extend(self, place: int, deadline: datetime) -> None:
        """Move the end of one message's lease."""
        if self.deadlines is None:
            self.deadlines = [self.deadline] * len(self.offsets)
        self.deadlines[place] = deadline
        self.changed = True
        self._note_first_deadline()

    def ended_places(self, now: datetime) -> list[int]:
        """Return the places of messages whose lease has run out."""
        return [
            place
            for place, outcome in enumerate(self.outcomes)
            if outcome == Outcome.LEASED and self.deadline_of(place) <= now
        ]

    def _note_first_deadline(self) -> None:
        ends = [
            end
            for end, outcome in zip(self.deadlines or (), self.outcomes, strict=True)
            if outcome == Outcome.LEASED
        ]
        if ends:
            self.deadline = min(ends)


def retry_seconds(settings: TopicSettings, failures: int) -> float:
    """Return how long a message waits after so many failed deliveries. Contract: goqueue-messaging 9.2."""
    # Beyond some thousand failures the power would not be a number any more.
    longest = settings.retry_seconds_max
    seconds = settings.retry_seconds
    for _ in range(failures - 1):
        if seconds >= longest or settings.retry_factor <= 1:
            break
        seconds *= settings.retry_factor
    return min(seconds, longest)


def is_spent(settings: TopicSettings, attempt: int) -> bool:
    """Tell whether delivery number `attempt` is the last one that may fail. Contract: goqueue-messaging 9.7."""
    return attempt >= settings.deliveries_max


def after(moment: datetime, seconds: float) -> datetime:
    """Return the time `seconds` later."""
    return moment + timedelta(seconds=seconds)
