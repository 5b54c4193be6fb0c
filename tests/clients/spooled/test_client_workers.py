"""Every method of the published client's `workers` and `health` resources."""

from __future__ import annotations

import uuid

import pytest
from spooled import AsyncSpooledClient, ConflictError, NotFoundError
from spooled.types.workers import RegisterWorkerParams, WorkerHeartbeatParams

from tests.api.spooled.wire import Api, a_queue, answered


async def test_register_and_get(client: AsyncSpooledClient) -> None:
    queue, worker_id = a_queue(), f"stable-{uuid.uuid4().hex}"
    params = RegisterWorkerParams(
        queue_name=queue,
        hostname="host.example",
        worker_id=worker_id,
        worker_type="python",
        max_concurrency=12,
        metadata={"camelCase": [1]},
        version="9.9",
    )
    made = await client.workers.register(params)
    assert (made.id, made.queue_name) == (worker_id, queue)
    assert (made.lease_duration_secs, made.heartbeat_interval_secs) == (30, 10)
    worker = await client.workers.get(worker_id)
    assert (worker.id, worker.queue_name, worker.queue_names) == (worker_id, queue, [queue])
    assert (worker.hostname, worker.worker_type, worker.version) == ("host.example", "python", "9.9")
    assert (worker.max_concurrency, worker.current_jobs, worker.status) == (12, 0, "healthy")
    assert worker.metadata == {"camelCase": [1]}
    assert (worker.jobs_processed, worker.jobs_failed) == (0, 0)
    assert worker.organization_id
    assert worker.registered_at is not None
    assert worker.updated_at is not None
    assert worker.last_heartbeat >= worker.registered_at
    again = await client.workers.register({"queue_name": queue, "hostname": "other", "worker_id": worker_id})
    assert again.id == worker_id
    assert (await client.workers.get(worker_id)).registered_at == worker.registered_at


async def test_register_without_an_id(client: AsyncSpooledClient) -> None:
    made = [await client.workers.register({"queue_name": "q", "hostname": "h"}) for _ in range(2)]
    assert made[0].id != made[1].id
    assert uuid.UUID(made[0].id)


async def test_list(own_client: AsyncSpooledClient) -> None:
    assert await own_client.workers.list() == []
    first = await own_client.workers.register({"queue_name": "q", "hostname": "one", "max_concurrency": 3})
    second = await own_client.workers.register({"queue_name": "q", "hostname": "two"})
    rows = await own_client.workers.list()
    assert [(row.id, row.hostname) for row in rows] == [(second.id, "two"), (first.id, "one")]
    row = rows[1]
    assert (row.queue_name, row.status, row.current_jobs, row.max_concurrency) == ("q", "healthy", 0, 3)
    assert (row.jobs_processed, row.jobs_failed) == (0, 0)


@pytest.mark.parametrize("status", ["healthy", "degraded", "draining", "offline"])
async def test_heartbeat(client: AsyncSpooledClient, status: str) -> None:
    made = await client.workers.register({"queue_name": "q", "hostname": "h"})
    before = await client.workers.get(made.id)
    params = WorkerHeartbeatParams.model_validate({"current_jobs": 4, "status": status, "metadata": {"n": 1}})
    assert await client.workers.heartbeat(made.id, params) is None
    worker = await client.workers.get(made.id)
    assert (worker.status, worker.current_jobs, worker.metadata) == (status, 4, {"n": 1})
    assert worker.last_heartbeat > before.last_heartbeat
    assert await client.workers.heartbeat(made.id, {"current_jobs": 0}) is None
    assert (await client.workers.get(made.id)).status == "healthy"


async def test_deregister(client: AsyncSpooledClient) -> None:
    made = await client.workers.register({"queue_name": "q", "hostname": "h"})
    assert await client.workers.deregister(made.id) is None
    assert (await client.workers.get(made.id)).status == "offline"
    assert await client.workers.deregister(made.id) is None


async def test_an_unknown_worker_is_not_found(client: AsyncSpooledClient) -> None:
    unknown = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        await client.workers.get(unknown)
    with pytest.raises(NotFoundError):
        await client.workers.heartbeat(unknown, {"current_jobs": 0})
    with pytest.raises(NotFoundError):
        await client.workers.deregister(unknown)


async def test_a_worker_id_of_another_organization_is_a_conflict(
    api: Api, own_client: AsyncSpooledClient
) -> None:
    params = {"queue_name": "q", "hostname": "h", "worker_id": f"stable-{uuid.uuid4().hex}"}
    answered(api.post("/workers/register", params), 201)
    with pytest.raises(ConflictError) as caught:
        await own_client.workers.register(params)
    assert caught.value.code == "CONFLICT"


async def test_health(client: AsyncSpooledClient) -> None:
    health = await client.health.get()
    assert (health.status, health.database, health.cache) == ("healthy", True, True)
    assert await client.health.liveness() is True
    assert await client.health.readiness() is True
