"""The dispatcher of a server that traces: a span for each request. Contract: spooled-tenancy 13.5."""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Receive, Scope, Send

from millstream.api.http.dispatcher import Dialect, Dispatcher, Observe
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.headers import request_id_of
from millstream.api.http.router import Route
from millstream.api.http.settings import HttpSettings
from millstream.observe.logging import log_ids
from millstream.observe.redaction import redact_text
from millstream.observe.tracing import spanning

_HEADERS: Final = {b"traceparent": "traceparent", b"tracestate": "tracestate"}
_REQUEST_ID: Final = b"x-request-id"
# Of longer bodies nothing is read for a trace.
_BODY_BYTES_MAX: Final = 64 * 1024
_TEXT_CHARS_MAX: Final = 255
_CREATED: Final = 201
_REFUSED: Final = 400
_BROKEN: Final = 500

_propagator = TraceContextTextMapPropagator()


class _Said(Struct):
    # What a request or an answer says of its subject.
    queue_name: str | None = None
    worker_id: str | None = None


class _Created(Struct):
    id: str


class _Refusal(Struct):
    code: str = ""
    message: str = ""


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_created = msgspec.json.Decoder(_Created).decode
_decode_refusal = msgspec.json.Decoder(_Refusal).decode


class TracedDispatcher(Dispatcher):
    """Continues the trace that a caller's `traceparent` names, or begins one."""

    def __init__(
        self, dialects: Sequence[Dialect], settings: HttpSettings, observe: Observe, tracer: Tracer
    ) -> None:
        super().__init__(dialects, settings, observe)
        self._tracer = tracer

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = time.perf_counter()
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers)
        if headers.get(_REQUEST_ID) != request_id:
            others = [header for header in scope["headers"] if header[0] != _REQUEST_ID]
            scope["headers"] = [*others, (_REQUEST_ID, request_id)]
        carrier = {
            name: headers[header].decode("latin-1") for header, name in _HEADERS.items() if header in headers
        }
        method: str = scope["method"]
        with spanning(
            self._tracer,
            method,
            kind=SpanKind.SERVER,
            parent=_propagator.extract(carrier),
            attributes={
                "http.method": method,
                "http.path": redact_text(scope["path"]),
                "request_id": request_id.decode(),
            },
        ) as span:
            trace_id = format_trace_id(span.get_span_context().trace_id)
            with log_ids(request_id=request_id.decode(), trace_id=trace_id):
                await super()._serve(scope, receive, send)
            span.set_attribute("duration_ms", round((time.perf_counter() - started_at) * 1000, 3))

    def _unserved(
        self, dialect: Dialect, route: Route | None, method: str, headers: Mapping[bytes, bytes]
    ) -> Response:
        response = super()._unserved(dialect, route, method, headers)
        _describe_answer(get_current_span(), response)
        return response

    async def _guarded(self, dialect: Dialect, endpoint: Endpoint, request: Request) -> Response | None:
        response = await super()._guarded(dialect, endpoint, request)
        span = get_current_span()
        if span.is_recording():
            _describe_request(span, endpoint, request)
            if response is None:
                span.set_attribute("error.type", "ClientGone")
            else:
                _describe_answer(span, response)
                if response.status == _CREATED and endpoint.path.endswith("/jobs"):
                    _describe_created(span, response.body)
        return response


def _describe_request(span: Span, endpoint: Endpoint, request: Request) -> None:
    span.update_name(f"{endpoint.method} {endpoint.path}")
    span.set_attribute("http.route", endpoint.path)
    if hasattr(request, "principal"):
        span.set_attribute("org_id", request.principal.organization_id)
    for name, value in zip(_parameter_names(endpoint.path), request.parameters, strict=False):
        if name in {"job_id", "queue_name", "worker_id"}:
            span.set_attribute(name, value[:_TEXT_CHARS_MAX])
    if 0 < len(request.body) <= _BODY_BYTES_MAX:
        try:
            said = _decode_said(request.body)
        except (msgspec.MsgspecError, RecursionError):
            return
        for name, text in (("queue_name", said.queue_name), ("worker_id", said.worker_id)):
            if text is not None:
                span.set_attribute(name, text[:_TEXT_CHARS_MAX])


def _parameter_names(path: str) -> list[str]:
    """Return what the parameters of a path are called in spans; a plain `name` or `id` is its collection's."""
    names: list[str] = []
    segments = path.split("/")
    for before, segment in pairwise(segments):
        if segment.startswith("{"):
            name = segment.strip("{}")
            names.append(f"{before.removesuffix('s')}_{name}" if name in {"name", "id"} else name)
    return names


def _describe_answer(span: Span, response: Response) -> None:
    span.set_attribute("http.status_code", response.status)
    if response.status < _REFUSED:
        return
    if response.status >= _BROKEN:
        span.set_status(StatusCode.ERROR)
    try:
        refusal = _decode_refusal(response.body)
    except msgspec.MsgspecError:
        return
    span.set_attribute("error.type", refusal.code)
    span.set_attribute("error.message", redact_text(refusal.message))


def _describe_created(span: Span, body: bytes) -> None:
    try:
        span.set_attribute("job_id", _decode_created(body).id)
    except msgspec.MsgspecError:
        return
