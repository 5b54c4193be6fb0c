"""What is answered of delayed messages. Contract: goqueue-messaging 6."""

from typing import Literal

from msgspec import Struct


class DelayedEntry(Struct, frozen=True, kw_only=True):
    """A message that waits for its time."""

    topic: str
    partition: int
    offset: int
    deliver_at: str
    priority: str
    time_remaining: str
    state: str


class DelayedPage(Struct, frozen=True, kw_only=True):
    """Messages that wait, the next due first; `count` is how many are here."""

    topic: str
    messages: list[DelayedEntry]
    count: int
    limit: int
    skip: int


class DelayedCancelled(Struct, frozen=True):
    """What was cancelled, in both spellings."""

    topic: str
    partition: int
    offset: int
    cancelled: Literal[True] = True
    canceled: Literal[True] = True


class DelayStatistics(Struct, frozen=True, kw_only=True):
    """What was delayed since the beginning, and what still waits."""

    pending_count: int
    delivered_count: int
    cancelled_count: int
    canceled_count: int
    avg_delay: str
    total_scheduled: int
    total_delivered: int
    total_canceled: int
    total_pending: int
    by_topic: dict[str, int]
