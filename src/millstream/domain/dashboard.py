"""The dashboard: what a tenant's jobs, queues and workers are doing. Contract: spooled-jobs 8."""

from typing import Final

from msgspec import Struct

DASHBOARD_QUEUES_MAX: Final = 20


class QueueActivity(Struct, frozen=True):
    """How many jobs of a queue wait and run, and whether it is paused."""

    name: str
    pending: int
    processing: int
    is_paused: bool


class Activity(Struct, frozen=True, kw_only=True):
    """What a tenant is doing. Times are means over the jobs completed in the last 24 hours, in milliseconds."""

    total: int = 0
    pending: int = 0
    processing: int = 0
    dead: int = 0
    completed_24h: int = 0
    failed_24h: int = 0
    average_wait_ms: float | None = None
    average_processing_ms: float | None = None
    created_1h: int = 0
    completed_1h: int = 0
    failed_1h: int = 0
    workers: int = 0
    healthy_workers: int = 0
    queues: tuple[QueueActivity, ...] = ()


class DashboardReport(Struct, frozen=True, kw_only=True):
    """What a tenant is doing, and whether what the server needs answers. Without the database there is no activity."""

    activity: Activity
    database_answers: bool
    cache_answers: bool
