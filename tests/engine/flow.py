"""Workflows for tests: built from keys, told by keys."""

from uuid import UUID

from millstream.domain.job import DependencyMode, JobState, NewJob
from millstream.domain.workflow import NewStep, NewWorkflow, Workflow, WorkflowStatus
from tests.engine.work import Work, lease_of


def new_workflow(modes: dict[str, DependencyMode] | None = None, /, **deps: str) -> NewWorkflow:
    """Return a workflow whose jobs, without retries, have keys of one character: `new_workflow(a="", b="a", c="ab")`."""
    return NewWorkflow(
        name="flow",
        steps=tuple(
            NewStep(
                key=key,
                job=NewJob(queue="q", payload="{}", max_retries=0),
                depends_on=tuple(others),
                mode=(modes or {}).get(key, DependencyMode.ALL),
            )
            for key, others in deps.items()
        ),
    )


class Flow:
    """A workflow at work."""

    def __init__(self, work: Work, workflow_id: UUID, ids: dict[str, UUID]) -> None:
        self.work = work
        self.id = workflow_id
        self.ids = ids

    @classmethod
    async def create(cls, work: Work, new: NewWorkflow) -> "Flow":
        made = await work.engine.workflows.create(work.principal, new)
        keys = [step.key for step in new.steps]
        return cls(work, made.id, dict(zip(keys, made.job_ids, strict=True)))

    async def claim(self) -> str:
        """Claim everything that is ready; returns the keys in their order."""
        claimed = await self.work.claim(limit=100)
        self.leases = {**getattr(self, "leases", {}), **{job.id: lease_of(job) for job in claimed}}
        keys = {job_id: key for key, job_id in self.ids.items()}
        return "".join(keys[job.id] for job in claimed)

    async def complete(self, *keys: str) -> None:
        for key in keys:
            await self.work.complete(self.leases[self.ids[key]])

    async def fail(self, *keys: str) -> None:
        for key in keys:
            await self.work.fail(self.leases[self.ids[key]])

    async def get(self) -> Workflow:
        return await self.work.engine.workflows.get(self.work.principal, self.id)

    async def status(self) -> WorkflowStatus:
        return (await self.get()).status

    async def states(self) -> dict[str, JobState]:
        detail = await self.work.engine.workflows.detail(self.work.principal, self.id)
        return {step.key: step.job.state for step in detail.steps}
