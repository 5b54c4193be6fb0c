"""millstream: durable jobs, topics and workflows on PostgreSQL. This package holds the SDK's public names.

They load on first use, so that importing millstream costs nothing, in the server's processes above all.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millstream.client import (
        AccessDenied,
        ApiError,
        AsyncClient,
        ClaimedJob,
        Client,
        Complete,
        Conflict,
        ConnectionFailed,
        Credentials,
        Enqueued,
        Fail,
        InvalidResponse,
        Job,
        JobStatus,
        JobSummary,
        JsonValue,
        LeaseLost,
        MillstreamError,
        NewJob,
        NewStep,
        NotFound,
        Page,
        PayloadTooLarge,
        QuotaExceeded,
        RateLimited,
        Release,
        Retries,
        RetryLater,
        RunningJob,
        Schedule,
        ScheduleRun,
        Unauthorized,
        Unavailable,
        ValidationFailed,
        Worker,
        WorkerStatus,
        Workflow,
        WorkflowStatus,
    )

__all__ = [
    "AccessDenied",
    "ApiError",
    "AsyncClient",
    "ClaimedJob",
    "Client",
    "Complete",
    "Conflict",
    "ConnectionFailed",
    "Credentials",
    "Enqueued",
    "Fail",
    "InvalidResponse",
    "Job",
    "JobStatus",
    "JobSummary",
    "JsonValue",
    "LeaseLost",
    "MillstreamError",
    "NewJob",
    "NewStep",
    "NotFound",
    "Page",
    "PayloadTooLarge",
    "QuotaExceeded",
    "RateLimited",
    "Release",
    "Retries",
    "RetryLater",
    "RunningJob",
    "Schedule",
    "ScheduleRun",
    "Unauthorized",
    "Unavailable",
    "ValidationFailed",
    "Worker",
    "WorkerStatus",
    "Workflow",
    "WorkflowStatus",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module("millstream.client"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
