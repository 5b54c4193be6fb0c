"""Statements of group commit as spans that link to the requests whose rows they carry."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from opentelemetry.trace import Link, Span, Tracer, get_current_span, set_span_in_context

from millstream.domain.errors import MillstreamError
from millstream.observe.tracing import spanning

R = TypeVar("R")
A = TypeVar("A")

Submit = Callable[[int, Sequence[R], int], Awaitable[list[A | MillstreamError]]]
Run = Callable[[list[R], int], Awaitable[Sequence[A | MillstreamError]]]


class BatchTracing(Generic[R, A]):
    """Notes which span each row of a batcher came from, and makes a span of each statement.

    A statement belongs to the trace of the first request that it carries and links to all of them.
    """

    def __init__(self, tracer: Tracer, name: str, submit: Submit[R, A], run: Run[R, A]) -> None:
        self._tracer = tracer
        self._name = name
        self._submit = submit
        self._run = run
        self._spans: dict[int, Span] = {}

    async def submit(
        self, tenant_id: int, rows: Sequence[R], size_bytes: int = 0
    ) -> list[A | MillstreamError]:
        """Submit rows, remembering whose they are for as long."""
        span = get_current_span()
        if not span.is_recording():
            return await self._submit(tenant_id, rows, size_bytes)
        for row in rows:
            self._spans[id(row)] = span
        try:
            return await self._submit(tenant_id, rows, size_bytes)
        finally:
            for row in rows:
                self._spans.pop(id(row), None)

    async def run(self, rows: list[R], batch_id: int) -> Sequence[A | MillstreamError]:
        """Run rows as one span, unless none of them comes from a traced request."""
        spans = {span.get_span_context().span_id: span for row in rows if (span := self._spans.get(id(row)))}
        if not spans:
            return await self._run(rows, batch_id)
        with spanning(
            self._tracer,
            f"batch {self._name}",
            parent=set_span_in_context(next(iter(spans.values()))),
            attributes={"millstream.batch.rows": len(rows), "millstream.batch.requests": len(spans)},
            links=[Link(span.get_span_context()) for span in spans.values()],
        ):
            return await self._run(rows, batch_id)
