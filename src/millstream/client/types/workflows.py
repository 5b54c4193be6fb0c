"""Workflows: jobs that wait for one another."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

from millstream.client.json_value import JsonValue
from millstream.client.types.jobs import JobStatus

Mode = Literal["all", "any"]


class WorkflowStatus(StrEnum):
    """How a workflow stands. Contract: spooled-jobs 10.8."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NewStep(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One job of a workflow to be created; `depends_on` names keys of the same workflow.

    With `mode` `any` it starts once the first of them is completed, else once all are.
    """

    key: str
    queue: str = msgspec.field(name="queue_name")
    payload: object
    depends_on: list[str] = []
    mode: Mode | None = msgspec.field(name="dependency_mode", default=None)
    priority: int | None = None
    max_retries: int | None = None
    timeout_seconds: int | None = None


class CreatedStep(msgspec.Struct, frozen=True):
    """The id of the job that has a key."""

    key: str
    job_id: str


class CreatedWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """A new workflow, and its jobs in the order of its definition."""

    id: str = msgspec.field(name="workflow_id")
    name: str
    jobs: list[CreatedStep] = msgspec.field(name="job_ids")


class WorkflowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow without its jobs. Contract: spooled-jobs 2.9."""

    id: str
    tenant_id: str = msgspec.field(name="organization_id")
    name: str
    description: str | None = None
    status: WorkflowStatus
    total_jobs: int
    completed_jobs: int
    failed_jobs: int
    progress_percent: float
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    metadata: JsonValue = None


class StepError(msgspec.Struct, frozen=True):
    """Why a job failed last."""

    message: str


class WorkflowStep(msgspec.Struct, frozen=True, kw_only=True):
    """A job of a workflow; `depends_on` are ids of jobs."""

    id: str
    key: str
    queue: str = msgspec.field(name="queue_name")
    status: JobStatus
    job_type: str
    payload: JsonValue
    result: JsonValue = None
    error: StepError | None = None
    priority: int
    retry_count: int = msgspec.field(name="attempt")
    max_retries: int
    timeout_seconds: int
    depends_on: list[str]
    mode: Mode = msgspec.field(name="dependency_mode")
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


class Workflow(WorkflowSummary, frozen=True, kw_only=True):
    """A workflow with its jobs, in the order of its definition."""

    jobs: list[WorkflowStep]


class JobNeighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A job at the other end of a dependency."""

    job_id: str
    queue: str = msgspec.field(name="queue_name")
    status: JobStatus


class JobDependencies(msgspec.Struct, frozen=True, kw_only=True):
    """What a job waits for, and what waits for it. Contract: spooled-jobs 7.5."""

    job_id: str
    depends_on: list[JobNeighbour] = msgspec.field(name="dependencies")
    dependents: list[JobNeighbour]
    mode: Mode = msgspec.field(name="dependency_mode")
    is_met: bool = msgspec.field(name="dependencies_met")
