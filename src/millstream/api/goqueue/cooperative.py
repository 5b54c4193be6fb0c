"""The cooperative protocol. Contract: goqueue-messaging 12."""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from millstream.api.goqueue import cooperative_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.group_bodies import Join, Left, MemberCall
from millstream.api.goqueue.groups import generation_of, group_details, join_request, joined, member_id_of
from millstream.api.goqueue.parameters import group_of, new_group_of
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.timestamps import format_timestamp
from millstream.domain.consumer_group import Protocol, TopicPartition
from millstream.domain.errors import BadRequest, Conflict, NotFound, Unavailable
from millstream.domain.rebalance import RebalanceStatistics
from millstream.engine.cooperative import CooperativeStatus
from millstream.engine.engine import Engine

_JOIN: Final = TopicBody(Join)
_MEMBER_CALL: Final = TopicBody(MemberCall)
_REVOKE: Final = TopicBody(bodies.Revoke)
_PROTOCOLS: Final = {protocol.word: protocol for protocol in Protocol}
_STRATEGY: Final = "sticky"
_LEFT: Final = msgspec.json.encode(Left())
_encode = msgspec.json.Encoder().encode


class CooperativeEndpoints:
    """What members of cooperative groups call, and what is told of rebalances."""

    def __init__(self, engine: Engine) -> None:
        self._groups = engine.groups
        self._cooperative = engine.cooperative

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [*self._members(), *self._observers()]

    def _members(self) -> list[Endpoint]:
        group = "/groups/{group}"
        errors = (BadRequest, NotFound, Conflict, Unavailable)
        return [
            Endpoint(
                method="POST",
                path=f"{group}/join/cooperative",
                handler=self.join,
                summary="Become a member whose partitions move one by one",
                tag="cooperative",
                body=_JOIN,
                answers={200: bodies.CooperativeJoined},
                errors=errors,
            ),
            Endpoint(
                method="POST",
                path=f"{group}/heartbeat/cooperative",
                handler=self.heartbeat,
                summary="Stay a member, and learn what to give up or what to consume",
                tag="cooperative",
                body=_MEMBER_CALL,
                answers={200: bodies.CooperativeBeat},
                errors=errors,
            ),
            Endpoint(
                method="POST",
                path=f"{group}/revoke",
                handler=self.revoke,
                summary="Give up partitions",
                tag="cooperative",
                body=_REVOKE,
                answers={200: bodies.Revoked},
                errors=errors,
            ),
            Endpoint(
                method="POST",
                path=f"{group}/leave/cooperative",
                handler=self.leave,
                summary="Stop being a member",
                tag="cooperative",
                body=_MEMBER_CALL,
                answers={200: Left},
                errors=errors,
            ),
        ]

    def _observers(self) -> list[Endpoint]:
        group = "/groups/{group}"
        return [
            Endpoint(
                method="GET",
                path=f"{group}/assignment",
                handler=self.assignment,
                summary="Tell what a member is to consume",
                tag="cooperative",
                query=(Parameter(name="member_id", description="Whose.", required=True),),
                answers={200: bodies.Assignment},
                errors=(BadRequest, NotFound),
            ),
            Endpoint(
                method="GET",
                path=f"{group}/cooperative",
                handler=self.get,
                summary="Get a group and how far its rebalance is",
                tag="cooperative",
                # A group of the other protocol is answered as that tells of it.
                answers={200: dict[str, msgspec.Raw]},
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                path=f"{group}/rebalance/stats",
                handler=self.group_statistics,
                summary="Tell how a group was rebalanced",
                tag="cooperative",
                answers={200: bodies.RebalanceStatistics},
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                path="/rebalance/stats",
                handler=self.statistics,
                summary="Tell how groups were rebalanced",
                tag="cooperative",
                answers={200: bodies.RebalanceStatistics},
            ),
        ]

    async def join(self, request: Request) -> Response:
        """Become a member, on the protocol that is asked for."""
        body = _JOIN.read(request.body)
        protocol = _PROTOCOLS.get(body.protocol or Protocol.COOPERATIVE.word)
        if protocol is None:
            raise BadRequest(f"invalid protocol: must be one of {', '.join(_PROTOCOLS)}")
        name = new_group_of(request)
        wish = join_request(body)
        if protocol is Protocol.EAGER:
            return Response(200, _encode(joined(await self._groups.join(request.principal, name, wish))))
        membership = await self._cooperative.join(request.principal, name, wish)
        group = membership.group
        answer = bodies.CooperativeJoined(
            member_id=membership.member_id,
            generation=group.generation,
            leader_id=group.leader_id or "",
            members=[member.member_id for member in group.members],
        )
        return Response(200, _encode(answer))

    async def heartbeat(self, request: Request) -> Response:
        """Stay a member."""
        body = _MEMBER_CALL.read(request.body)
        beat = await self._cooperative.heartbeat(
            request.principal, group_of(request), member_id_of(body.member_id), generation_of(body.generation)
        )
        deadline = beat.revocation_deadline
        answer = bodies.CooperativeBeat(
            rebalance_required=beat.rebalance_required,
            generation=beat.generation,
            protocol=beat.protocol.word,
            state=beat.state.value,
            partitions_to_revoke=UNSET if beat.to_revoke is None else _partitions(beat.to_revoke),
            partitions_assigned=UNSET if beat.assigned is None else _partitions(beat.assigned),
            revocation_deadline=UNSET if deadline is None else format_timestamp(deadline),
        )
        return Response(200, _encode(answer))

    async def revoke(self, request: Request) -> Response:
        """Give up partitions."""
        body = _REVOKE.read(request.body)
        given = [TopicPartition(one.topic, one.partition) for one in body.revoked_partitions or ()]
        revocation = await self._cooperative.revoke(
            request.principal,
            group_of(request),
            member_id_of(body.member_id),
            generation_of(body.generation),
            given,
        )
        answer = bodies.Revoked(pending_count=revocation.pending, rebalance_state=revocation.state.value)
        return Response(200, _encode(answer))

    async def leave(self, request: Request) -> Response:
        """Stop being a member."""
        body = _MEMBER_CALL.read(request.body)
        await self._groups.leave(request.principal, group_of(request), member_id_of(body.member_id))
        return Response(200, _LEFT)

    async def assignment(self, request: Request) -> Response:
        """Tell what a member is to consume."""
        member_id = Query(request.query_string).text("member_id")
        generation, member = await self._cooperative.get_assignment(
            request.principal, group_of(request), member_id_of(member_id)
        )
        answer = bodies.Assignment(
            member_id=member.member_id, generation=generation, partitions=_partitions(member.assigned)
        )
        return Response(200, _encode(answer))

    async def get(self, request: Request) -> Response:
        """Get a group; one of the other protocol as that tells of it."""
        status = await self._cooperative.get(request.principal, group_of(request))
        if status.group.protocol is Protocol.EAGER:
            return Response(200, _encode(group_details(status.group)))
        return Response(200, _encode(_cooperative_group(status)))

    async def group_statistics(self, request: Request) -> Response:
        """Tell how a group was rebalanced."""
        counted = await self._cooperative.statistics(request.principal, group_of(request))
        return Response(200, _encode(_statistics(counted)))

    async def statistics(self, request: Request) -> Response:
        """Tell how all groups were rebalanced."""
        return Response(200, _encode(_statistics(await self._cooperative.statistics(request.principal))))


