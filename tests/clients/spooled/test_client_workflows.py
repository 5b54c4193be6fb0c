"""Every method of the published client's `workflows` and `dashboard` resources."""

from __future__ import annotations

from typing import Any

import pytest
from spooled import AsyncSpooledClient, ConflictError, NotFoundError, SpooledError
from spooled.types.workflows import CreateWorkflowParams, WorkflowJobDefinition

from tests.api.spooled.wire import UNKNOWN_ID, a_queue


def diamond(queue: str, **options: Any) -> dict[str, Any]:
    def job(key: str, *depends_on: str) -> dict[str, Any]:
        payload = {"step": key, "job_type": "step"}
        return {"key": key, "queue_name": queue, "payload": payload, "depends_on": [*depends_on], **options}

    jobs = [job("A"), job("B", "A"), job("C", "A"), job("D", "B", "C")]
    return {"name": "diamond (1.0)", "description": "four", "metadata": {"camelCase": [1]}, "jobs": jobs}


async def work(client: AsyncSpooledClient, queue: str, error: str | None = None) -> str | None:
    """Claim one job and settle it; returns what step it was."""
    claimed = (await client.jobs.claim({"queue_name": queue, "worker_id": "w"})).jobs
    if not claimed:
        return None
    [job] = claimed
    lease = {"worker_id": "w", "lease_id": job.lease_id}
    if error is None:
        await client.jobs.complete(job.id, {**lease, "result": {"did": job.payload["step"]}})
    else:
        await client.jobs.fail(job.id, {**lease, "error": error})
    return job.payload["step"]


