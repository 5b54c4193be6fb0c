"""What the API takes and returns, as msgspec structs. Field names are ours; the wire's stand beside them."""

from millstream.client.types.dead_letters import DeadLetterRetry
from millstream.client.types.health import Health
from millstream.client.types.jobs import (
    BatchFailure,
    BatchSuccess,
    BulkEnqueued,
    ClaimedJob,
    Complete,
    Enqueued,
    Fail,
    Job,
    JobEvent,
    JobState,
    JobStats,
    JobStatus,
    JobSummary,
    NewJob,
    PriorityChange,
    Release,
    Settled,
    Settlement,
)
from millstream.client.types.page import Page
from millstream.client.types.queues import Queue, QueuePaused, QueueResumed, QueueStats, QueueSummary
from millstream.client.types.schedules import Schedule, ScheduleRun, ScheduleRunStatus, ScheduleTriggered
from millstream.client.types.workers import RegisteredWorker, WorkerInfo, WorkerStatus

__all__ = [
    "BatchFailure",
    "BatchSuccess",
    "BulkEnqueued",
    "ClaimedJob",
    "Complete",
    "DeadLetterRetry",
    "Enqueued",
    "Fail",
    "Health",
    "Job",
    "JobEvent",
    "JobState",
    "JobStats",
    "JobStatus",
    "JobSummary",
    "NewJob",
    "Page",
    "PriorityChange",
    "Queue",
    "QueuePaused",
    "QueueResumed",
    "QueueStats",
    "QueueSummary",
    "RegisteredWorker",
    "Release",
    "Schedule",
    "ScheduleRun",
    "ScheduleRunStatus",
    "ScheduleTriggered",
    "Settled",
    "Settlement",
    "WorkerInfo",
    "WorkerStatus",
]
