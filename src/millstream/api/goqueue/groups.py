"""Consumer groups. Contract: goqueue-messaging 7."""

from collections.abc import Sequence
from typing import Final

import msgspec

from millstream.api.goqueue import group_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.parameters import group_of, new_group_of, seconds_of
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_timestamp
from millstream.domain.consumer_group import (
    GroupStatus,
    GroupSummary,
    JoinRequest,
    Membership,
    MemberStatus,
    TopicPartition,
)
from millstream.domain.duration import format_seconds
from millstream.domain.errors import BadRequest, Conflict, NotFound, Unavailable
from millstream.engine.engine import Engine

_JOIN: Final = TopicBody(bodies.Join)
_MEMBER_CALL: Final = TopicBody(bodies.MemberCall)
_GENERATION_MAX: Final = 2**31 - 1
_STARTS: Final = {"earliest": False, "latest": True}
_LEFT: Final = msgspec.json.encode(bodies.Left())
_encode = msgspec.json.Encoder().encode


class GroupEndpoints:
    """`/groups`."""

    def __init__(self, engine: Engine) -> None:
        self._groups = engine.groups

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        group = "/groups/{group}"
        return [
            Endpoint(
                method="GET",
                path="/groups",
                handler=self.list,
                summary="List consumer groups by name",
                tag="groups",
                answers={200: bodies.Groups},
            ),
            Endpoint(
                method="GET",
                path=group,
                handler=self.get,
                summary="Get a group and what its members consume",
                tag="groups",
                answers={200: bodies.GroupDetails},
                errors=(NotFound,),
            ),
            Endpoint(
                method="DELETE",
                path=group,
                handler=self.delete,
                summary="Delete a group with its positions",
                tag="groups",
                answers={200: bodies.GroupDeleted},
                errors=(NotFound, Unavailable),
            ),
            Endpoint(
                method="POST",
                path=f"{group}/join",
                handler=self.join,
                summary="Become a member, and learn what to consume",
                tag="groups",
                body=_JOIN,
                answers={200: bodies.Joined},
                errors=(BadRequest, NotFound, Conflict, Unavailable),
            ),
            Endpoint(
                method="POST",
                path=f"{group}/heartbeat",
                handler=self.heartbeat,
                summary="Stay a member, and learn whether the assignment changed",
                tag="groups",
                body=_MEMBER_CALL,
                answers={200: bodies.Beat},
                errors=(BadRequest, NotFound, Conflict, Unavailable),
            ),
            Endpoint(
                method="POST",
                path=f"{group}/leave",
                handler=self.leave,
                summary="Stop being a member",
                tag="groups",
                body=_MEMBER_CALL,
                answers={200: bodies.Left},
                errors=(BadRequest, NotFound, Unavailable),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List groups."""
        summaries = await self._groups.list_details(request.principal)
        answer = bodies.Groups(
            [summary.name for summary in summaries], [_summary(summary) for summary in summaries]
        )
        return Response(200, _encode(answer))

    async def get(self, request: Request) -> Response:
        """Get a group."""
        group = await self._groups.get(request.principal, group_of(request))
        return Response(200, _encode(group_details(group)))

    async def delete(self, request: Request) -> Response:
        """Delete a group."""
        name = group_of(request)
        await self._groups.delete(request.principal, name)
        return Response(200, _encode(bodies.GroupDeleted(group=name, group_id=name)))

    async def join(self, request: Request) -> Response:
        """Become a member."""
        wish = join_request(_JOIN.read(request.body))
        membership = await self._groups.join(request.principal, new_group_of(request), wish)
        return Response(200, _encode(joined(membership)))

    async def heartbeat(self, request: Request) -> Response:
        """Stay a member."""
        body = _MEMBER_CALL.read(request.body)
        beat = await self._groups.heartbeat(
            request.principal, group_of(request), member_id_of(body.member_id), generation_of(body.generation)
        )
        answer = bodies.Beat(
            rebalance_required=beat.rebalance_required,
            state=beat.state.value,
            generation=beat.generation,
            assigned_partitions=[partition.label for partition in beat.assigned],
            partitions=_partitions(beat.topics, beat.assigned),
        )
        return Response(200, _encode(answer))

    async def leave(self, request: Request) -> Response:
        """Stop being a member."""
        body = _MEMBER_CALL.read(request.body)
        await self._groups.leave(request.principal, group_of(request), member_id_of(body.member_id))
        return Response(200, _LEFT)


def member_id_of(given: str | None) -> str:
    """Return the member that a body names. Raises BadRequest without one."""
    if not given:
        raise BadRequest("member_id is required")
    return given


def generation_of(given: int | None) -> int:
    """Return the generation that a body names, 0 for none; one that cannot be stays ahead of all."""
    return min(max(given or 0, 0), _GENERATION_MAX)


def join_request(body: bodies.Join) -> JoinRequest:
    """Return what a body asks for. Raises BadRequest for what it cannot ask for. Contract: goqueue-messaging 7.4."""
    if not body.client_id:
        raise BadRequest("client_id is required")
    starts_latest = None
    if body.auto_offset_reset is not None:
        starts_latest = _STARTS.get(body.auto_offset_reset)
        if starts_latest is None:
            raise BadRequest("invalid auto_offset_reset: must be one of earliest, latest")
    return JoinRequest(
        client_id=body.client_id,
        topics=body.topics or (),
        session_seconds=None
        if body.session_timeout is None
        else seconds_of(body.session_timeout, "invalid session_timeout format"),
        member_id=body.member_id or None,
        starts_latest=starts_latest,
    )


def joined(membership: Membership) -> bodies.Joined:
    """Return what whoever joined is told."""
    group = membership.group
    me = membership.me
    return bodies.Joined(
        member_id=membership.member_id,
        generation=group.generation,
        leader=membership.is_leader,
        leader_id=group.leader_id or "",
        assigned_partitions=[partition.label for partition in me.assigned],
        rebalance_required=False,
        partitions=_partitions(me.topics, me.assigned),
        members=[member.member_id for member in group.members],
        session_timeout=format_seconds(me.session_seconds),
        protocol=group.protocol.word,
        state=group.state.value,
    )


def group_details(group: GroupStatus) -> bodies.GroupDetails:
    """Return a group as clients see it. Contract: goqueue-messaging 7.2."""
    return bodies.GroupDetails(
        group_id=group.name,
        id=group.name,
        state=group.state.value,
        generation=group.generation,
        protocol=group.protocol.word,
        topics=group.topics,
        members=[_member(member) for member in group.members],
        created_at=format_timestamp(group.created_at),
    )


def _member(member: MemberStatus) -> bodies.GroupMember:
    return bodies.GroupMember(
        member_id=member.member_id,
        id=member.member_id,
        client_id=member.client_id,
        assigned_partitions=[partition.label for partition in member.assigned],
        partitions=_partitions(member.topics, member.assigned),
        last_heartbeat=format_timestamp(member.seen_at),
        joined_at=format_timestamp(member.joined_at),
        topics=list(member.topics),
        session_timeout=format_seconds(member.session_seconds),
    )


def _summary(summary: GroupSummary) -> bodies.GroupSummary:
    return bodies.GroupSummary(
        id=summary.name,
        state=summary.state.value,
        members=summary.members,
        generation=summary.generation,
        topics=list(summary.topics),
    )


def _partitions(topics: Sequence[str], assigned: Sequence[TopicPartition]) -> list[int]:
    """Return the partitions of the first topic, all that clients of one topic look at."""
    return [one.partition for one in assigned if topics and one.topic == topics[0]]
