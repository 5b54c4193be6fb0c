"""Registered workers as the server knows them."""

from datetime import datetime
from enum import StrEnum

import msgspec

from millstream.client.json_value import JsonValue


class WorkerStatus(StrEnum):
    """The health of a worker. Contract: spooled-jobs 2.7."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DRAINING = "draining"
    OFFLINE = "offline"


class RegisteredWorker(msgspec.Struct, frozen=True, kw_only=True):
    """The id to work under, and how often to send heartbeats. Contract: spooled-jobs 5.1."""

    id: str
    queue: str = msgspec.field(name="queue_name")
    lease_seconds: int = msgspec.field(name="lease_duration_secs")
    heartbeat_seconds: int = msgspec.field(name="heartbeat_interval_secs")


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker and what it last reported. Contract: spooled-jobs 2.7."""

    id: str
    tenant_id: str = msgspec.field(name="organization_id")
    queue: str = msgspec.field(name="queue_name")
    queues: list[str] = msgspec.field(name="queue_names")
    hostname: str
    worker_type: str | None = None
    version: str | None = None
    concurrency: int = msgspec.field(name="max_concurrency")
    current_jobs: int
    status: WorkerStatus
    metadata: JsonValue
    last_heartbeat_at: datetime = msgspec.field(name="last_heartbeat")
    registered_at: datetime
    updated_at: datetime
    jobs_processed: int
    jobs_failed: int
