"""How far groups are. Contract: goqueue-messaging 10."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from millstream.api.goqueue import delivery_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.groups import member_id_of
from millstream.api.goqueue.parameters import OFFSET_MAX, whole_number, zoned_timestamp
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
