"""Workers: registration, liveness, totals."""

from datetime import datetime
from enum import IntEnum

from msgspec import Struct


class WorkerStatus(IntEnum):
    """How a worker is; the numbers are stored."""

    HEALTHY = 1
    DEGRADED = 2
    DRAINING = 3
    OFFLINE = 4


OFFLINE_AFTER_SECONDS = 120


class NewWorker(Struct, frozen=True, kw_only=True):
    """A worker that registers; fields left None keep what a known id had. `metadata` is a JSON text."""

    id: str
    queue: str
    hostname: str
    worker_type: str | None = None
    max_concurrency: int | None = None
    metadata: str | None = None
    version: str | None = None


class Worker(Struct, frozen=True, kw_only=True):
    """A registered worker. `metadata` is a JSON text."""

    id: str
    queue: str
    hostname: str
    worker_type: str | None
    max_concurrency: int
    current_jobs: int
    status: WorkerStatus
    metadata: str
    version: str | None
    last_heartbeat_at: datetime
    registered_at: datetime
    updated_at: datetime
    jobs_processed: int
    jobs_failed: int
