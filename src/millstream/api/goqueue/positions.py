"""How far groups are. Contract: goqueue-messaging 10."""

from typing import Final

import msgspec

from millstream.api.goqueue import delivery_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.groups import generation_of, member_id_of
from millstream.api.goqueue.parameters import (
    OFFSET_MAX,
    group_of,
    new_group_of,
    whole_number,
    zoned_timestamp,
)
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.timestamps import format_optional
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, BadRequest, Conflict, NotFound, Unavailable
from millstream.domain.group_position import (
    ALL_PARTITIONS,
    CommitRequest,
    PartitionOffset,
    ResetRequest,
    ResetStrategy,
)
from millstream.engine.engine import Engine

_COMMIT: Final = TopicBody(bodies.Commit)
_RESET: Final = TopicBody(bodies.Reset)
_STRATEGIES: Final = {strategy.value: strategy for strategy in ResetStrategy}
_QUOTED_CHARS_MAX: Final = 64
_encode = msgspec.json.Encoder().encode


class PositionEndpoints:
    """`/groups/{group}/offsets`."""

    def __init__(self, engine: Engine) -> None:
        self._positions = engine.positions

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        path = "/groups/{group}/offsets"
        return [
            Endpoint(
                method="GET",
                path=path,
                handler=self.list,
                summary="Tell the next offset to read, by topic and partition",
                tag="offsets",
                query=(Parameter(name="topic", description="Only this topic."),),
                answers={200: bodies.Positions},
            ),
            Endpoint(
                method="POST",
                path=path,
                handler=self.commit,
                summary="Settle all before some offsets",
                tag="offsets",
                body=_COMMIT,
                answers={200: bodies.Committed},
                errors=(BadRequest, AccessDenied, NotFound, Conflict, Unavailable),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/reset",
                handler=self.reset,
                summary="Set where a group goes on",
                tag="offsets",
                body=_RESET,
                answers={200: bodies.PositionsReset},
                errors=(BadRequest, NotFound, Unavailable),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """Tell how far a group is."""
        name = group_of(request)
        found = await self._positions.list(
            request.principal, name, Query(request.query_string).text("topic") or None
        )
        offsets = {
            topic: {str(partition): offset for partition, offset in sorted(of_topic.items())}
            for topic, of_topic in sorted(found.offsets.items())
        }
        answer = bodies.Positions(
            group_id=name,
            offsets=offsets,
            topics=offsets,
            generation=found.generation,
            updated_at=format_optional(found.updated_at),
        )
        return Response(200, _encode(answer))

    async def commit(self, request: Request) -> Response:
        """Settle all before some offsets."""
        body = _COMMIT.read(request.body)
        wish = CommitRequest(
            member_id=member_id_of(body.member_id),
            offsets=_places(body),
            generation=None if body.generation is None else generation_of(body.generation),
        )
        group = group_of(request)
        await self._positions.commit(request.principal, group, wish)
        echo: dict[str, dict[str, int]] = {}
        for place in wish.offsets:
            echo.setdefault(place.topic, {})[str(place.partition)] = place.offset
        return Response(200, _encode(bodies.Committed(group=group, offsets=echo)))

    async def reset(self, request: Request) -> Response:
        """Set where a group goes on."""
        wish = _reset_request(_RESET.read(request.body))
        group = new_group_of(request)
        moved = await self._positions.reset(request.principal, group, wish)
        places = [bodies.NewPosition(one.topic, one.partition, one.offset) for one in moved]
        return Response(200, _encode(bodies.PositionsReset(group, len(places), places)))


def _places(body: bodies.Commit) -> list[PartitionOffset]:
    """Return where to commit. Raises BadRequest, AccessDenied. Contract: goqueue-messaging 10.2."""
    places: dict[tuple[str, int], int] = {}
    if isinstance(body.offsets, list):
        for place in body.offsets:
            places[place.topic, place.partition] = place.offset
    elif body.offsets is not None:
        for topic, of_topic in body.offsets.items():
            for text, offset in of_topic.items():
                places[topic, _partition(text)] = offset
    if not places:
        raise BadRequest("offsets are required")
    if any(not 0 <= offset <= OFFSET_MAX for offset in places.values()):
        raise BadRequest("invalid offset: must be 0 or more")
    if any(not 0 <= partition < limits.PARTITIONS_MAX for _, partition in places):
        # There is no such partition, so nobody can own it.
        raise AccessDenied("partition not assigned to this member")
    return [PartitionOffset(topic, partition, offset) for (topic, partition), offset in places.items()]


def _partition(text: str) -> int:
    partition = whole_number(text)
    if partition is None:
        raise BadRequest(f"invalid partition: {text[:_QUOTED_CHARS_MAX]}")
    return partition


def _reset_request(body: bodies.Reset) -> ResetRequest:
    """Return what a body asks for. Raises BadRequest, NotFound. Contract: goqueue-messaging 10.3."""
    if not body.topic:
        raise BadRequest("topic is required")
    strategy = _STRATEGIES.get(body.strategy or "")
    if strategy is None:
        raise BadRequest(f"invalid strategy: must be one of {', '.join(_STRATEGIES)}")
    timestamp = zoned_timestamp(body.timestamp or "")
    if strategy is ResetStrategy.TIMESTAMP and timestamp is None:
        raise BadRequest("timestamp is required, in RFC 3339")
    if strategy is ResetStrategy.OFFSET and (body.offset is None or not 0 <= body.offset <= OFFSET_MAX):
        raise BadRequest("offset is required, 0 or more")
    # A client that means the first partition leaves it out.
    partition = body.partition or 0
    if not ALL_PARTITIONS <= partition < limits.PARTITIONS_MAX:
        raise NotFound("partition not found")
    return ResetRequest(
        topic=body.topic,
        strategy=strategy,
        partition=partition,
        timestamp=timestamp,
        offset=body.offset if strategy is ResetStrategy.OFFSET else None,
        dry_run=body.dry_run or False,
    )
