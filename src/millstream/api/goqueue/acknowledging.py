"""What becomes of delivered messages. Contract: goqueue-messaging 9."""

from typing import Final, TypeVar

import msgspec
from msgspec import UNSET

from millstream.api.goqueue import delivery_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.parameters import seconds_of
from millstream.api.goqueue.problems import status_of
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_optional, format_timestamp
from millstream.domain import limits
from millstream.domain.errors import BadRequest, Gone, NotFound, Unavailable
from millstream.domain.problems import message_of
from millstream.engine.engine import Engine

BodyT_co = TypeVar("BodyT_co", covariant=True)

_NO_RECEIPT: Final = "receipt_handle is required"


class ReceiptBody(TopicBody[BodyT_co]):
    """What is to become of a message; a receipt of another type is refused as one that is missing."""

    def read(self, data: bytes) -> BodyT_co:
        """Return `data` as the body's type. Raises BadRequest."""
        try:
            return super().read(data)
        except BadRequest as error:
            if str(error).endswith("$.receipt_handle"):
                raise BadRequest(_NO_RECEIPT) from None
            raise


_ACK: Final = ReceiptBody(bodies.Ack)
_NACK: Final = ReceiptBody(bodies.Nack, with_nul=True)
_REJECT: Final = ReceiptBody(bodies.Reject, with_nul=True)
_EXTEND: Final = ReceiptBody(bodies.Extend)
_ACK_MANY: Final = TopicBody(bodies.AckMany)
_encode = msgspec.json.Encoder().encode


class AcknowledgingEndpoints:
    """`/messages`."""

    def __init__(self, engine: Engine) -> None:
        self._acknowledging = engine.acknowledging

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        errors = (BadRequest, NotFound, Gone, Unavailable)
        return [
            Endpoint(
                method="POST",
                path="/messages/ack",
                handler=self.ack,
                summary="Record that a message was processed",
                tag="messages",
                body=_ACK,
                answers={200: bodies.Acked},
                errors=errors,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/messages/nack",
                handler=self.nack,
                summary="Have a message delivered again later",
                tag="messages",
                body=_NACK,
                answers={200: bodies.Nacked},
                errors=errors,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/messages/reject",
                handler=self.reject,
                summary="Put a message among the dead letters",
                tag="messages",
                body=_REJECT,
                answers={200: bodies.Rejected},
                errors=errors,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/messages/visibility",
                handler=self.extend,
                summary="Move the end of a message's lease",
                tag="messages",
                body=_EXTEND,
                answers={200: bodies.Extended},
                errors=errors,
                hot=True,
            ),
            Endpoint(
                method="POST",
                path="/messages/ack/batch",
                handler=self.ack_many,
                summary="Record that up to 1,000 messages were processed, each by itself",
                tag="messages",
                body=_ACK_MANY,
                answers={200: bodies.AckedMany},
                errors=(BadRequest, Unavailable),
                extension=True,
                hot=True,
            ),
        ]

    async def ack(self, request: Request) -> Response:
        """Record that a message was processed."""
        body = _ACK.read(request.body)
        acked = await self._acknowledging.ack(request.principal, _receipt(body.receipt_handle))
        answer = bodies.Acked(
            topic=acked.topic,
            partition=acked.partition,
            offset=acked.offset,
            committed_offset=acked.committed_offset,
            offset_advanced=acked.offset_advanced,
            in_flight_count=acked.in_flight,
        )
        return Response(200, _encode(answer))

    async def nack(self, request: Request) -> Response:
        """Have a message delivered again."""
        body = _NACK.read(request.body)
        receipt = _receipt(body.receipt_handle)
        delay_seconds = None if body.delay is None else _delay_seconds(body.delay)
        nacked = await self._acknowledging.nack(
            request.principal, receipt, delay_seconds=delay_seconds, reason=body.reason or None
        )
        comes_again = nacked.next_visible_at is not None
        answer = bodies.Nacked(
            requeued=comes_again,
            success=True,
            action="requeued" if comes_again else "dlq",
            topic=nacked.topic,
            partition=nacked.partition,
            offset=nacked.offset,
            delivery_count=nacked.delivery_count,
            next_visible_at=format_optional(nacked.next_visible_at),
            dlq_topic=nacked.dead_letter_topic or UNSET,
        )
        return Response(200, _encode(answer))

    async def reject(self, request: Request) -> Response:
        """Put a message among the dead letters."""
        body = _REJECT.read(request.body)
        rejected = await self._acknowledging.reject(
            request.principal, _receipt(body.receipt_handle), reason=body.reason or ""
        )
        answer = bodies.Rejected(
            dlq_topic=rejected.dead_letter_topic,
            topic=rejected.topic,
            partition=rejected.partition,
            offset=rejected.offset,
            reason=rejected.reason,
        )
        return Response(200, _encode(answer))

    async def extend(self, request: Request) -> Response:
        """Move the end of a lease."""
        body = _EXTEND.read(request.body)
        receipt = _receipt(body.receipt_handle)
        extended = await self._acknowledging.extend(request.principal, receipt, _extension_seconds(body))
        answer = bodies.Extended(
            new_deadline=format_timestamp(extended.deadline), extended_by=int(extended.seconds)
        )
        return Response(200, _encode(answer))

    async def ack_many(self, request: Request) -> Response:
        """Record that messages were processed; what is wrong with one receipt is its own failure."""
        receipts = _ACK_MANY.read(request.body).receipt_handles
        if not receipts:
            raise BadRequest("receipt_handles is required")
        if len(receipts) > limits.RECEIPTS_MAX:
            raise BadRequest(f"at most {limits.RECEIPTS_MAX} receipts at once")
        refusals = await self._acknowledging.ack_many(request.principal, receipts)
        failures = [
            bodies.AckFailure(receipt, message_of(error), status_of(error))
            for receipt, error in zip(receipts, refusals, strict=True)
            if error is not None
        ]
        return Response(200, _encode(bodies.AckedMany(len(receipts) - len(failures), failures)))


def _receipt(given: str | None) -> str:
    if not given:
        raise BadRequest(_NO_RECEIPT)
    return given


def _delay_seconds(text: str) -> float:
    seconds = seconds_of(text, f"invalid delay format: {text}")
    if seconds < 0:
        raise BadRequest("delay must not be negative")
    return seconds


def _extension_seconds(body: bodies.Extend) -> float:
    if body.timeout is not None:
        seconds = seconds_of(body.timeout, f"invalid timeout format: {body.timeout}")
    elif body.extension_seconds is not None:
        seconds = min(body.extension_seconds, limits.VISIBILITY_SECONDS_MAX + 1)
    else:
        raise BadRequest("timeout is required")
    if not 0 < seconds <= limits.VISIBILITY_SECONDS_MAX:
        raise BadRequest(f"timeout must be above 0, and at most {limits.VISIBILITY_SECONDS_MAX // 3600}h")
    return seconds
