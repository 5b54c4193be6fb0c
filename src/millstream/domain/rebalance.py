"""Rebalances: what is decided when a group's members or partitions change, under the lock of the group.

The eager protocol assigns anew at once. The cooperative one takes nothing from a live member before it has
given it up, or before its time to do so is over. Contract: goqueue-messaging 7.7, 12.8.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from msgspec import Struct, field

from millstream.domain.assignment import Partition, assign_range, assign_sticky, digest_of
from millstream.domain.consumer_group import (
    AssignmentChange,
    Protocol,
    check_generation,
    with_assignment,
)
from millstream.domain.errors import Conflict


class Reason(Enum):
    """Why a rebalance began. Contract: goqueue-messaging 12.7."""

    MEMBER_JOINED = "member_joined"
    MEMBER_LEFT = "member_left"
    MEMBER_TIMEOUT = "member_timeout"
    PARTITIONS_CHANGED = "partitions_changed"


class RebalanceState(Enum):
    """How far a cooperative rebalance is. Contract: goqueue-messaging 12.2."""

    NONE = "none"
    PENDING_REVOKE = "pending_revoke"
    PENDING_ASSIGN = "pending_assign"
    COMPLETE = "complete"


class Rebalance(Struct, kw_only=True):
    """The last cooperative rebalance. Members knew of `start_generation` when it began."""

    state: RebalanceState
    start_generation: int
    started_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether it goes on."""
        return self.state in {RebalanceState.PENDING_REVOKE, RebalanceState.PENDING_ASSIGN}


class RebalanceStatistics(Struct, kw_only=True):
    """What rebalances there were. One that another began upon before its end has failed. Contract: goqueue-messaging 12.7."""

    total: int = 0
    successful: int = 0
    failed: int = 0
    partitions_revoked: int = 0
    partitions_assigned: int = 0
    # Members that did not give up in time what they had to.
    revocation_timeouts: int = 0
    last_duration_ms: float = 0.0
    total_duration_ms: float = 0.0
    last_at: datetime | None = None
    by_reason: dict[str, int] = field(default_factory=lambda: {reason.value: 0 for reason in Reason})

    @property
    def average_duration_ms(self) -> float:
        """The mean of those that succeeded, 0 when none did."""
        return self.total_duration_ms / self.successful if self.successful else 0.0

    def begin(self, reason: Reason, at: datetime) -> None:
        """Count a rebalance that begins."""
        self.total += 1
        self.last_at = at
        self.by_reason[reason.value] = self.by_reason.get(reason.value, 0) + 1

    def succeed(self, seconds: float) -> None:
        """Count its success."""
        self.successful += 1
        self.last_duration_ms = seconds * 1000
        self.total_duration_ms += self.last_duration_ms

    def add(self, other: "RebalanceStatistics") -> None:
        """Take in what another group counted."""
        if other.last_at is not None and (self.last_at is None or other.last_at > self.last_at):
            self.last_at = other.last_at
            self.last_duration_ms = other.last_duration_ms
        self.total += other.total
        self.successful += other.successful
        self.failed += other.failed
        self.partitions_revoked += other.partitions_revoked
        self.partitions_assigned += other.partitions_assigned
        self.revocation_timeouts += other.revocation_timeouts
        self.total_duration_ms += other.total_duration_ms
        for reason, count in other.by_reason.items():
            self.by_reason[reason] = self.by_reason.get(reason, 0) + count


class GroupMember(Struct, kw_only=True):
    """A member, as far as rebalances go. `confirmed` is the generation it has learned its assignment of."""

    topic_ids: Collection[int]
    starts_latest: bool
    confirmed: int = 0
    changes: tuple[AssignmentChange, ...] = ()


class Group(Struct, kw_only=True):
    """A group under its lock.

    `owners` has every partition that the group has a position in; `targets` those that are about to move, and to
    whom; `topics` how many partitions each topic has that somebody subscribes to.
    """

    protocol: Protocol
    generation: int
    gathering_until: datetime | None
    revoking_until: datetime | None
    rebalance: Rebalance | None
    statistics: RebalanceStatistics
    members: dict[str, GroupMember]
    owners: dict[Partition, str | None]
    targets: dict[Partition, str]
    topics: Mapping[int, int]

    @property
    def is_rebalancing(self) -> bool:
        """Whether members do not know all of their assignments yet."""
        return self.gathering_until is not None or (self.rebalance is not None and self.rebalance.is_active)

    @property
    def rebalance_state(self) -> RebalanceState:
        """How far the rebalance is."""
        return RebalanceState.NONE if self.rebalance is None else self.rebalance.state

    def owed_by(self, member_id: str) -> list[Partition]:
        """Return what a member has yet to give up."""
        return sorted(partition for partition in self.targets if self.owners.get(partition) == member_id)

    def debtors(self) -> set[str]:
        """Return the members that have yet to give something up."""
        owners = (self.owners.get(partition) for partition in self.targets)
        return {owner for owner in owners if owner is not None}


