"""What topics and consumer groups are configured with. Contract: goqueue-messaging 16."""

from msgspec import Struct

from millstream.domain import limits


class TopicSettings(Struct, frozen=True, kw_only=True):
    """Durations are seconds."""

    node_id: str = "node-1"
    # Of a tenant, or of an address without a credential; 0 for any number.
    requests_per_second_max: int = 0
    default_partitions: int = 3
    default_retention_hours: int = 168
    partitions_max: int = limits.PARTITIONS_MAX
    delay_seconds_max: float = limits.DELAY_SECONDS_MAX
    delayed_per_topic_max: int = limits.DELAYED_PER_TOPIC_MAX
    delayed_per_partition_max: int = limits.DELAYED_PER_PARTITION_MAX
    session_seconds: float = 30.0
    # Joins of an empty group that arrive within it are answered together; 0 answers each at once.
    gathering_seconds: float = 0.25
    starts_latest: bool = False
    poll_wait_seconds: float = 30.0
    poll_wait_seconds_max: float = limits.POLL_WAIT_SECONDS_MAX
    poll_messages: int = 100
    poll_messages_max: int = limits.READ_MESSAGES_MAX
    visibility_seconds: float = 30.0
    deliveries_max: int = 3
    retry_seconds: float = 1.0
    retry_factor: float = 2.0
    retry_seconds_max: float = 60.0
    member_in_flight_max: int = limits.MEMBER_IN_FLIGHT_MAX
    unsettled_gaps_max: int = limits.UNSETTLED_GAPS_MAX
    dead_letters: bool = True
    dead_letter_suffix: str = ".dlq"
    dead_letter_retention_hours: int = 336
    receipt_replay_seconds: float = 600.0
    starvation_seconds: float = 30.0
    revocation_seconds: float = 60.0
    compaction_dirty_ratio: float = 0.5
    tombstone_seconds: float = 86_400.0
