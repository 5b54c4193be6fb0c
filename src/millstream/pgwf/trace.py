"""What happened to jobs, as the trace has it. Contract: pgwf 1.8."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class TraceEventType(StrEnum):
    """What can happen to a job."""

    JOB_SUBMITTED = "job_submitted"
    LEASE_EXPIRATION_COUNTER_INCREMENTED = "lease_expiration_counter_incremented"
    JOB_RETRIEVED = "job_retrieved"
    LEASE_EXTENDED = "lease_extended"
    RESCHEDULE_JOB = "reschedule_job"
    JOB_FINISHED = "job_finished"
    JOB_CANCEL_REQUESTED = "job_cancel_requested"
    JOB_CANCEL_ARCHIVED = "job_cancel_archived"
    JOB_CANCEL_ARCHIVED_RUN = "job_cancel_archived_run"
    CRASH_CONCERN_CLEARED = "crash_concern_cleared"


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One event of a job. An event that this version does not know is a plain string."""

    trace_id: int
    job_id: str
    event_type: TraceEventType | str
    worker_id: str
    event_at: datetime
    input_data: Mapping[str, Any]  # pyright: ignore[reportExplicitAny] - any JSON
    output_data: Mapping[str, Any] | None  # pyright: ignore[reportExplicitAny] - any JSON


def event_type_of(name: str) -> TraceEventType | str:
    """Return the event with this name, or the name of one that is not known."""
    try:
        return TraceEventType(name)
    except ValueError:
        return name
