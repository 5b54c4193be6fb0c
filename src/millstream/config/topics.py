"""The settings of topics and consumer groups. Contract: goqueue-messaging 16."""

from typing import Final

from millstream.config.kinds import NAME_PART, SWITCH, number, seconds, whole_number
from millstream.config.setting import Alias, Setting
from millstream.domain import limits

TOPIC_SETTINGS: Final = (
    Setting(
        path="topics.node_id",
        name="MILLSTREAM_NODE_ID",
        aliases=(Alias("GOQUEUE_BROKER_NODEID"),),
        kind=NAME_PART,
        help="What this server calls itself where clients of topics ask for brokers.",
    ),
    Setting(
        path="topics.requests_per_second_max",
        name="MILLSTREAM_TOPIC_REQUESTS_PER_SECOND_MAX",
        kind=whole_number(0, limits.RATE_LIMIT_MAX),
        help="Most requests a second for topics of an organization, or of an address without a credential; 0 for no limit.",
    ),
    Setting(
        path="topics.default_partitions",
        name="MILLSTREAM_TOPIC_DEFAULT_PARTITIONS",
        kind=whole_number(1, limits.PARTITIONS_MAX),
        help="Partitions of a topic that is created without a number.",
    ),
    Setting(
        path="topics.default_retention_hours",
        name="MILLSTREAM_TOPIC_DEFAULT_RETENTION_HOURS",
        kind=whole_number(1, limits.RETENTION_HOURS_MAX),
        help="Hours that a topic keeps messages when it was not told for how long.",
    ),
    Setting(
        path="topics.partitions_max",
        name="MILLSTREAM_TOPIC_PARTITIONS_MAX",
        kind=whole_number(1, limits.PARTITIONS_MAX),
        help="Most partitions of a topic.",
    ),
    Setting(
        path="topics.delay_seconds_max",
        name="MILLSTREAM_TOPIC_DELAY_SECONDS_MAX",
        kind=seconds(0, limits.DELAY_SECONDS_MAX),
        help="Longest delay of a message.",
    ),
    Setting(
        path="topics.delayed_per_topic_max",
        name="MILLSTREAM_TOPIC_DELAYED_MESSAGES_MAX",
        kind=whole_number(0, limits.DELAYED_PER_TOPIC_MAX),
        help="Most messages of a topic that wait for their time.",
    ),
    Setting(
        path="topics.delayed_per_partition_max",
        name="MILLSTREAM_TOPIC_DELAYED_PER_PARTITION_MAX",
        kind=whole_number(0, limits.DELAYED_PER_PARTITION_MAX),
        help="Most messages of a partition that wait for their time.",
    ),
    Setting(
        path="topics.dead_letters",
        name="MILLSTREAM_TOPIC_DEAD_LETTERS",
        kind=SWITCH,
        help="Whether messages that failed for the last time go to a topic of dead letters; else they are dropped.",
    ),
    Setting(
        path="topics.dead_letter_suffix",
        name="MILLSTREAM_TOPIC_DEAD_LETTER_SUFFIX",
        kind=NAME_PART,
        help="What the name of a topic of dead letters ends with.",
    ),
    Setting(
        path="topics.dead_letter_retention_hours",
        name="MILLSTREAM_TOPIC_DEAD_LETTER_RETENTION_HOURS",
        kind=whole_number(1, limits.RETENTION_HOURS_MAX),
        help="Hours that dead letters are kept.",
    ),
    Setting(
        path="topics.compaction_dirty_ratio",
        name="MILLSTREAM_TOPIC_COMPACTION_DIRTY_RATIO",
        kind=number(0, 1),
        help="Part of a compacted log that has to be new before it is compacted.",
    ),
    Setting(
        path="topics.tombstone_seconds",
        name="MILLSTREAM_TOPIC_TOMBSTONE_SECONDS",
        kind=seconds(0, limits.RETENTION_HOURS_MAX * 3_600),
        help="Time that compaction leaves the deletion of a key to be read.",
    ),
    Setting(
        path="topics.session_seconds",
        name="MILLSTREAM_GROUP_SESSION_SECONDS",
        kind=seconds(0.001, limits.SESSION_SECONDS_MAX),
        help="Time without a sign of life after which a member of a group is gone, unless it asks for another.",
    ),
    Setting(
        path="topics.gathering_seconds",
        name="MILLSTREAM_GROUP_GATHERING_SECONDS",
        kind=seconds(0, 60),
        help="Time in which the first members of a group are gathered before partitions are assigned.",
    ),
    Setting(
        path="topics.starts_latest",
        name="MILLSTREAM_GROUP_STARTS_LATEST",
        kind=SWITCH,
        help="Whether groups begin at the end of a topic that they did not read before, unless they ask for another.",
    ),
    Setting(
        path="topics.poll_wait_seconds",
        name="MILLSTREAM_GROUP_POLL_WAIT_SECONDS",
        kind=seconds(0, 60),
        help="Time that a poll of a group waits for messages when it does not say how long.",
    ),
    Setting(
        path="topics.poll_wait_seconds_max",
        name="MILLSTREAM_GROUP_POLL_WAIT_SECONDS_MAX",
        kind=seconds(0, limits.POLL_WAIT_SECONDS_MAX),
        help="Longest time that a poll of a group waits, whatever it asks for.",
    ),
    Setting(
        path="topics.poll_messages",
        name="MILLSTREAM_GROUP_POLL_MESSAGES",
        kind=whole_number(1, limits.READ_MESSAGES_MAX),
        help="Most messages of a poll that does not say how many.",
    ),
    Setting(
        path="topics.poll_messages_max",
        name="MILLSTREAM_GROUP_POLL_MESSAGES_MAX",
        kind=whole_number(1, limits.READ_MESSAGES_MAX),
        help="Most messages of a poll, whatever it asks for.",
    ),
    Setting(
        path="topics.visibility_seconds",
        name="MILLSTREAM_GROUP_VISIBILITY_SECONDS",
        kind=seconds(0.001, limits.VISIBILITY_SECONDS_MAX),
        help="Time in which a delivered message is to be settled.",
    ),
    Setting(
        path="topics.deliveries_max",
        name="MILLSTREAM_GROUP_DELIVERIES_MAX",
        kind=whole_number(1, 1_000),
        help="Deliveries of a message after which it is a dead letter.",
    ),
    Setting(
        path="topics.retry_seconds",
        name="MILLSTREAM_GROUP_RETRY_SECONDS",
        kind=seconds(0, limits.DELAY_SECONDS_MAX),
        help="Time after which a message that was refused once is delivered again.",
    ),
    Setting(
        path="topics.retry_factor",
        name="MILLSTREAM_GROUP_RETRY_FACTOR",
        kind=number(1, 100),
        help="What that time is multiplied with at each further refusal.",
    ),
    Setting(
        path="topics.retry_seconds_max",
        name="MILLSTREAM_GROUP_RETRY_SECONDS_MAX",
        kind=seconds(0, limits.DELAY_SECONDS_MAX),
        help="The longest that it becomes.",
    ),
    Setting(
        path="topics.member_in_flight_max",
        name="MILLSTREAM_GROUP_MEMBER_IN_FLIGHT_MAX",
        kind=whole_number(1, limits.MEMBER_IN_FLIGHT_MAX),
        help="Most messages that a member holds at a time.",
    ),
    Setting(
        path="topics.unsettled_gaps_max",
        name="MILLSTREAM_GROUP_UNSETTLED_MAX",
        kind=whole_number(1, limits.UNSETTLED_GAPS_MAX),
        help="Most unsettled messages of a partition before a group gets nothing new of it.",
    ),
    Setting(
        path="topics.receipt_replay_seconds",
        name="MILLSTREAM_GROUP_RECEIPT_REPLAY_SECONDS",
        kind=seconds(0, 86_400),
        help="Time in which a call that comes twice is answered as the first time.",
    ),
    Setting(
        path="topics.starvation_seconds",
        name="MILLSTREAM_GROUP_STARVATION_SECONDS",
        kind=seconds(0, 86_400),
        help="Time after which a waiting message has its turn whatever its priority.",
    ),
    Setting(
        path="topics.revocation_seconds",
        name="MILLSTREAM_GROUP_REVOCATION_SECONDS",
        kind=seconds(0.001, 3_600),
        help="Time that a member of a cooperative group has to give partitions up.",
    ),
)
