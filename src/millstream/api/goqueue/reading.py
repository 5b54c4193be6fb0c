"""Reading a partition without a group. Contract: goqueue-messaging 5."""

from typing import Final

import msgspec
from msgspec import UNSET

from millstream.api.goqueue.message_bodies import ReadMessage, ReadPage
from millstream.api.goqueue.parameters import (
    natural,
    optional_natural,
    page_size,
    point_in_time,
    seconds_of,
    topic_of,
)
from millstream.api.goqueue.words import PRIORITY_WORDS, StampWriter
from millstream.api.http.disconnect import unless_disconnected
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.domain import limits
from millstream.domain.errors import BadRequest, NotFound, Unavailable
from millstream.domain.message import Page, ReadRequest
from millstream.engine.engine import Engine

_DEFAULT_MESSAGES: Final = 100
_ORDERS: Final = {"priority": True, "offset": False}
_encode = msgspec.json.Encoder().encode


class ReadingEndpoints:
    """`GET /topics/{topic}/partitions/{partition}/messages`."""

    def __init__(self, engine: Engine) -> None:
        self._reading = engine.reading

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/topics/{topic}/partitions/{partition}/messages",
                handler=self.read,
                summary="Read messages of a partition, from an offset on",
                tag="messages",
                query=(
                    Parameter(name="offset", kind="integer", description="Where to begin; 0 by default."),
                    Parameter(name="limit", kind="integer", description="1 to 1000; 100 by default."),
                    Parameter(name="order", description="`priority` within the page, or `offset`."),
                    Parameter(name="from_time", description="RFC 3339 or milliseconds since 1970."),
                    Parameter(name="to_time", description="RFC 3339 or milliseconds since 1970."),
                    Parameter(name="wait", description="Hold an empty page so long: `10s`."),
                    Parameter(name="wait_ms", kind="integer", description="The same in milliseconds."),
                ),
                answers={200: ReadPage},
                errors=(BadRequest, NotFound, Unavailable),
                hot=True,
            )
        ]

    async def read(self, request: Request) -> Response:
        """Read messages."""
        topic = topic_of(request)
        partition = natural(request.parameters[1], "invalid partition ID")
        if partition >= limits.PARTITIONS_MAX:
            raise NotFound("partition not found")
        query = Query(request.query_string)
        wish = ReadRequest(
            offset=optional_natural(query, "offset", 0, "invalid offset"),
            limit=page_size(
                query,
                "max" if query.text("limit") is None else "limit",
                _DEFAULT_MESSAGES,
                limits.READ_MESSAGES_MAX,
                "invalid limit",
            ),
            by_priority=_is_by_priority(query.text("order")),
            from_time=point_in_time(query.text("from_time"), "invalid from_time"),
            to_time=point_in_time(query.text("to_time"), "invalid to_time"),
            wait_seconds=_wait_seconds(query),
        )
        reading = self._reading.read(request.principal, topic, partition, wish)
        page = await (unless_disconnected(request.receive, reading) if wish.wait_seconds else reading)
        return Response(200, encode_page(topic, page))


def encode_page(topic: str, page: Page) -> bytes:
    """Return the body of a page."""
    words = PRIORITY_WORDS
    stamp = StampWriter().text_of
    messages = [
        ReadMessage(
            topic,
            message.partition,
            message.offset,
            stamp(message.published_at),
            message.value,
            words[message.priority],
            UNSET if message.key is None else message.key,
            UNSET if message.headers is None else message.headers,
        )
        for message in page.messages
    ]
    pending = UNSET if page.pending_delayed_from is None else page.pending_delayed_from
    return _encode(ReadPage(messages, page.next_offset, pending))


def _is_by_priority(order: str | None) -> bool:
    by_priority = _ORDERS.get(order or "priority")
    if by_priority is None:
        raise BadRequest("invalid order: must be one of priority, offset")
    return by_priority


def _wait_seconds(query: Query) -> float:
    text = query.text("wait")
    if text is None:
        milliseconds = optional_natural(query, "wait_ms", 0, "invalid wait_ms")
        seconds = milliseconds / 1000
    else:
        seconds = seconds_of(text, f"invalid wait format: {text}")
    return min(max(seconds, 0.0), limits.POLL_WAIT_SECONDS_MAX)
