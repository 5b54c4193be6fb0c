"""Topics: partitioned logs, and the lanes that the messages of a partition lie in."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import Final

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import BadRequest

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Priority(IntEnum):
    """How urgent a message is; lower numbers are handed out first. Contract: goqueue-messaging 1.7."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    BACKGROUND = 4

    @property
    def word(self) -> str:
        """The name that clients see."""
        return self.name.lower()


PRIORITIES: Final = {priority.word: priority for priority in Priority}
# The lane of messages that were published with a delay, whatever their priority; the lane of a priority is one above it.
DELAYED_LANE: Final = 6
LANES: Final = range(1, DELAYED_LANE + 1)


class Topic(Struct, frozen=True, kw_only=True):
    """A topic as it is configured. Its id is not used again after its deletion."""

    tenant_id: int
    id: int
    name: str
    partitions: int
    retention_hours: int
    created_at: datetime


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """How far a partition reaches: offsets from `log_start` up to, not with, `next_offset`."""

    partition: int
    log_start: int
    next_offset: int
    size_bytes: int


class TopicStatus(Struct, frozen=True, kw_only=True):
    """A topic and its partitions, in their order."""

    topic: Topic
    partitions: Sequence[PartitionStatus]


class CompactedPartition(Struct, frozen=True, kw_only=True):
    """What compaction did to a partition, or would do.

    `dirty_ratio` is the part of its messages that have no key of their own: below the threshold nothing is done.
    """

    partition: int
    records_before: int
    records_after: int
    dirty_ratio: float
    error: str | None = None

    @property
    def records_removed(self) -> int:
        """How many messages went."""
        return self.records_before - self.records_after


def check_topic_name(name: str) -> str:
    """Return `name` or raise BadRequest. Contract: goqueue-messaging 1.5."""
    if not name:
        raise BadRequest("name is required")
    if (
        len(name) > limits.TOPIC_NAME_CHARS_MAX
        or name in {".", ".."}
        or name.startswith("__")
        or _NAME.fullmatch(name) is None
    ):
        raise BadRequest(
            f"invalid topic name: 1 to {limits.TOPIC_NAME_CHARS_MAX} letters, digits, '.', '_' or '-',"
            " not beginning with '__'"
        )
    return name


def label_of(topic: str, partition: int) -> str:
    """Return what clients call a partition. Contract: goqueue-messaging 1.4."""
    return f"{topic}-{partition}"
