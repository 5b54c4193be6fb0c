"""Polling as a member of a group. Contract: goqueue-messaging 8."""

from functools import partial

import msgspec
from msgspec import UNSET

from millstream.api.goqueue.delivery_bodies import PolledMessage, PolledMessages
from millstream.api.goqueue.groups import generation_of
from millstream.api.goqueue.parameters import group_of, page_size, seconds_of, whole_number
from millstream.api.goqueue.words import PRIORITY_WORDS, StampWriter
from millstream.api.http.disconnect import unless_disconnected
from millstream.api.http.endpoint import Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.domain import limits
from millstream.domain.delivery import Polled, PollRequest
from millstream.domain.errors import BadRequest, Conflict, NotFound, Unavailable
from millstream.engine.engine import Engine

_encode = msgspec.json.Encoder().encode


class PollingEndpoints:
    """`GET /groups/{group}/poll`."""

    def __init__(self, engine: Engine) -> None:
        self._polling = engine.polling
        self._settings = engine.topic_settings

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/groups/{group}/poll",
                handler=self.poll,
                summary="Lease messages, waiting for the first if there is none",
                tag="groups",
                query=(
                    Parameter(name="member_id", description="Who asks.", required=True),
                    Parameter(name="max_messages", kind="integer", description="1 to 1000; 100 by default."),
                    Parameter(name="limit", kind="integer", description="The same."),
                    Parameter(
                        name="timeout", description="How long to wait: `30s`, the default; at most 28 s."
                    ),
                    Parameter(
                        name="generation", kind="integer", description="The one that the member knows."
                    ),
                ),
                answers={200: PolledMessages},
                errors=(BadRequest, NotFound, Conflict, Unavailable),
                hot=True,
                has_effects=True,
            )
        ]

    async def poll(self, request: Request) -> Response:
        """Lease messages; a client that goes away before its answer leases none."""
        query = Query(request.query_string)
        member_id = query.text("member_id")
        if not member_id:
            raise BadRequest("member_id query param is required")
        wish = PollRequest(
            member_id=member_id,
            max_messages=page_size(
                query,
                "limit" if query.text("max_messages") is None else "max_messages",
                self._settings.poll_messages,
                limits.READ_MESSAGES_MAX,
                "invalid max_messages",
            ),
            wait_seconds=_wait_seconds(query, self._settings.poll_wait_seconds),
            generation=_generation(query),
        )
        polling = self._polling.poll(request.principal, group_of(request), wish)
        polled = await (unless_disconnected(request.receive, polling) if wish.wait_seconds else polling)
        undelivered = partial(self._polling.give_back, request.principal, polled) if polled.messages else None
        return Response(200, encode_polled(polled), undelivered=undelivered)


def encode_polled(polled: Polled) -> bytes:
    """Return the body of what was handed out."""
    words = PRIORITY_WORDS
    stamp = StampWriter().text_of
    messages = [
        PolledMessage(
            message.topic,
            message.partition,
            message.offset,
            message.value,
            stamp(message.published_at),
            message.receipt,
            words[message.priority],
            message.delivery_count,
            stamp(message.deadline),
            UNSET if message.key is None else message.key,
            UNSET if message.headers is None else message.headers,
        )
        for message in polled.messages
    ]
    return _encode(PolledMessages(messages, polled.generation, polled.rebalance_required))


def _wait_seconds(query: Query, default: float) -> float:
    text = query.text("timeout")
    if text is None:
        return default
    return max(seconds_of(text, f"invalid timeout format: {text}"), 0.0)


def _generation(query: Query) -> int | None:
    text = query.text("generation")
    if text is None:
        return None
    generation = whole_number(text)
    if generation is None:
        raise BadRequest("invalid generation")
    return generation_of(generation)
