"""What is said and answered of topics. Contract: goqueue-messaging 3, 13."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class CreateTopic(Struct, frozen=True, kw_only=True):
    """A topic to create; `partitions` is read where `num_partitions` is absent."""

    name: str | None = None
    num_partitions: int | None = None
    partitions: int | None = None
    retention_hours: int | None = None


class TopicCreated(Struct, frozen=True):
    """What was created."""

    name: str
    partitions: int
    created: Literal[True] = True


class TopicNames(Struct, frozen=True):
    """All topics."""

    topics: list[str]


class PartitionRange(Struct, frozen=True):
    """The first offset and the last one that was written, -1 when none was."""

    earliest: int
    latest: int


class TopicDetails(Struct, frozen=True, kw_only=True):
    """A topic and how far its partitions reach, by number."""

    name: str
    partitions: int
    total_messages: int
    total_size_bytes: int
    partition_offsets: dict[str, PartitionRange]
    retention_hours: int
    created_at: str


class TopicDeleted(Struct, frozen=True):
    """What was deleted."""

    name: str
    deleted: Literal[True] = True


class PartitionPlace(Struct, frozen=True, kw_only=True):
    """Where a partition is kept: always here."""

    partition: int
    leader: str
    replicas: list[str]
    isr: list[str]
    version: int = 0


class PartitionPlaces(Struct, frozen=True):
    """Where the partitions of a topic are kept."""

    topic: str
    partitions: list[PartitionPlace]


class AddPartitions(Struct, frozen=True, kw_only=True):
    """The new number of partitions; who keeps which replica is not for a client to say here."""

    count: int | None = None
    replica_assignments: dict[str, list[str]] | None = None


class PartitionsAdded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a topic's partitions. A refusal has the same shape, with its `error` and `status`."""

    success: bool
    topic_name: str
    old_partition_count: int
    new_partition_count: int
    partitions_added: list[int]
    error: str | UnsetType = UNSET
    status: int | UnsetType = UNSET


class ScalingStatus(Struct, frozen=True):
    """Whether partitions are being added: never, it is one step."""

    topic: str
    scaling_in_progress: bool


class Compact(Struct, frozen=True, kw_only=True):
    """Which partitions to compact (None: all)."""

    partitions: list[int] | None = None
    dry_run: bool | None = None


class CompactedPartition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a compaction found and removed."""

    partition: int
    records_before: int
    records_after: int
    records_removed: int
    dirty_ratio: float
    error: str | UnsetType = UNSET


class Compacted(Struct, frozen=True, kw_only=True):
    """What a compaction did."""

    success: bool
    topic: str
    dry_run: bool
    results: list[CompactedPartition]