def begin_rebalance(group: Group, reason: Reason, at: datetime, *, revocation_seconds: float) -> None:
    """Begin a new generation for the members and partitions that `group` has now."""
    begun = group.rebalance
    start_generation = group.generation
    if begun is not None and begun.is_active:
        group.statistics.failed += 1
        if begun.state is RebalanceState.PENDING_REVOKE:
            start_generation = begun.start_generation
    group.generation += 1
    group.gathering_until = group.revoking_until = None
    group.rebalance = None
    group.statistics.begin(reason, at)
    _release(group)
    subscriptions = {member_id: member.topic_ids for member_id, member in group.members.items()}
    match group.protocol:
        case Protocol.EAGER:
            wanted = assign_range(subscriptions, group.topics)
        case Protocol.COOPERATIVE:
            wanted = assign_sticky(subscriptions, group.topics, group.owners)
        case _:
            assert_never(group.protocol)
    group.targets = {
        partition: owner for partition, owner in wanted.items() if group.owners.get(partition) != owner
    }
    if group.protocol is Protocol.EAGER or not group.members:
        group.statistics.partitions_revoked += sum(
            group.owners.get(partition) is not None for partition in group.targets
        )
        _assign(group)
        group.statistics.succeed(0.0)
        return
    group.rebalance = Rebalance(
        state=RebalanceState.PENDING_REVOKE, start_generation=start_generation, started_at=at
    )
    group.revoking_until = at + timedelta(seconds=revocation_seconds)
    _assign_when_free(group)


def revoke(group: Group, member_id: str, generation: int, partitions: Collection[Partition]) -> int:
    """Take what a member gives up; returns how many members still owe something.

    Raises Conflict for another generation than the rebalance's, and when there is no rebalance.
    Contract: goqueue-messaging 12.3.
    """
    begun = group.rebalance
    start_generation = group.generation if begun is None else begun.start_generation
    if generation not in {start_generation, group.generation}:
        raise Conflict("stale generation")
    if begun is None or not begun.is_active:
        raise Conflict("no active rebalance")
    if begun.state is RebalanceState.PENDING_REVOKE:
        given = set(partitions)
        for partition in group.owed_by(member_id):
            if partition in given:
                group.owners[partition] = None
                group.statistics.partitions_revoked += 1
        _assign_when_free(group)
    return len(group.debtors())


def end_revocation(group: Group, at: datetime) -> bool:
    """Take what was not given up in time; returns whether there was anything to do."""
    if group.revoking_until is None or at < group.revoking_until:
        return False
    late = group.debtors()
    group.statistics.revocation_timeouts += len(late)
    for partition in group.targets:
        if group.owners.get(partition) is not None:
            group.owners[partition] = None
            group.statistics.partitions_revoked += 1
    _assign_when_free(group)
    return True


def confirm(group: Group, member_id: str, generation: int, at: datetime) -> bool:
    """Note that a member has heard of its assignment; the last one ends the rebalance.

    Returns whether that was news. Raises Conflict for a generation that has not been yet.
    """
    check_generation(generation, group.generation)
    begun = group.rebalance
    member = group.members[member_id]
    if (
        begun is None
        or begun.state is not RebalanceState.PENDING_ASSIGN
        or generation != group.generation
        or member.confirmed == generation
    ):
        return False
    member.confirmed = generation
    if all(fellow.confirmed == generation for fellow in group.members.values()):
        begun.state = RebalanceState.COMPLETE
        group.statistics.succeed((at - begun.started_at).total_seconds())
    return True


def _release(group: Group) -> None:
    """Take partitions from whoever is gone or subscribes to them no longer, and from topics that are gone."""
    for (topic_id, partition), owner in group.owners.items():
        if owner is None:
            continue
        member = group.members.get(owner)
        if member is None or topic_id not in member.topic_ids or partition >= group.topics.get(topic_id, 0):
            group.owners[topic_id, partition] = None


def _assign_when_free(group: Group) -> None:
    if group.rebalance is not None and not group.debtors():
        group.revoking_until = None
        group.rebalance.state = RebalanceState.PENDING_ASSIGN
        _assign(group)


def _assign(group: Group) -> None:
    group.statistics.partitions_assigned += len(group.targets)
    group.owners.update(group.targets)
    group.targets = {}
    shares: dict[str, list[Partition]] = {member_id: [] for member_id in group.members}
    for partition, owner in group.owners.items():
        if owner is not None:
            shares[owner].append(partition)
    for member_id, member in group.members.items():
        member.changes = with_assignment(member.changes, group.generation, digest_of(shares[member_id]))
