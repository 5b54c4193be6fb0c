"""Whether the server lives, is ready, and what it counts. Contract: spooled-jobs 9, spooled-tenancy 13."""

import hmac
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
from msgspec import Struct

from millstream.api.http.endpoint import Auth, Endpoint, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.http.timestamps import format_timestamp
from millstream.domain.errors import Unauthenticated, Unavailable

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class HealthBody(Struct, kw_only=True):
    """`status` is `healthy` when the database answers, else `degraded`; no cache counts as a working one."""

    status: str
    database: bool
    cache: bool
    uptime_seconds: int
    timestamp: str


class ProbeBody(Struct):
    """The answer to a probe."""

    status: str


class HealthEndpoints:
    """`/health` and `/metrics`. `render_metrics` returns the metrics in the Prometheus text format."""

    def __init__(
        self,
        database_answers: Callable[[], Awaitable[bool]],
        cache_answers: Callable[[], Awaitable[bool]],
        render_metrics: Callable[[], bytes],
        settings: HttpSettings,
    ) -> None:
        self._database_answers = database_answers
        self._cache_answers = cache_answers
        self._render_metrics = render_metrics
        token = settings.metrics_token
        self._metrics_token = None if token is None else _digest(token.encode())
        self._started = time.monotonic()

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/health",
                handler=self.health,
                summary="Tell how the server is",
                tag="health",
                answers={200: HealthBody},
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="GET",
                path="/health/live",
                handler=self.live,
                summary="Tell that the server lives",
                tag="health",
                answers={200: ProbeBody},
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="GET",
                path="/health/ready",
                handler=self.ready,
                summary="Tell whether the database answers",
                tag="health",
                answers={200: ProbeBody},
                errors=(Unavailable,),
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="GET",
                path="/metrics",
                handler=self.metrics,
                summary="Metrics for Prometheus",
                tag="health",
                answers={200: None},
                errors=(Unauthenticated,),
                auth=Auth.OPEN,
            ),
        ]

    async def health(self, request: Request) -> Response:
        """Tell how the server is; 200 whatever the database does."""
        answers = await self._database_answers()
        body = HealthBody(
            status="healthy" if answers else "degraded",
            database=answers,
            cache=await self._cache_answers(),
            uptime_seconds=int(time.monotonic() - self._started),
            timestamp=format_timestamp(datetime.now(UTC)),
        )
        return Response(200, msgspec.json.encode(body))

    async def live(self, request: Request) -> Response:
        """Tell that the server lives."""
        return Response(200, b'{"status":"ok"}')

    async def ready(self, request: Request) -> Response:
        """Tell whether the database answers."""
        if await self._database_answers():
            return Response(200, b'{"status":"ok"}')
        return Response(503, b'{"status":"unavailable"}')

    async def metrics(self, request: Request) -> Response:
        """Return the metrics, to whoever has the token if there is one."""
        if self._metrics_token is not None:
            scheme, _, given = request.headers.get(b"authorization", b"").partition(b" ")
            # Digests have one length, so that the time of the comparison does not tell that of the token.
            if scheme != b"Bearer" or not hmac.compare_digest(_digest(given), self._metrics_token):
                raise Unauthenticated
        return Response(200, self._render_metrics(), content_type=_TEXT)


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()