async def test_a_diamond_from_its_creation_to_its_end(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    made = await client.workflows.create(diamond(queue))
    assert made.status == "pending"
    assert [job.key for job in made.job_ids] == ["A", "B", "C", "D"]
    ids = {job.key: job.job_id for job in made.job_ids}
    waiting = await client.workflows.get(made.workflow_id)
    assert (waiting.name, waiting.description, waiting.status) == ("diamond (1.0)", "four", "pending")
    assert waiting.metadata == {"camelCase": [1]}
    assert (waiting.total_jobs, waiting.completed_jobs, waiting.progress_percent) == (4, 0, 0)
    assert (waiting.started_at, waiting.completed_at) == (None, None)
    assert [await work(client, queue) for _ in range(2)] == ["A", "B"]
    running = await client.workflows.get(made.workflow_id)
    assert (running.status, running.completed_jobs, running.progress_percent) == ("running", 2, 50)
    assert running.started_at is not None
    assert [await work(client, queue) for _ in range(3)] == ["C", "D", None]
    done = await client.workflows.get(made.workflow_id)
    assert (done.status, done.completed_jobs, done.failed_jobs) == ("completed", 4, 0)
    assert (done.progress_percent, done.completed_at is not None) == (100, True)
    found = await client.workflows.jobs.get_dependencies(ids["D"])
    assert {edge.job_id for edge in found.dependencies} == {ids["B"], ids["C"]}
    assert (found.dependency_mode, found.dependencies_met, found.dependents) == ("all", True, [])
    assert all(edge.completed and edge.queue_name == queue for edge in found.dependencies)


async def test_jobs_of_a_workflow(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    made = await client.workflows.create(diamond(queue, max_retries=0, priority=3, timeout_seconds=60))
    await work(client, queue)
    await work(client, queue, error="no luck")
    jobs = await client.workflows.jobs.list(made.workflow_id)
    assert [(job.key, job.status) for job in jobs] == [
        ("A", "completed"),
        ("B", "deadletter"),
        ("C", "pending"),
        ("D", "pending"),
    ]
    first, second, _, last = jobs
    assert (first.result, first.queue_name, first.priority) == ({"did": "A"}, queue, 3)
    assert (first.max_retries, first.timeout_seconds, first.attempt) == (0, 60, 0)
    assert (first.workflow_id, first.payload) == (made.workflow_id, {"step": "A", "job_type": "step"})
    assert second.error is not None
    assert second.error.message == "no luck"
    assert set(last.depends_on or []) == {made.job_ids[1].job_id, made.job_ids[2].job_id}
    assert last.dependency_mode == "all"
    assert await client.workflows.jobs.get(made.workflow_id, first.id) == first
    with pytest.raises(NotFoundError):
        await client.workflows.jobs.get(made.workflow_id, UNKNOWN_ID)
    statuses = await client.workflows.jobs.get_status(made.workflow_id)
    assert [(row.key, row.job_id) for row in statuses] == [(job.key, job.job_id) for job in made.job_ids]
    assert [row.status for row in statuses] == [job.status for job in jobs]


async def test_list(own_client: AsyncSpooledClient) -> None:
    assert await own_client.workflows.list() == []
    first, second = [
        await own_client.workflows.create(
            CreateWorkflowParams(name=name, jobs=[WorkflowJobDefinition(key="k", queue_name="q", payload={})])
        )
        for name in ("first", "second")
    ]
    await own_client.workflows.cancel(first.workflow_id)
    assert [row.id for row in await own_client.workflows.list()] == [second.workflow_id, first.workflow_id]
    assert [row.id for row in await own_client.workflows.list({"status": "cancelled"})] == [first.workflow_id]
    assert [row.id for row in await own_client.workflows.list({"limit": 1, "offset": 1})] == [
        first.workflow_id
    ]


async def test_cancel_and_retry(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    made = await client.workflows.create(diamond(queue, max_retries=0))
    with pytest.raises(SpooledError, match="failed"):
        await client.workflows.retry(made.workflow_id)
    await work(client, queue, error="boom")
    assert (await client.workflows.get(made.workflow_id)).status == "failed"
    with pytest.raises(ConflictError):
        await client.workflows.cancel(made.workflow_id)
    retried = await client.workflows.retry(made.workflow_id)
    assert (retried.status, retried.failed_jobs, retried.completed_at) == ("running", 0, None)
    assert await work(client, queue) == "A"
    cancelled = await client.workflows.cancel(made.workflow_id)
    assert cancelled.status == "cancelled"
    assert (await client.jobs.get(made.job_ids[3].job_id)).status == "cancelled"
    assert (await client.workflows.cancel(made.workflow_id)).completed_at == cancelled.completed_at
    for call in (client.workflows.get, client.workflows.cancel, client.workflows.retry):
        with pytest.raises(NotFoundError):
            await call(UNKNOWN_ID)


async def test_add_dependencies(client: AsyncSpooledClient) -> None:
    queue, other = a_queue(), a_queue()
    first = await client.jobs.create({"queue_name": other, "payload": {"step": "first"}})
    job = await client.jobs.create({"queue_name": queue, "payload": {"step": "job"}})
    added = await client.workflows.jobs.add_dependencies(job.id, {"dependency_job_ids": [first.id]})
    assert (added.added_count, added.dependencies_met, added.job_id) == (1, False, job.id)
    assert (await client.jobs.get(job.id)).dependencies_met is False
    assert await work(client, queue) is None
    assert await work(client, other) == "first"
    assert await work(client, queue) == "job"


async def test_what_can_be_no_workflow_is_refused(client: AsyncSpooledClient) -> None:
    def of(*jobs: dict[str, Any]) -> dict[str, Any]:
        return {"name": "w", "jobs": [{"queue_name": "q", "payload": {}, **job} for job in jobs]}

    for refused, message in (
        (of({"key": "a", "depends_on": ["b"]}), "not a job of this workflow"),
        (of({"key": "a", "depends_on": ["b"]}, {"key": "b", "depends_on": ["a"]}), "a -> b -> a"),
        (of({"key": "a"}, {"key": "a"}), "used twice"),
        (of(), "1 to 100"),
        (of(*({"key": f"k{place}"} for place in range(101))), "1 to 100"),
        ({**of({"key": "a"}), "name": "a/b"}, "name"),
        (of({"key": "a.b"}), "key"),
    ):
        with pytest.raises(SpooledError, match=message) as caught:
            await client.workflows.create(refused)
        assert caught.value.status_code == 400


async def test_the_free_plan_is_without_workflows(free_client: AsyncSpooledClient) -> None:
    with pytest.raises(SpooledError) as caught:
        await free_client.workflows.create({"name": "w", "jobs": []} | diamond("q"))
    assert (caught.value.status_code, caught.value.code) == (403, "FEATURE_DISABLED")


async def test_dashboard(own_client: AsyncSpooledClient) -> None:
    empty = await own_client.dashboard.get()
    assert (empty.jobs.total, empty.queues, empty.workers.total) == (0, [], 0)
    assert empty.jobs.avg_wait_time_ms is None
    assert (empty.system.database_status, empty.system.cache_status) == ("healthy", "healthy")
    assert empty.system.environment == "development"
    assert empty.system.version
    assert empty.system.uptime_seconds >= 0
    for queue, count in (("busy", 3), ("idle", 1)):
        for _ in range(count):
            await own_client.jobs.create({"queue_name": queue, "payload": {"step": 1}, "max_retries": 0})
    await work(own_client, "idle")
    await work(own_client, "busy", error="e")
    await own_client.jobs.claim({"queue_name": "busy", "worker_id": "w"})
    await own_client.queues.pause("busy")
    await own_client.workers.register({"queue_name": "busy", "hostname": "h"})
    seen = await own_client.dashboard.get()
    assert (seen.jobs.total, seen.jobs.pending, seen.jobs.processing) == (4, 1, 1)
    assert (seen.jobs.deadletter, seen.jobs.completed_24h, seen.jobs.failed_24h) == (1, 1, 1)
    assert seen.jobs.avg_wait_time_ms is not None
    assert seen.jobs.avg_processing_time_ms is not None
    assert [(row.name, row.pending, row.processing, row.paused) for row in seen.queues] == [
        ("busy", 1, 1, True),
        ("idle", 0, 0, False),
    ]
    assert (seen.workers.total, seen.workers.healthy, seen.workers.unhealthy) == (1, 1, 0)
    recent = seen.recent_activity
    assert (recent.jobs_created_1h, recent.jobs_completed_1h, recent.jobs_failed_1h) == (4, 1, 1)
