"""The bodies of workflows and dependencies, as they are on the wire. Contract: spooled-jobs 2.9, 7."""

from typing import Literal
from uuid import UUID

from msgspec import UNSET, Raw, Struct

from millstream.api.http.timestamps import format_optional, format_timestamp
from millstream.api.spooled.requests import Int, Opaque
from millstream.api.spooled.translate import status_word
from millstream.domain.job import Job, JobState
from millstream.domain.tenant import Principal
from millstream.domain.workflow import (
    Dependencies,
    DependenciesAdded,
    Edge,
    Neighbour,
    Step,
    Workflow,
    WorkflowDetail,
    WorkflowStatus,
)

STATUSES = {status.name.lower(): status for status in WorkflowStatus}
Mode = Literal["all", "any"]


class CreateStep(Struct, frozen=True, kw_only=True, gc=False):
    """One job of `POST /workflows`."""

    key: str
    queue_name: str
    payload: Raw
    depends_on: list[str] | None = None
    dependency_mode: Mode | None = None
    priority: Int | None = None
    max_retries: Int | None = None
    timeout_seconds: Int | None = None
    job_type: str | None = None


class CreateWorkflow(Struct, frozen=True, kw_only=True):
    """`POST /workflows`."""

    name: str
    jobs: list[CreateStep]
    description: str | None = None
    metadata: Opaque = UNSET


class StepCreated(Struct, frozen=True):
    """The id of one job."""

    key: str
    job_id: UUID


class WorkflowCreated(Struct, frozen=True, kw_only=True):
    """A new workflow; some clients read its id as `id`."""

    workflow_id: UUID
    id: UUID
    name: str
    status: str
    job_ids: list[StepCreated]


class WorkflowBody(Struct, frozen=True, kw_only=True):
    """A workflow without its jobs."""

    id: UUID
    organization_id: str
    name: str
    description: str | None
    status: str
    total_jobs: int
    completed_jobs: int
    failed_jobs: int
    progress_percent: float
    created_at: str
    started_at: str | None
    completed_at: str | None
    metadata: Raw | None


class ProgressBody(Struct, frozen=True, kw_only=True):
    """How many of a workflow's jobs stand how."""

    total: int
    completed: int
    failed: int
    pending: int
    processing: int


class StepErrorBody(Struct, frozen=True, kw_only=True):
    """Why a job failed last."""

    type: str
    message: str
    stack: str | None


class StepBody(Struct, frozen=True, kw_only=True):
    """A job of a workflow."""

    id: UUID
    organization_id: str
    workflow_id: UUID
    key: str
    queue: str
    queue_name: str
    status: str
    job_type: str
    payload: Raw
    priority: int
    attempt: int
    max_retries: int
    timeout_ms: int
    timeout_seconds: int
    backoff_type: str
    depends_on: list[UUID]
    dependency_mode: str
    created_at: str
    scheduled_at: str | None
    started_at: str | None
    completed_at: str | None
    result: Raw | None
    error: StepErrorBody | None
    metadata: Raw | None
    parent_job_id: UUID | None


class EdgeBody(Struct, frozen=True, kw_only=True):
    """That one job waits for another."""

    parent_job_id: UUID
    child_job_id: UUID
    dependency_type: str


class WorkflowDetailBody(WorkflowBody, frozen=True, kw_only=True):
    """A workflow with its jobs and what they wait for."""

    progress: ProgressBody
    jobs: list[StepBody]
    dependencies: list[EdgeBody]


class StepStatusBody(Struct, frozen=True, kw_only=True):
    """How one job of a workflow stands."""

    key: str
    job_id: UUID
    status: str
    depends_on: list[UUID]
    progress: None = None


class AddDependencies(Struct, frozen=True, kw_only=True):
    """`POST /jobs/{id}/dependencies`; the ids come under any of three names, as clients send them."""

    depends_on: list[str] | None = None
    depends_on_job_ids: list[str] | None = None
    dependency_job_ids: list[str] | None = None
    dependency_mode: Mode | None = None


class DependenciesAddedBody(Struct, frozen=True, kw_only=True):
    """How many dependencies are new, under the names of three generations of clients."""

    success: bool
    job_id: UUID
    dependencies_added: int
    added_count: int
    added: int
    dependencies_met: bool


class NeighbourBody(Struct, frozen=True, kw_only=True):
    """A job at the other end of a dependency."""

    job_id: UUID
    queue_name: str
    status: str
    completed: bool
    dependency_type: str


class DependenciesBody(Struct, frozen=True, kw_only=True):
    """What a job waits for, and what waits for it."""

    job_id: UUID
    status: str
    dependencies: list[NeighbourBody]
    dependents: list[NeighbourBody]
    dependency_mode: str
    dependencies_met: bool


_SUCCESS = "success"
"""Every dependency is met by success only."""


