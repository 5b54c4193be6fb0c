"""Publishing. Contract: goqueue-messaging 4."""

import json
from collections.abc import Sequence
from typing import Final, NoReturn

import msgspec

from millstream.api.goqueue.bodies import TopicBody, described
from millstream.api.goqueue.message_bodies import Publish, Published, PublishMessage, PublishResult
from millstream.api.goqueue.parameters import topic_of, zoned_timestamp
from millstream.api.goqueue.words import PRIORITY_WORDS
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_timestamp
from millstream.domain import limits
from millstream.domain.duration import parse_seconds
from millstream.domain.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, Unavailable
from millstream.domain.message import NewMessage, PublishedMessage, RefusedMessage
from millstream.domain.topic import PRIORITIES, Priority
from millstream.engine.engine import Engine

_encode = msgspec.json.Encoder().encode

_PRIORITY_NUMBERS: Final = {int(priority): priority for priority in Priority}
_NO_PLACE: Final = -1
_QUOTED_CHARS_MAX: Final = 64
_IDEMPOTENCY_KEY: Final = b"idempotency-key"

_NO_VALUE: Final = RefusedMessage("value is required")
_BAD_PRIORITY: Final = RefusedMessage(
    f"invalid priority: must be one of {', '.join(PRIORITY_WORDS.values())}"
)


class PublishBody(TopicBody[Publish]):
    """Messages, of which those with a lone surrogate are left to be refused by themselves, not with all others."""

    def __init__(self) -> None:
        super().__init__(Publish, with_nul=True)

    def read(self, data: bytes) -> Publish:
        """Return the messages. Raises BadRequest for what is not JSON or has a field of another type."""
        try:
            return super().read(data)
        except BadRequest:
            # The decoder refuses the whole body for a surrogate that stands alone.
            if b"\\ud" not in data and b"\\uD" not in data:
                raise
        try:
            value: object = json.loads(data.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise BadRequest("invalid JSON: it is malformed") from None
        try:
            return msgspec.convert(value, Publish, strict=True)
        except msgspec.ValidationError as error:
            raise BadRequest(f"invalid JSON: {described(error)}") from None
        except UnicodeEncodeError:
            # It is a name, or stands where something else than a text belongs.
            raise BadRequest("invalid JSON: half of a surrogate pair outside of a text") from None


_BODY: Final = PublishBody()


class PublishingEndpoints:
    """`POST /topics/{topic}/messages`."""

    def __init__(self, engine: Engine) -> None:
        self._publishing = engine.publishing

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="POST",
                path="/topics/{topic}/messages",
                handler=self.publish,
                summary="Publish messages, each accepted or refused by itself",
                tag="messages",
                body=_BODY,
                answers={200: Published},
                errors=(BadRequest, NotFound, Conflict, PayloadTooLarge, Unavailable),
                hot=True,
                body_bytes_max=limits.PUBLISH_BODY_BYTES_MAX,
            )
        ]

    async def publish(self, request: Request) -> Response:
        """Publish messages."""
        given = _BODY.read(request.body).messages or ()
        results = await self._publishing.publish(
            request.principal,
            topic_of(request),
            new_messages(given),
            idempotency_key=_idempotency_key(request),
        )
        return Response(200, encode_results(results))


def new_messages(given: Sequence[PublishMessage]) -> list[NewMessage | RefusedMessage]:
    """Return each message as it is to be published, or why it is not. Contract: goqueue-messaging 4.1."""
    return [
        NewMessage(message.value, message.key or None, message.partition)
        if message.value is not None
        and message.priority is None
        and message.headers is None
        and message.delay is None
        and message.deliverAt is None
        and message.deliver_at is None
        else _checked(message)
        for message in given
    ]


def encode_results(results: Sequence[PublishedMessage | RefusedMessage]) -> bytes:
    """Return the body that tells what became of each message. Contract: goqueue-messaging 4.3."""
    words = PRIORITY_WORDS
    answers: list[PublishResult] = []
    append = answers.append
    for result in results:
        if isinstance(result, RefusedMessage):
            append(PublishResult(_NO_PLACE, _NO_PLACE, error=result.error))
        elif result.deliver_at is None:
            append(PublishResult(result.partition, result.offset, words[result.priority]))
        else:
            append(
                PublishResult(
                    result.partition,
                    result.offset,
                    words[result.priority],
                    True,
                    format_timestamp(result.deliver_at),
                )
            )
    return _encode(Published(answers))


def _checked(message: PublishMessage) -> NewMessage | RefusedMessage:
    if message.value is None:
        return _NO_VALUE
    priority = _priority_of(message.priority)
    if priority is None:
        return _BAD_PRIORITY
    delay_seconds = None
    deliver_at = None
    when = message.deliver_at if message.deliverAt is None else message.deliverAt
    if message.delay is not None and (message.delay or not when):
        delay_seconds = parse_seconds(message.delay)
        if delay_seconds is None:
            return RefusedMessage(f"invalid delay format: {_quoted(message.delay)}")
        if delay_seconds <= 0:
            delay_seconds = None
    elif when is not None:
        deliver_at = zoned_timestamp(when)
        if deliver_at is None:
            return RefusedMessage(f"invalid deliverAt format: {_quoted(when)}")
    return NewMessage(
        message.value,
        message.key or None,
        message.partition,
        priority,
        delay_seconds,
        deliver_at,
        message.headers or None,
    )


def _quoted(text: str) -> str:
    return text[:_QUOTED_CHARS_MAX].encode(errors="replace").decode()


def _priority_of(given: str | int | None) -> Priority | None:
    if given is None or given == "":
        return Priority.NORMAL
    return _PRIORITY_NUMBERS.get(given) if isinstance(given, int) else PRIORITIES.get(given.lower())


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.get(_IDEMPOTENCY_KEY)
    if not given:
        return None
    key = given.decode("latin-1")
    if len(key) > limits.IDEMPOTENCY_KEY_CHARS_MAX or not key.isprintable():
        raise BadRequest(
            f"Idempotency-Key must have at most {limits.IDEMPOTENCY_KEY_CHARS_MAX} printable characters"
        )
    return key


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
