"""What is said and answered of deliveries: polls, acknowledgements, positions. Contract: goqueue-messaging 8 to 10."""

from collections.abc import Mapping
from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class PolledMessage(Struct, frozen=True, gc=False, omit_defaults=True):
    """A message that is leased to whoever polled."""

    topic: str
    partition: int
    offset: int
    value: str
    timestamp: str
    receipt_handle: str
    priority: str
    delivery_count: int
    visibility_deadline: str
    key: str | UnsetType = UNSET
    headers: Mapping[str, str] | UnsetType = UNSET


class PolledMessages(Struct, frozen=True, gc=False):
    """What a poll got."""

    messages: list[PolledMessage]
    generation: int
    rebalance_required: bool


class Ack(Struct, frozen=True, kw_only=True):
    """A message that was processed; who did it is for the reader of logs."""

    receipt_handle: str | None = None
    consumer_id: str | None = None


class Acked(Struct, frozen=True, kw_only=True):
    """What an acknowledgement moved. `committed_offset` is the last settled one in a row, -1 for none."""

    topic: str
    partition: int
    offset: int
    committed_offset: int
    offset_advanced: bool
    in_flight_count: int
    acknowledged: Literal[True] = True
    success: Literal[True] = True


class Nack(Struct, frozen=True, kw_only=True):
    """A message that could not be processed now."""

    receipt_handle: str | None = None
    delay: str | None = None
    reason: str | None = None


class Nacked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether and when the message comes again."""

    requeued: bool
    success: bool
    action: Literal["requeued", "dlq"]
    topic: str
    partition: int
    offset: int
    delivery_count: int
    next_visible_at: str | None
    dlq_topic: str | UnsetType = UNSET


class Reject(Struct, frozen=True, kw_only=True):
    """A message that can never be processed."""

    receipt_handle: str | None = None
    reason: str | None = None


class Rejected(Struct, frozen=True, kw_only=True):
    """Where the message went."""

    dlq_topic: str | None
    topic: str
    partition: int
    offset: int
    reason: str
    rejected: Literal[True] = True
    success: Literal[True] = True
    action: Literal["rejected"] = "rejected"


class Extend(Struct, frozen=True, kw_only=True):
    """A lease to move; `extension_seconds` is read where `timeout` is absent."""

    receipt_handle: str | None = None
    timeout: str | None = None
    extension_seconds: int | None = None


class Extended(Struct, frozen=True, kw_only=True):
    """Until when the message is leased."""

    new_deadline: str
    extended_by: int
    extended: Literal[True] = True
    success: Literal[True] = True


class AckMany(Struct, frozen=True, kw_only=True):
    """Messages that were processed."""

    receipt_handles: list[str] | None = None


class AckFailure(Struct, frozen=True):
    """Why one receipt was not accepted."""

    receipt_handle: str
    error: str
    status: int


class AckedMany(Struct, frozen=True):
    """How many receipts were accepted, and which were not."""

    success_count: int
    failures: list[AckFailure]


class Positions(Struct, frozen=True, kw_only=True):
    """The next offset to read, by topic and partition, under both names that clients look for."""

    group_id: str
    offsets: dict[str, dict[str, int]]
    topics: dict[str, dict[str, int]]
    generation: int
    updated_at: str | None


class CommittedPlace(Struct, frozen=True, kw_only=True):
    """One position in the list that some clients send."""

    topic: str
    partition: int
    offset: int


class Commit(Struct, frozen=True, kw_only=True):
    """Positions to set, by topic and partition or as a list."""

    member_id: str | None = None
    generation: int | None = None
    offsets: dict[str, dict[str, int]] | list[CommittedPlace] | None = None


class Committed(Struct, frozen=True, kw_only=True):
    """Which positions were set."""

    group: str
    offsets: dict[str, dict[str, int]]
    committed: Literal[True] = True
    status: Literal["committed"] = "committed"


class Reset(Struct, frozen=True, kw_only=True):
    """Where a group is to begin anew."""

    topic: str | None = None
    partition: int | None = None
    strategy: str | None = None
    timestamp: str | None = None
    offset: int | None = None
    dry_run: bool | None = None


class NewPosition(Struct, frozen=True):
    """Where a group goes on in a partition."""

    topic: str
    partition: int
    offset: int


class PositionsReset(Struct, frozen=True):
    """Where a group goes on."""

    group_id: str
    reset_count: int
    new_offsets: list[NewPosition]
