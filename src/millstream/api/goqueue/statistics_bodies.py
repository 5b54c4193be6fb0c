"""What is counted of messages. Contract: goqueue-messaging 11."""

from msgspec import Struct


class AckManager(Struct, frozen=True, kw_only=True):
    """Acknowledgements."""

    total_acks: int
    total_nacks: int
    total_rejects: int
    total_expired: int
    total_retries: int
    total_dlq: int
    current_queued: int


class VisibilityTracker(Struct, frozen=True, kw_only=True):
    """Leases."""

    total_tracked: int
    current_in_flight: int
    total_expired: int
    total_acked: int
    total_extended: int


class DeadLetterRouting(Struct, frozen=True, kw_only=True):
    """Dead letters, by reason and by the topic that they came from."""

    total_routed: int
    routes_by_reason: dict[str, int]
    routes_by_topic: dict[str, int]
    create_errors: int = 0
    publish_errors: int = 0


class ReliabilityStatistics(Struct, frozen=True, kw_only=True):
    """What became of deliveries."""

    acks_total: int
    nacks_total: int
    rejects_total: int
    dlq_messages: int
    visibility_extensions: int
    ack_manager: AckManager
    visibility_tracker: VisibilityTracker
    dlq: DeadLetterRouting


class PriorityCounts(Struct, frozen=True, kw_only=True):
    """Messages of a partition by priority, the most urgent first; `oldest_pending` is empty where none waits."""

    pending: list[int]
    consumed: list[int]
    total: list[int]
    oldest_pending: list[str]


class TopicPriorities(Struct, frozen=True, kw_only=True):
    """Messages of a topic by priority, and of its partitions by number."""

    total_by_priority: list[int]
    partitions: dict[str, PriorityCounts]


class PriorityStatistics(Struct, frozen=True, kw_only=True):
    """Messages by priority, and how long they waited."""

    messages_by_priority: dict[str, int]
    avg_wait_time_by_priority: dict[str, str]
    total_by_priority: list[int]
    topics: dict[str, TopicPriorities]
