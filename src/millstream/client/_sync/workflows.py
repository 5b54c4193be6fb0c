"""Workflows: jobs that wait for one another."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from millstream.client._sync.transport import Transport
from millstream.client.requests import body_of, query_of, segment
from millstream.client.types import (
    CreatedWorkflow,
    JobDependencies,
    NewStep,
    Workflow,
    WorkflowStatus,
    WorkflowSummary,
)
from millstream.client.types.workflows import Mode


class _Added(msgspec.Struct):
    dependencies_added: int


@dataclass(frozen=True, slots=True)
class Workflows:
    """`client.workflows`."""

    _transport: Transport

    def create(
        self, name: str, steps: Sequence[NewStep], *, description: str | None = None, metadata: object = None
    ) -> CreatedWorkflow:
        """Create a workflow with all its jobs, or nothing of it.

        Raises ValidationFailed for keys that are unknown, used twice or wait for each other in a circle, and QuotaExceeded.
        Contract: spooled-jobs 7.1.
        """
        body = body_of(name=name, jobs=list(steps), description=description, metadata=metadata)
        return self._transport.call(CreatedWorkflow, "POST", "/api/v1/workflows", body=body)

    def list(
        self, *, status: WorkflowStatus | None = None, limit: int = 50, offset: int = 0
    ) -> list[WorkflowSummary]:
        """Return one page (`limit` up to 100), the newest first. Contract: spooled-jobs 7.2."""
        params = query_of(status=status, limit=limit, offset=offset)
        return self._transport.call(list[WorkflowSummary], "GET", "/api/v1/workflows", params=params)

    def get(self, workflow_id: str) -> Workflow:
        """Return a workflow with its jobs. Raises NotFound. Contract: spooled-jobs 7.3."""
        return self._transport.call(Workflow, "GET", f"/api/v1/workflows/{segment(workflow_id)}")

    def cancel(self, workflow_id: str) -> WorkflowSummary:
        """Cancel a workflow and those of its jobs that nobody works on; again changes nothing.

        Raises NotFound, or Conflict once it is completed or failed. Contract: spooled-jobs 7.4.
        """
        path = f"/api/v1/workflows/{segment(workflow_id)}/cancel"
        return self._transport.call(WorkflowSummary, "POST", path, replay_safe=True)

    def retry(self, workflow_id: str) -> WorkflowSummary:
        """Retry the failed jobs of a failed workflow with a fresh count of retries. Contract: spooled-jobs 7.4."""
        path = f"/api/v1/workflows/{segment(workflow_id)}/retry"
        return self._transport.call(WorkflowSummary, "POST", path)

    def dependencies(self, job_id: str) -> JobDependencies:
        """Return what a job, of a workflow or not, waits for, and what waits for it. Raises NotFound."""
        path = f"/api/v1/jobs/{segment(job_id)}/dependencies"
        return self._transport.call(JobDependencies, "GET", path)

    def add_dependencies(self, job_id: str, depends_on: Sequence[str], *, mode: Mode = "all") -> int:
        """Make a job that has not begun wait for up to 100 others too; returns how many of them are new.

        `mode` is the whole job's from then on. Raises NotFound, or Conflict when it has begun. Contract: spooled-jobs 7.5.
        """
        body = body_of(depends_on=list(depends_on), dependency_mode=mode)
        path = f"/api/v1/jobs/{segment(job_id)}/dependencies"
        answer = self._transport.call(_Added, "POST", path, body=body, replay_safe=True)
        return answer.dependencies_added
