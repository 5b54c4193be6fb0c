"""Traces: where spans go, and how ours are made. Contract: spooled-tenancy 13.5.

Off unless an endpoint is configured; whoever makes spans is put together at the start, so that nothing asks per
request whether it should.
"""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer

from millstream.config import Environment
from millstream.config.schema import OtelConfig

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SCOPE: Final = "millstream"
# What is left is given up: a collector that is away must not hold up the end of a server.
SHUT_DOWN_SECONDS_MAX: Final = 5.0

_log = structlog.get_logger(__name__)


class Tracing(Struct, frozen=True):
    """Makes spans, and sends them."""

    tracer: Tracer
    provider: "TracerProvider"

    async def close(self) -> None:
        """Send what is left, five seconds long at most."""
        try:
            async with asyncio.timeout(SHUT_DOWN_SECONDS_MAX):
                await asyncio.to_thread(self.provider.shutdown)
        except TimeoutError:
            _log.info("spans were left unsent")


def open_tracing(config: OtelConfig, environment: Environment) -> Tracing | None:
    """Return what makes spans and sends them to the configured endpoint; None without one.

    A collector that is away, or a missing library, is no reason not to start.
    """
    if config.endpoint is None:
        return None
    try:
        from millstream.observe.trace_export import make_provider  # noqa: PLC0415 - its library is an extra
    except ImportError:
        _log.warning("an OTLP endpoint is configured, but the `otel` extra is not installed: no traces")
        return None
    provider = make_provider(config, environment)
    return Tracing(provider.get_tracer(SCOPE), provider)


@contextmanager
def spanning(
    tracer: Tracer,
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
    attributes: Mapping[str, str | int] | None = None,
    links: Sequence[Link] = (),
) -> Generator[Span]:
    """Make a span the current one until the block ends; an error is noted by its type.

    Its text is not: what a database says of a value that it refused does not belong into a trace.
    """
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
