"""What is counted of messages and deliveries. Contract: goqueue-messaging 11."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct


class ReliabilityStatistics(Struct, frozen=True, kw_only=True):
    """Totals of a tenant's lifetime, and what is under way now.

    `queued` messages wait to be delivered again, `in_flight` ones are leased; `dead_letters` are retained now.
    """

    acks: int
    nacks: int
    rejects: int
    extensions: int
    expired: int
    retries: int
    deliveries: int
    in_flight: int
    queued: int
    dead_letters: int
    dead_lettered: int
    dead_lettered_by_reason: Mapping[str, int]
    dead_lettered_by_topic: Mapping[str, int]


class PartitionPriorities(Struct, frozen=True, kw_only=True):
    """Retained messages of a partition by priority, the most urgent first.

    `consumed` ones are settled in at least one group; `oldest_pending` is None where none is left.
    """

    pending: Sequence[int]
    consumed: Sequence[int]
    total: Sequence[int]
    oldest_pending: Sequence[datetime | None]


class PriorityStatistics(Struct, frozen=True, kw_only=True):
    """Messages by priority, the most urgent first, and how long they waited for their first delivery on average."""

    messages: Sequence[int]
    wait_seconds: Sequence[float]
    topics: Mapping[str, Mapping[int, PartitionPriorities]]
