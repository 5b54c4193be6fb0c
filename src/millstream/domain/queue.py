"""Queues: configuration, pause, statistics."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType


class Queue(Struct, frozen=True, kw_only=True):
    """A queue's configuration row. `settings` is a JSON text without the pause keys."""

    id: UUID
    name: str
    max_retries: int
    default_timeout_seconds: int
    rate_limit: int | None
    enabled: bool
    settings: str
    paused_at: datetime | None
    paused_reason: str | None
    retry_initial_seconds: int | None
    retry_factor: float | None
    retry_max_seconds: int | None
    created_at: datetime
    updated_at: datetime


class QueueChange(Struct, frozen=True, kw_only=True):
    """What to change of a queue's configuration; None keeps, UNSET of the back-off fields keeps too."""

    max_retries: int | None = None
    default_timeout_seconds: int | None = None
    rate_limit: int | None = None
    enabled: bool | None = None
    settings: str | None = None
    retry_initial_seconds: int | None | UnsetType = UNSET
    retry_factor: float | None | UnsetType = UNSET
    retry_max_seconds: int | None | UnsetType = UNSET


class QueueStats(Struct, frozen=True, kw_only=True):
    """What a queue is doing. `avg_processing_ms` is over completed jobs of the last 24 hours."""

    name: str
    pending: int
    processing: int
    completed_24h: int
    failed_24h: int
    avg_processing_ms: int | None
    oldest_age_seconds: int | None
    active_workers: int


class Paused(Struct, frozen=True):
    """A queue that was paused."""

    name: str
    paused_at: datetime
    reason: str | None


class Resumed(Struct, frozen=True):
    """A queue that was resumed, and how long it had been paused (0: it was not)."""

    name: str
    paused_seconds: int
