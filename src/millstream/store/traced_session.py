"""Statements as spans of the request or batch that runs them."""

from collections.abc import Callable

from opentelemetry.trace import SpanKind, Tracer, get_current_span

from millstream.observe.tracing import spanning
from millstream.store.database import Driver, Row, Session
from millstream.store.queries import name_of


class TracedSession(Session):
    """A session whose statements are spans, while somebody who is traced runs them. Values are in none."""

    def __init__(self, driver: Driver, tracer: Tracer) -> None:
        super().__init__(driver)
        self._tracer = tracer

    async def many(self, sql: str, *arguments: object) -> list[Row]:
        """Run a statement and return its rows."""
        if not get_current_span().is_recording():
            return await super().many(sql, *arguments)
        with spanning(self._tracer, *_named(sql), kind=SpanKind.CLIENT, attributes=_SYSTEM) as span:
            rows = await super().many(sql, *arguments)
            span.set_attribute("db.response.returned_rows", len(rows))
            return rows

    async def one(self, sql: str, *arguments: object) -> Row | None:
        """Run a statement and return its first row, if any."""
        if not get_current_span().is_recording():
            return await super().one(sql, *arguments)
        with spanning(self._tracer, *_named(sql), kind=SpanKind.CLIENT, attributes=_SYSTEM):
            return await super().one(sql, *arguments)

    async def run(self, sql: str, *arguments: object) -> None:
        """Run a statement whose rows, if any, do not matter."""
        if not get_current_span().is_recording():
            await super().run(sql, *arguments)
            return
        with spanning(self._tracer, *_named(sql), kind=SpanKind.CLIENT, attributes=_SYSTEM):
            await super().run(sql, *arguments)


_SYSTEM = {"db.system": "postgresql"}


def _named(sql: str) -> tuple[str]:
    return (f"sql {name_of(sql)}",)


def traced_sessions(tracer: Tracer) -> Callable[[Driver], Session]:
    """Return what makes sessions whose statements are spans of `tracer`."""
    return lambda driver: TracedSession(driver, tracer)
