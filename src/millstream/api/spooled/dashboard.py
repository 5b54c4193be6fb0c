"""The dashboard. Contract: spooled-jobs 8."""

import time
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec
from msgspec import Struct

from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.http.timestamps import format_timestamp
from millstream.domain.dashboard import Activity, DashboardReport
from millstream.engine.engine import Engine


class SystemBody(Struct, frozen=True, kw_only=True):
    """The server."""

    version: str
    uptime_seconds: int
    started_at: str
    database_status: str
    cache_status: str
    environment: str


class JobFiguresBody(Struct, frozen=True, kw_only=True):
    """Jobs as they stand, and how they did in the last 24 hours."""

    total: int
    pending: int
    processing: int
    completed_24h: int
    failed_24h: int
    deadletter: int
    avg_wait_time_ms: float | None
    avg_processing_time_ms: float | None


class QueueFiguresBody(Struct, frozen=True, kw_only=True):
    """A queue."""

    name: str
    pending: int
    processing: int
    paused: bool


class WorkerFiguresBody(Struct, frozen=True, kw_only=True):
    """Workers that were heard of within a minute."""

    total: int
    healthy: int
    unhealthy: int


class RecentActivityBody(Struct, frozen=True, kw_only=True):
    """What happened within the last hour."""

    jobs_created_1h: int
    jobs_completed_1h: int
    jobs_failed_1h: int


class DashboardBody(Struct, frozen=True, kw_only=True):
    """`GET /dashboard`."""

    system: SystemBody
    jobs: JobFiguresBody
    queues: list[QueueFiguresBody]
    workers: WorkerFiguresBody
    recent_activity: RecentActivityBody


class DashboardEndpoints:
    """`/dashboard`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._dashboard = engine.dashboard
        self._settings = settings
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._version = version("millstream")

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/api/v1/dashboard",
                handler=self.get,
                summary="Show what your organization's jobs, queues and workers are doing",
                tag="dashboard",
                answers={200: DashboardBody},
            )
        ]

    async def get(self, request: Request) -> Response:
        """Show what is going on; zeros while the database is away."""
        report = await self._dashboard.report(request.principal)
        activity = report.activity
        body = DashboardBody(
            system=self._system(report),
            jobs=_jobs(activity),
            queues=[
                QueueFiguresBody(
                    name=queue.name,
                    pending=queue.pending,
                    processing=queue.processing,
                    paused=queue.is_paused,
                )
                for queue in activity.queues
            ],
            workers=WorkerFiguresBody(
                total=activity.workers,
                healthy=activity.healthy_workers,
                unhealthy=activity.workers - activity.healthy_workers,
            ),
            recent_activity=RecentActivityBody(
                jobs_created_1h=activity.created_1h,
                jobs_completed_1h=activity.completed_1h,
                jobs_failed_1h=activity.failed_1h,
            ),
        )
        return Response(200, msgspec.json.encode(body))

    def _system(self, report: DashboardReport) -> SystemBody:
        return SystemBody(
            version=self._version,
            uptime_seconds=int(time.monotonic() - self._started),
            started_at=format_timestamp(self._started_at),
            database_status=_health_word(report.database_answers),
            cache_status=_health_word(report.cache_answers),
            environment=self._settings.environment,
        )


def _jobs(activity: Activity) -> JobFiguresBody:
    return JobFiguresBody(
        total=activity.total,
        pending=activity.pending,
        processing=activity.processing,
        completed_24h=activity.completed_24h,
        failed_24h=activity.failed_24h,
        deadletter=activity.dead,
        avg_wait_time_ms=activity.average_wait_ms,
        avg_processing_time_ms=activity.average_processing_ms,
    )


def _health_word(answers: bool) -> str:
    return "healthy" if answers else "unhealthy"