def _partitions(partitions: Sequence[TopicPartition]) -> list[bodies.TopicPartition]:
    return [bodies.TopicPartition(one.topic, one.partition) for one in partitions]


def _cooperative_group(status: CooperativeStatus) -> bodies.CooperativeGroup:
    group = status.group
    return bodies.CooperativeGroup(
        id=group.name,
        state=group.state.value,
        generation=group.generation,
        protocol=group.protocol.word,
        assignment_strategy=_STRATEGY,
        rebalance_state=status.rebalance_state.value,
        topics=group.topics,
        members=[
            bodies.CooperativeMember(
                id=member.member_id,
                client_id=member.client_id,
                assigned_partitions=_partitions(member.assigned),
                last_heartbeat=format_timestamp(member.seen_at),
                joined_at=format_timestamp(member.joined_at),
            )
            for member in group.members
        ],
        member_assignments={member.member_id: _partitions(member.assigned) for member in group.members},
        rebalance_metrics=_statistics(status.statistics),
    )


def _statistics(counted: RebalanceStatistics) -> bodies.RebalanceStatistics:
    return bodies.RebalanceStatistics(
        total_rebalances=counted.total,
        successful_rebalances=counted.successful,
        failed_rebalances=counted.failed,
        total_partitions_revoked=counted.partitions_revoked,
        total_partitions_assigned=counted.partitions_assigned,
        total_revocation_timeouts=counted.revocation_timeouts,
        last_rebalance_duration_ms=round(counted.last_duration_ms),
        average_rebalance_duration_ms=round(counted.average_duration_ms),
        rebalances_by_reason=counted.by_reason,
        last_rebalance_at=UNSET if counted.last_at is None else format_timestamp(counted.last_at),
    )
