"""Positions of consumer groups: what is settled of each partition, and where to go on. Contract: goqueue-messaging 10."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

from msgspec import Struct

ALL_PARTITIONS: Final = -1


class PartitionOffset(Struct, frozen=True, gc=False):
    """The next offset to read of a partition."""

    topic: str
    partition: int
    offset: int


class CommitRequest(Struct, frozen=True, kw_only=True):
    """A member settles everything below `offsets`."""

    member_id: str
    offsets: Sequence[PartitionOffset]
    generation: int | None = None


class ResetStrategy(Enum):
    """Where a reset goes to."""

    EARLIEST = "earliest"
    LATEST = "latest"
    TIMESTAMP = "timestamp"
    OFFSET = "offset"


class ResetRequest(Struct, frozen=True, kw_only=True):
    """Set a group's position in one partition of a topic, or in all of them.

    `timestamp` and `offset` go with the strategies of their names.
    """

    topic: str
    strategy: ResetStrategy
    partition: int = 0
    timestamp: datetime | None = None
    offset: int | None = None
    dry_run: bool = False


class GroupPositions(Struct, frozen=True, kw_only=True):
    """The next offset to read by topic and partition; partitions that were never touched are absent."""

    generation: int
    updated_at: datetime | None
    offsets: Mapping[str, Mapping[int, int]]
