"""Leased jobs with dependencies as functions of your own PostgreSQL, called inside your own transactions.

    workflow = Workflow()
    with psycopg.connect(...) as connection:
        connection.execute("insert into orders ...")
        workflow.submit_job(connection, "charge-4711", JobDependencies("payments"), "shop")

The job exists exactly if the order does. `Workflow` takes connections of psycopg and SQLAlchemy, `AsyncWorkflow` those of
asyncpg, psycopg and SQLAlchemy. `Installer` and `AsyncInstaller` put the schema into a database. Contract: pgwf 3.
"""

from millstream.domain.errors import MillstreamError
from millstream.pgwf._async.lease import AsyncLease
from millstream.pgwf._async.workflow import AsyncWorkflow
from millstream.pgwf._sync.lease import Lease
from millstream.pgwf._sync.workflow import Workflow
from millstream.pgwf.backoff import Backoff
from millstream.pgwf.errors import (
    DependencyViolation,
    InstallError,
    InvalidArgument,
    JobAlreadyCompleted,
    JobAlreadyExists,
    JobCancelled,
    JobNotAvailable,
    JobNotFound,
    LeaseError,
    LeaseExpired,
    LeaseMismatch,
    PayloadError,
    TransientError,
    VerifyError,
    WorkflowError,
)
from millstream.pgwf.hold import LeaseState
from millstream.pgwf.installer import AsyncInstaller, Installer
from millstream.pgwf.jobs import (
    CancelResult,
    JobDependencies,
    JobStatus,
    JobView,
    RescheduledJob,
    SubmittedJob,
)
from millstream.pgwf.trace import TraceEventType, TraceRow

__all__ = [
    "AsyncInstaller",
    "AsyncLease",
    "AsyncWorkflow",
    "Backoff",
    "CancelResult",
    "DependencyViolation",
    "InstallError",
    "Installer",
    "InvalidArgument",
    "JobAlreadyCompleted",
    "JobAlreadyExists",
    "JobCancelled",
    "JobDependencies",
    "JobNotAvailable",
    "JobNotFound",
    "JobStatus",
    "JobView",
    "Lease",
    "LeaseError",
    "LeaseExpired",
    "LeaseMismatch",
    "LeaseState",
    "MillstreamError",
    "PayloadError",
    "RescheduledJob",
    "SubmittedJob",
    "TraceEventType",
    "TraceRow",
    "TransientError",
    "VerifyError",
    "Workflow",
    "WorkflowError",
]
