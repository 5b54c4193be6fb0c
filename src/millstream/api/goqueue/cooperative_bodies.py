"""What is said and answered in the cooperative protocol. Contract: goqueue-messaging 12."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class TopicPartition(Struct, frozen=True):
    """A partition of a topic."""

    topic: str
    partition: int


class CooperativeJoined(Struct, frozen=True, kw_only=True):
    """What a member is told when it has joined; its partitions come with a heartbeat."""

    member_id: str
    generation: int
    leader_id: str
    members: list[str]
    rebalance_required: bool = True
    protocol: str = "cooperative"


class CooperativeBeat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member is to give up, or everything that it has."""

    rebalance_required: bool
    generation: int
    protocol: str
    state: str
    partitions_to_revoke: list[TopicPartition] | UnsetType = UNSET
    partitions_assigned: list[TopicPartition] | UnsetType = UNSET
    revocation_deadline: str | UnsetType = UNSET


class Revoke(Struct, frozen=True, kw_only=True):
    """What a member has given up."""

    member_id: str | None = None
    generation: int | None = None
    revoked_partitions: list[TopicPartition] | None = None


class Revoked(Struct, frozen=True, kw_only=True):
    """How many members still have something to give up."""

    pending_count: int
    rebalance_state: str
    status: Literal["acknowledged"] = "acknowledged"


class Assignment(Struct, frozen=True, kw_only=True):
    """What a member is to consume."""

    member_id: str
    generation: int
    partitions: list[TopicPartition]


class CooperativeMember(Struct, frozen=True, kw_only=True):
    """A member of a group and what it is to consume."""

    id: str
    client_id: str
    assigned_partitions: list[TopicPartition]
    last_heartbeat: str
    joined_at: str


class RebalanceStatistics(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a group, or all groups, were rebalanced."""

    total_rebalances: int
    successful_rebalances: int
    failed_rebalances: int
    total_partitions_revoked: int
    total_partitions_assigned: int
    total_revocation_timeouts: int
    last_rebalance_duration_ms: int
    average_rebalance_duration_ms: int
    rebalances_by_reason: dict[str, int]
    last_rebalance_at: str | UnsetType = UNSET


class CooperativeGroup(Struct, frozen=True, kw_only=True):
    """A group, its members, and how far its rebalance is."""

    id: str
    state: str
    generation: int
    protocol: str
    assignment_strategy: str
    rebalance_state: str
    topics: list[str]
    members: list[CooperativeMember]
    member_assignments: dict[str, list[TopicPartition]]
    rebalance_metrics: RebalanceStatistics
