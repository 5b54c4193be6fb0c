"""`client.workflows` on the live server."""

import pytest

from millstream import (
    AsyncClient,
    Client,
    Conflict,
    JobStatus,
    NewStep,
    NotFound,
    ValidationFailed,
    WorkflowStatus,
)


async def test_a_workflow_runs_step_by_step(client: AsyncClient) -> None:
    created = await client.workflows.create(
        "nightly",
        [
            NewStep(key="fetch", queue="q", payload={"n": 1}, max_retries=0),
            NewStep(key="report", queue="q", payload=[2], depends_on=["fetch"], mode="any", priority=5),
        ],
        description="every night",
        metadata={"team": "data"},
    )
    assert (created.name, [step.key for step in created.jobs]) == ("nightly", ["fetch", "report"])
    [job] = await client.jobs.claim("q", worker_id="w", limit=5)
    await client.jobs.fail(job.id, error="no luck", lease_id=job.lease_id, worker_id="w")
    failed = await client.workflows.get(created.id)
    assert (failed.status, failed.failed_jobs) == (WorkflowStatus.FAILED, 1)
    assert failed.jobs[0].error is not None
    assert failed.jobs[0].error.message == "no luck"
    retried = await client.workflows.retry(created.id)
    assert retried.status is WorkflowStatus.RUNNING
    for _ in range(2):
        [job] = await client.jobs.claim("q", worker_id="w")
        await client.jobs.complete(job.id, lease_id=job.lease_id, worker_id="w", result=[job.payload])
    done = await client.workflows.get(created.id)
    assert (done.status, done.progress_percent, done.description) == (
        WorkflowStatus.COMPLETED,
        100,
        "every night",
    )
    assert done.metadata == {"team": "data"}
    report = done.jobs[1]
    assert (report.status, report.result, report.mode) == (JobStatus.COMPLETED, [[2]], "any")
    assert report.depends_on == [created.jobs[0].job_id]
    with pytest.raises(Conflict):
        await client.workflows.cancel(created.id)


def test_the_blocking_client_has_workflows_too(blocking_client: Client) -> None:
    steps = [NewStep(key="a", queue="q", payload=None), NewStep(key="b", queue="q", payload=None)]
    created = blocking_client.workflows.create("two", steps)
    first, second = (step.job_id for step in created.jobs)
    assert blocking_client.workflows.add_dependencies(second, [first]) == 1
    waits = blocking_client.workflows.dependencies(second)
    assert ([each.job_id for each in waits.depends_on], waits.is_met) == ([first], False)
    [listed] = blocking_client.workflows.list(status=WorkflowStatus.PENDING)
    assert (listed.id, listed.total_jobs) == (created.id, 2)
    assert blocking_client.workflows.cancel(created.id).status is WorkflowStatus.CANCELLED
    with pytest.raises(ValidationFailed, match="circle"):
        blocking_client.workflows.create("c", [NewStep(key="a", queue="q", payload=1, depends_on=["a"])])
    with pytest.raises(NotFound):
        blocking_client.workflows.get("nothing")
