"""What is said and answered of consumer groups. Contract: goqueue-messaging 7."""

from typing import Literal

from msgspec import Struct


class Join(Struct, frozen=True, kw_only=True):
    """A member to be; `member_id` is one that it had before."""

    client_id: str | None = None
    topics: list[str] | None = None
    session_timeout: str | None = None
    member_id: str | None = None
    auto_offset_reset: str | None = None
    protocol: str | None = None


class Joined(Struct, frozen=True, kw_only=True):
    """What a member is told when it has joined."""

    member_id: str
    generation: int
    leader: bool
    leader_id: str
    assigned_partitions: list[str]
    rebalance_required: bool
    partitions: list[int]
    members: list[str]
    session_timeout: str
    protocol: str
    state: str


class MemberCall(Struct, frozen=True, kw_only=True):
    """Who calls, and the generation it knows (0: none)."""

    member_id: str | None = None
    generation: int | None = None


class Beat(Struct, frozen=True, kw_only=True):
    """What a member is told of itself."""

    rebalance_required: bool
    state: str
    generation: int
    assigned_partitions: list[str]
    partitions: list[int]
    status: Literal["ok"] = "ok"


class Left(Struct, frozen=True):
    """That a member has left."""

    left: Literal[True] = True
    status: Literal["left"] = "left"


class GroupSummary(Struct, frozen=True, kw_only=True):
    """A group in a list."""

    id: str
    state: str
    members: int
    generation: int
    topics: list[str]


class Groups(Struct, frozen=True):
    """All groups, by name and with their details."""

    groups: list[str]
    group_details: list[GroupSummary]


class GroupMember(Struct, frozen=True, kw_only=True):
    """A member of a group and what it is to consume."""

    member_id: str
    id: str
    client_id: str
    assigned_partitions: list[str]
    partitions: list[int]
    last_heartbeat: str
    joined_at: str
    topics: list[str]
    session_timeout: str


class GroupDetails(Struct, frozen=True, kw_only=True):
    """A group and its members."""

    group_id: str
    id: str
    state: str
    generation: int
    protocol: str
    topics: list[str]
    members: list[GroupMember]
    created_at: str


class GroupDeleted(Struct, frozen=True, kw_only=True):
    """What was deleted."""

    group: str
    group_id: str
    deleted: Literal[True] = True
