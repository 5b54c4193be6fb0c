"""The SDK: clients for asyncio and for blocking code, and the worker runtime."""

from millstream.client._async.client import AsyncClient
from millstream.client._sync.client import Client
from millstream.client.credentials import Credentials
from millstream.client.errors import (
    AccessDenied,
    ApiError,
    Conflict,
    ConnectionFailed,
    InvalidResponse,
    LeaseLost,
    MillstreamError,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    RateLimited,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from millstream.client.json_value import JsonValue
from millstream.client.retries import Retries
from millstream.client.types import (
    ClaimedJob,
    Complete,
    Enqueued,
    Fail,
    Job,
    JobStatus,
    JobSummary,
    NewJob,
    NewStep,
    Page,
    Release,
    WorkerStatus,
    Workflow,
    WorkflowStatus,
)
from millstream.client.worker import RetryLater, RunningJob, Worker

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
    "Unauthorized",
    "Unavailable",
    "ValidationFailed",
    "Worker",
    "WorkerStatus",
    "Workflow",
    "WorkflowStatus",
]
