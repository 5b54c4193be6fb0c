"""Messages that wait for their time. Contract: goqueue-messaging 6."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from millstream.api.goqueue import delayed_bodies as bodies
from millstream.api.goqueue.parameters import natural, topic_of, whole_number
from millstream.api.goqueue.words import PRIORITY_WORDS
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.http.router import UNDECODABLE
from millstream.api.http.timestamps import format_timestamp
from millstream.domain import limits
from millstream.domain.delayed_message import DelayedMessage
from millstream.domain.duration import format_duration, format_seconds
from millstream.domain.errors import BadRequest, NotFound, Unavailable
from millstream.engine.engine import Engine

_DEFAULT_MESSAGES: Final = 100
# Only what waits is listed.
_PENDING: Final = "pending"
_MICROSECOND: Final = timedelta(microseconds=1)
_encode = msgspec.json.Encoder().encode


class DelayedEndpoints:
    """`/topics/{topic}/delayed` and `/delay/stats`."""

    def __init__(self, engine: Engine) -> None:
        self._delayed = engine.delayed

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        path = "/topics/{topic}/delayed"
        return [
            Endpoint(
                method="GET",
                path=path,
                handler=self.list,
                summary="List messages that wait, the next due first",
                tag="delayed",
                query=(
                    Parameter(name="limit", description="1 to 1000; 100 for anything else."),
                    Parameter(name="skip", description="How many to leave out first; 0 for anything else."),
                ),
                answers={200: bodies.DelayedPage},
            ),
            Endpoint(
                method="GET",
                path=f"{path}/{{offset}}",
                handler=self.get,
                summary="Get a message that waits, in the lowest partition that has one at this offset",
                tag="delayed",
                query=(Parameter(name="partition", kind="integer", description="In this partition."),),
                answers={200: bodies.DelayedEntry},
                errors=(BadRequest, NotFound),
            ),
            Endpoint(
                method="DELETE",
                path=f"{path}/{{partition}}/{{offset}}",
                handler=self.cancel,
                summary="Hide a message that waits for good",
                tag="delayed",
                answers={200: bodies.DelayedCancelled},
                errors=(BadRequest, NotFound, Unavailable),
            ),
            Endpoint(
                method="GET",
                path="/delay/stats",
                handler=self.statistics,
                summary="Count messages that were published with a delay",
                tag="delayed",
                answers={200: bodies.DelayStatistics},
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List messages that wait."""
        query = Query(request.query_string)
        limit = whole_number(query.text("limit"))
        limit = _DEFAULT_MESSAGES if limit is None or limit <= 0 else min(limit, limits.READ_MESSAGES_MAX)
        skip = max(whole_number(query.text("skip")) or 0, 0)
        # A topic that is unknown, or cannot be, has none that wait.
        topic = request.parameters[0]
        found: Sequence[DelayedMessage] = ()
        if UNDECODABLE not in topic:
            found = await self._delayed.list(request.principal, topic, limit=limit, skip=skip)
        entries = [_entry(topic, message) for message in found]
        answer = bodies.DelayedPage(topic=topic, messages=entries, count=len(entries), limit=limit, skip=skip)
        return Response(200, _encode(answer))

    async def get(self, request: Request) -> Response:
        """Get a message that waits."""
        topic = topic_of(request)
        offset = natural(request.parameters[1], "invalid offset")
        partition = Query(request.query_string).text("partition")
        message = await self._delayed.get(
            request.principal,
            topic,
            offset,
            partition=None if partition is None else _partition(partition, "delayed message not found"),
        )
        return Response(200, _encode(_entry(topic, message)))

    async def cancel(self, request: Request) -> Response:
        """Hide a message that waits."""
        topic = topic_of(request)
        partition = _partition(request.parameters[1], "delayed message not found or already delivered")
        offset = natural(request.parameters[2], "invalid offset")
        await self._delayed.cancel(request.principal, topic, partition, offset)
        return Response(200, _encode(bodies.DelayedCancelled(topic, partition, offset)))

    async def statistics(self, request: Request) -> Response:
        """Count messages that were published with a delay."""
        counted = await self._delayed.statistics(request.principal)
        answer = bodies.DelayStatistics(
            pending_count=counted.pending,
            delivered_count=counted.delivered,
            cancelled_count=counted.cancelled,
            canceled_count=counted.cancelled,
            avg_delay=format_seconds(counted.average_delay_seconds),
            total_scheduled=counted.scheduled,
            total_delivered=counted.delivered,
            total_canceled=counted.cancelled,
            total_pending=counted.pending,
            by_topic=dict(counted.pending_by_topic),
        )
        return Response(200, _encode(answer))


def _partition(text: str, unknown: str) -> int:
    partition = natural(text, "invalid partition")
    if partition >= limits.PARTITIONS_MAX:
        raise NotFound(unknown)
    return partition


def _entry(topic: str, message: DelayedMessage) -> bodies.DelayedEntry:
    remaining = max(message.deliver_at - message.seen_at, timedelta(0))
    return bodies.DelayedEntry(
        topic=topic,
        partition=message.partition,
        offset=message.offset,
        deliver_at=format_timestamp(message.deliver_at),
        priority=PRIORITY_WORDS[message.priority],
        time_remaining=format_duration(remaining // _MICROSECOND * 1_000),
        state=_PENDING,
    )
