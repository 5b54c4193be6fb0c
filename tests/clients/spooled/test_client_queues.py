"""Every method of the published client's `queues` resource."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from spooled import AsyncSpooledClient, ConflictError, NotFoundError
from spooled.types.queues import UpdateQueueConfigParams

from tests.api.spooled.wire import a_queue


async def test_update_config_and_get(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    params = UpdateQueueConfigParams(
        max_retries=7, default_timeout=60, rate_limit=5, enabled=True, settings={"camelCase": [1]}
    )
    made = await client.queues.update_config(queue, params)
    assert (made.queue_name, made.max_retries, made.default_timeout) == (queue, 7, 60)
    assert (made.rate_limit, made.enabled, made.settings) == (5, True, {"camelCase": [1]})
    assert made.id
    assert made.organization_id
    assert await client.queues.get(queue) == made
    changed = await client.queues.update_config(queue, {"max_retries": 1})
    assert (changed.max_retries, changed.default_timeout, changed.rate_limit) == (1, 60, 5)
    assert changed.settings == {"camelCase": [1]}
    assert (changed.id, changed.created_at) == (made.id, made.created_at)
    assert changed.updated_at >= made.updated_at


async def test_list(own_client: AsyncSpooledClient) -> None:
    assert await own_client.queues.list() == []
    await own_client.queues.update_config("b", {"max_retries": 2})
    await own_client.queues.pause("a")
    rows = await own_client.queues.list()
    assert [(row.queue_name, row.enabled, row.max_retries) for row in rows] == [
        ("a", False, 3),
        ("b", True, 2),
    ]
    assert [(row.default_timeout, row.rate_limit) for row in rows] == [(300, None), (300, None)]


async def test_get_stats(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    empty = await client.queues.get_stats(queue)
    assert (empty.queue_name, empty.pending_jobs, empty.processing_jobs) == (queue, 0, 0)
    assert (empty.avg_processing_time_ms, empty.max_job_age_seconds) == (None, None)
    for _ in range(3):
        await client.jobs.create({"queue_name": queue, "payload": {}})
    first, _ = (await client.jobs.claim({"queue_name": queue, "worker_id": "w", "limit": 2})).jobs
    await client.jobs.complete(first.id, {"worker_id": "w", "lease_id": first.lease_id})
    await client.workers.register({"queue_name": queue, "hostname": "h"})
    stats = await client.queues.get_stats(queue)
    assert (stats.pending_jobs, stats.processing_jobs, stats.completed_jobs_24h) == (1, 1, 1)
    assert (stats.failed_jobs_24h, stats.active_workers) == (0, 1)
    assert stats.avg_processing_time_ms is not None
    assert stats.max_job_age_seconds is not None


async def test_pause_and_resume(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    job = await client.jobs.create({"queue_name": queue, "payload": {}})
    before = datetime.now(UTC) - timedelta(minutes=1)
    paused = await client.queues.pause(queue, "deploy")
    assert (paused.queue_name, paused.paused, paused.reason) == (queue, True, "deploy")
    assert paused.paused_at > before
    assert (await client.jobs.claim({"queue_name": queue, "worker_id": "w"})).jobs == []
    config = await client.queues.get(queue)
    assert config.enabled is False
    assert config.settings["paused_reason"] == "deploy"
    assert (await client.queues.pause(queue)).reason is None
    resumed = await client.queues.resume(queue)
    assert (resumed.queue_name, resumed.resumed) == (queue, True)
    assert resumed.paused_duration_secs >= 0
    assert [job.id] == [
        taken.id for taken in (await client.jobs.claim({"queue_name": queue, "worker_id": "w"})).jobs
    ]


async def test_delete(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    await client.queues.update_config(queue, {"max_retries": 1})
    job = await client.jobs.create({"queue_name": queue, "payload": {}})
    with pytest.raises(ConflictError):
        await client.queues.delete(queue)
    assert await client.queues.delete(queue, delete_jobs=True) is None
    with pytest.raises(NotFoundError):
        await client.queues.get(queue)
    with pytest.raises(NotFoundError):
        await client.jobs.get(job.id)
    await client.queues.update_config(queue, {"max_retries": 1})
    assert await client.queues.delete(queue) is None
