"""How far groups are. Contract: goqueue-messaging 10."""

from typing import Final

import msgspec

from millstream.api.goqueue import delivery_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.groups import member_id_of
from millstream.api.goqueue.parameters import OFFSET_MAX, group_of, whole_number, zoned_timestamp
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.timestamps import format_optional
from millstream.domain.errors import AccessDenied, BadRequest, Conflict, NotFound, Unavailable
from millstream.engine.engine import Engine

_COMMIT: Final = TopicBody(bodies.Commit)
_RESET: Final = TopicBody(bodies.Reset)
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
        member_id = member_id_of(body.member_id)
        offsets = _commit_offsets(body)
        group = group_of(request)
        await self._positions.commit(request.principal, group, member_id, offsets, generation=body.generation)
        echo = {
            topic: {str(partition): offset for partition, offset in of_topic.items()}
            for topic, of_topic in offsets.items()
        }
        return Response(200, _encode(bodies.Committed(group=group, offsets=echo)))

    async def reset(self, request: Request) -> Response:
        """Set where a group goes on."""
        group = group_of(request)
        moved = await self._positions.reset(
            request.principal, group, _reset_request(_RESET.read(request.body))
        )
        places = [bodies.NewPosition(one.topic, one.partition, one.offset) for one in moved]
        return Response(200, _encode(bodies.PositionsReset(group, len(places), places)))


def _commit_offsets(body: bodies.Commit) -> dict[str, dict[int, int]]:
    """Return positions by topic and partition. Raises BadRequest. Contract: goqueue-messaging 10.2."""
    offsets: dict[str, dict[int, int]] = {}
    if isinstance(body.offsets, list):
        for place in body.offsets:
            offsets.setdefault(place.topic, {})[place.partition] = place.offset
    elif body.offsets is not None:
        for topic, of_topic in body.offsets.items():
            offsets[topic] = {_partition(text): offset for text, offset in of_topic.items()}
    places = [place for of_topic in offsets.values() for place in of_topic.items()]
    if not places:
        raise BadRequest("offsets are required")
    if any(not 0 <= offset <= OFFSET_MAX for _, offset in places):
        raise BadRequest("invalid offset: must be 0 or more")
    return offsets


def _partition(text: str) -> int:
    partition = whole_number(text)
    if partition is None:
        raise BadRequest(f"invalid partition: {text[:64]}")
    return partition
