"""Consumer groups: their members, what each owns, and how a member's generation is judged."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from enum import Enum, IntEnum
from typing import Final

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.topic import label_of

_NAME = re.compile(r"[A-Za-z0-9._-]+")
# How many changes of its assignment are known of a member. Presenting an older generation means joining again.
ASSIGNMENT_CHANGES_KEPT: Final = 50


class Protocol(IntEnum):
    """How a group hands partitions over; the numbers are stored. Contract: goqueue-messaging 7, 12."""

    EAGER = 1
    COOPERATIVE = 2

    @property
    def word(self) -> str:
        """The name that clients see."""
        return self.name.lower()


class GroupState(Enum):
    """How a group is; a group without members is dead. Contract: goqueue-messaging 7.2."""

    STABLE = "stable"
    REBALANCING = "rebalancing"
    DEAD = "dead"


class TopicPartition(Struct, frozen=True, order=True):
    """A partition by the name of its topic."""

    topic: str
    partition: int

    @property
    def label(self) -> str:
        """What clients of the eager protocol call it."""
        return label_of(self.topic, self.partition)


class JoinRequest(Struct, frozen=True, kw_only=True):
    """A member that joins. `member_id` is that of a member that joins anew; None elsewhere means the server's default."""

    client_id: str
    topics: Sequence[str]
    session_seconds: float | None = None
    member_id: str | None = None
    starts_latest: bool | None = None


class AssignmentChange(Struct, frozen=True, array_like=True):
    """What a member was assigned from `generation` on, as a digest."""

    generation: int
    digest: str


class MemberStatus(Struct, frozen=True, kw_only=True):
    """A member as it is. `topics` are those it subscribes to that still exist, in its order."""

    member_id: str
    client_id: str
    topics: Sequence[str]
    assigned: Sequence[TopicPartition]
    session_seconds: float
    joined_at: datetime
    seen_at: datetime


class GroupStatus(Struct, frozen=True, kw_only=True):
    """A group as it is; members in the order in which they joined."""

    id: int
    name: str
    state: GroupState
    protocol: Protocol
    generation: int
    members: Sequence[MemberStatus]
    created_at: datetime

    @property
    def topics(self) -> list[str]:
        """All that members subscribe to, sorted."""
        return sorted({topic for member in self.members for topic in member.topics})

    @property
    def leader_id(self) -> str | None:
        """The member that joined first."""
        return self.members[0].member_id if self.members else None

    def member(self, member_id: str) -> MemberStatus:
        """Return a member. Raises NotFound."""
        for member in self.members:
            if member.member_id == member_id:
                return member
        raise unknown_member()


class GroupSummary(Struct, frozen=True, kw_only=True):
    """A group in a list."""

    name: str
    state: GroupState
    generation: int
    members: int
    topics: Sequence[str]


class Membership(Struct, frozen=True, kw_only=True):
    """What a join is answered: the group as it was then, and which of its members joined."""

    member_id: str
    group: GroupStatus

    @property
    def me(self) -> MemberStatus:
        """The member that joined."""
        return self.group.member(self.member_id)

    @property
    def is_leader(self) -> bool:
        """Whether it is the longest-joined member."""
        return self.group.leader_id == self.member_id


class Heartbeat(Struct, frozen=True, kw_only=True):
    """What a heartbeat is answered. `topics` are those the member subscribes to, in its order."""

    rebalance_required: bool
    state: GroupState
    generation: int
    topics: Sequence[str]
    assigned: Sequence[TopicPartition]


def check_group_name(name: str) -> str:
    """Return `name` or raise BadRequest. Contract: goqueue-messaging 1.5."""
    if (
        not name
        or len(name) > limits.GROUP_NAME_CHARS_MAX
        or name in {".", ".."}
        or name.startswith("__")
        or _NAME.fullmatch(name) is None
    ):
        raise BadRequest(
            f"invalid group id: 1 to {limits.GROUP_NAME_CHARS_MAX} letters, digits, '.', '_' or '-',"
            " not beginning with '__'"
        )
    return name


def check_join(request: JoinRequest) -> list[str]:
    """Return the topics of `request`, each once, or raise BadRequest. Contract: goqueue-messaging 7.4."""
    if not request.client_id:
        raise BadRequest("client_id is required")
    if len(request.client_id) > limits.CLIENT_ID_CHARS_MAX or not request.client_id.isprintable():
        raise BadRequest(f"invalid client_id: 1 to {limits.CLIENT_ID_CHARS_MAX} printable characters")
    if not request.topics:
        raise BadRequest("at least one topic is required")
    topics = list(dict.fromkeys(request.topics))
    if len(topics) > limits.MEMBER_TOPICS_MAX:
        raise BadRequest(f"too many topics: {limits.MEMBER_TOPICS_MAX} at most")
    seconds = request.session_seconds
    if seconds is not None and not 0 < seconds <= limits.SESSION_SECONDS_MAX:
        raise BadRequest(f"invalid session_timeout: above 0, {limits.SESSION_SECONDS_MAX} seconds at most")
    return topics


def require_member_id(member_id: str) -> None:
    """Raise BadRequest unless a member is named."""
    if not member_id:
        raise BadRequest("member_id is required")


def check_generation(presented: int, current: int) -> None:
    """Raise Conflict for a generation that has not been yet. Contract: goqueue-messaging 7.5."""
    if presented > current:
        raise Conflict("stale generation (rebalance occurred)")


def needs_rejoin(changes: Sequence[AssignmentChange], presented: int) -> bool:
    """Tell whether a member's assignment differs from the one it had at the generation it presents.

    `changes` ascend. 0 is no generation but a sign of life; one that nothing is known of counts as different.
    Contract: goqueue-messaging 7.5.
    """
    if presented == 0:
        return False
    known = [change for change in changes if change.generation <= presented]
    return not known or known[-1].digest != changes[-1].digest


def with_assignment(
    changes: tuple[AssignmentChange, ...], generation: int, digest: str
) -> tuple[AssignmentChange, ...]:
    """Return `changes` with what is assigned from `generation` on; as they are when that is what it was before."""
    if changes and changes[-1].digest == digest:
        return changes
    return (*changes, AssignmentChange(generation, digest))[-ASSIGNMENT_CHANGES_KEPT:]


def state_of(members: Collection[object], *, is_rebalancing: bool) -> GroupState:
    """Return the state of a group with `members`."""
    if not members:
        return GroupState.DEAD
    return GroupState.REBALANCING if is_rebalancing else GroupState.STABLE


def unknown_group() -> NotFound:
    """Return the refusal of a group that nobody knows."""
    return NotFound("group not found")


def unknown_member() -> NotFound:
    """Return the refusal of a member that nobody knows."""
    return NotFound("member not found (may have been evicted)")