def workflow_body(workflow: Workflow, principal: Principal) -> WorkflowBody:
    """Return `workflow` without its jobs."""
    return WorkflowBody(
        id=workflow.id,
        organization_id=principal.organization_id,
        name=workflow.name,
        description=workflow.description,
        status=workflow.status.name.lower(),
        total_jobs=workflow.total_jobs,
        completed_jobs=workflow.completed_jobs,
        failed_jobs=workflow.failed_jobs,
        progress_percent=_percent(workflow),
        created_at=format_timestamp(workflow.created_at),
        started_at=format_optional(workflow.started_at),
        completed_at=format_optional(workflow.completed_at),
        metadata=_raw(workflow.metadata),
    )


def workflow_detail_body(detail: WorkflowDetail, principal: Principal) -> WorkflowDetailBody:
    """Return a workflow with its jobs and what they wait for."""
    head = workflow_body(detail.workflow, principal)
    words = [status_word(step.job.state) for step in detail.steps]
    return WorkflowDetailBody(
        **{name: getattr(head, name) for name in WorkflowBody.__struct_fields__},
        progress=ProgressBody(
            total=head.total_jobs,
            completed=head.completed_jobs,
            failed=head.failed_jobs,
            pending=words.count("pending") + words.count("scheduled"),
            processing=words.count("processing"),
        ),
        jobs=step_bodies(detail, principal),
        dependencies=[
            EdgeBody(parent_job_id=edge.depends_on, child_job_id=edge.job_id, dependency_type=_SUCCESS)
            for edge in detail.edges
        ],
    )


def step_bodies(detail: WorkflowDetail, principal: Principal) -> list[StepBody]:
    """Return the jobs of a workflow."""
    depends_on = _depends_on(detail.edges)
    return [
        _step_body(step, depends_on.get(step.job.id, []), detail.workflow.id, principal)
        for step in detail.steps
    ]


def step_status_bodies(detail: WorkflowDetail) -> list[StepStatusBody]:
    """Return how the jobs of a workflow stand."""
    depends_on = _depends_on(detail.edges)
    return [
        StepStatusBody(
            key=step.key,
            job_id=step.job.id,
            status=status_word(step.job.state),
            depends_on=depends_on.get(step.job.id, []),
        )
        for step in detail.steps
    ]


def dependencies_body(found: Dependencies) -> DependenciesBody:
    """Return what a job waits for, and what waits for it."""
    return DependenciesBody(
        job_id=found.job.id,
        status=status_word(found.job.state),
        dependencies=[_neighbour_body(each) for each in found.depends_on],
        dependents=[_neighbour_body(each) for each in found.dependents],
        dependency_mode=found.job.dependency_mode.name.lower(),
        dependencies_met=found.job.unmet == 0,
    )


def dependencies_added_body(job_id: UUID, added: DependenciesAdded) -> DependenciesAddedBody:
    """Return what adding dependencies came to."""
    return DependenciesAddedBody(
        success=True,
        job_id=job_id,
        dependencies_added=added.added,
        added_count=added.added,
        added=added.added,
        dependencies_met=added.is_met,
    )


def _percent(workflow: Workflow) -> float:
    return workflow.completed_jobs / workflow.total_jobs * 100 if workflow.total_jobs else 0.0


def _depends_on(edges: list[Edge]) -> dict[UUID, list[UUID]]:
    found: dict[UUID, list[UUID]] = {}
    for edge in edges:
        found.setdefault(edge.job_id, []).append(edge.depends_on)
    return found


def _step_body(step: Step, depends_on: list[UUID], workflow_id: UUID, principal: Principal) -> StepBody:
    job = step.job
    return StepBody(
        id=job.id,
        organization_id=principal.organization_id,
        workflow_id=workflow_id,
        key=step.key,
        queue=job.queue,
        queue_name=job.queue,
        status=status_word(job.state),
        job_type=job.job_type,
        payload=Raw(job.payload),
        priority=job.priority,
        attempt=job.retry_count,
        max_retries=job.max_retries,
        timeout_ms=job.timeout_seconds * 1000,
        timeout_seconds=job.timeout_seconds,
        backoff_type="exponential",
        depends_on=depends_on,
        dependency_mode=job.dependency_mode.name.lower(),
        created_at=format_timestamp(job.created_at),
        scheduled_at=format_optional(job.run_at),
        started_at=format_optional(job.started_at),
        completed_at=format_optional(job.completed_at),
        result=_raw(job.result),
        error=_error_of(job),
        metadata=_raw(job.tags),
        parent_job_id=job.parent_job_id,
    )


def _error_of(job: Job) -> StepErrorBody | None:
    if job.last_error is None:
        return None
    return StepErrorBody(type="JobError", message=job.last_error, stack=None)


def _neighbour_body(neighbour: Neighbour) -> NeighbourBody:
    return NeighbourBody(
        job_id=neighbour.id,
        queue_name=neighbour.queue,
        status=status_word(neighbour.state),
        completed=neighbour.state is JobState.COMPLETED,
        dependency_type=_SUCCESS,
    )


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text)
