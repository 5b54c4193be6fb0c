"""Every method of the published client's `jobs` resource."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from spooled import AsyncSpooledClient
from spooled.types.jobs import BulkEnqueueParams, ClaimJobsParams, CreateJobParams, ListJobsParams

from tests.api.spooled.wire import a_queue

WORKER = "client-worker"


async def take(client: AsyncSpooledClient, queue: str, **fields: object) -> tuple[str, str]:
    """A fresh job, claimed: its id and its lease."""
    await client.jobs.create({"queue_name": queue, "payload": {}, **fields})
    (job,) = (await client.jobs.claim({"queue_name": queue, "worker_id": WORKER})).jobs
    assert job.lease_id is not None
    return job.id, job.lease_id


async def test_create_and_get(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    made = await client.jobs.create({"queue_name": queue, "payload": {"camelCase": {"Ünï": [1, None]}}})
    assert made.created is True
    job = await client.jobs.get(made.id)
    assert (job.id, job.queue_name, job.status) == (made.id, queue, "pending")
    assert job.payload == {"camelCase": {"Ünï": [1, None]}}
    assert (job.priority, job.retry_count, job.max_retries, job.timeout_seconds) == (0, 0, 3, 300)
    assert job.created_at.utcoffset() == timedelta(0)
    assert job.updated_at == job.created_at
    unset = (job.result, job.last_error, job.started_at, job.completed_at, job.scheduled_at, job.expires_at)
    assert unset == (None,) * 6
    assert (job.assigned_worker_id, job.lease_id, job.lease_expires_at) == (None, None, None)
    assert (job.tags, job.parent_job_id, job.completion_webhook, job.workflow_id) == (None,) * 4


async def test_create_and_get_with_every_option(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    parent = await client.jobs.create({"queue_name": queue, "payload": 0})
    later = datetime.now(UTC) + timedelta(days=2)
    params = CreateJobParams(
        queue_name=queue,
        payload=["any", 2**60],
        priority=-7,
        max_retries=9,
        timeout_seconds=12,
        scheduled_at=later,
        expires_at=later + timedelta(hours=1),
        idempotency_key=uuid.uuid4().hex,
        tags={"urgent": True},
        parent_job_id=parent.id,
        completion_webhook="http://127.0.0.1:9/done",
        completion_webhook_secret="hush",
    )
    job = await client.jobs.create_and_get(params)
    assert job.status == "scheduled"
    sent = params.model_dump(exclude={"completion_webhook_secret"})
    assert {name: getattr(job, name) for name in sent} == sent


async def test_a_naive_time_is_taken_as_utc(client: AsyncSpooledClient) -> None:
    naive = datetime(2999, 1, 1, 12, 0, 0, 123456)  # noqa: DTZ001 - that is the case
    job = await client.jobs.create_and_get({"queue_name": a_queue(), "payload": {}, "scheduled_at": naive})
    assert job.scheduled_at == naive.replace(tzinfo=UTC)


async def test_an_idempotency_key_makes_one_job(client: AsyncSpooledClient) -> None:
    params = {"queue_name": a_queue(), "payload": 1, "idempotency_key": uuid.uuid4().hex}
    first = await client.jobs.create(params)
    second = await client.jobs.create({**params, "payload": 2})
    assert (second.id, first.created, second.created) == (first.id, True, False)
    assert (await client.jobs.get(first.id)).payload == 1


async def test_values_left_out_come_from_the_queue(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    await client.queues.update_config(queue, {"max_retries": 8, "default_timeout": 44})
    job = await client.jobs.create_and_get({"queue_name": queue, "payload": {}})
    assert (job.max_retries, job.timeout_seconds) == (8, 44)


async def test_list_pages_and_filters(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    made = [
        (await client.jobs.create({"queue_name": queue, "payload": {"job_type": kind}, "tags": [kind]})).id
        for kind in ("mail", "mail", "sms")
    ]
    page = await client.jobs.list({"queue_name": queue, "limit": 2})
    assert [row.id for row in page] == made[:0:-1]
    assert page.has_more is True
    last = await client.jobs.list(ListJobsParams(queue_name=queue, limit=2, offset=2))
    assert [row.id for row in last] == made[:1]
    assert last.has_more is False
    row = last[0]
    assert (row.queue_name, row.status, row.priority, row.retry_count) == (queue, "pending", 0, 0)
    assert (row.max_retries, row.job_type, row.last_error) == (3, "mail", None)

    async def ids(**params: object) -> list[str]:
        rows = await client.jobs.list({"queue_name": queue, "order_dir": "asc", **params})
        return [row.id for row in rows]

    assert await ids(job_type="mail") == made[:2]
    assert await ids(tag="sms") == made[2:]
    assert await ids(q=made[1]) == [made[1]]
    await client.jobs.cancel(made[0])
    assert await ids(status="cancelled") == made[:1]
    assert await ids(status=["pending", "cancelled"]) == made
    assert await ids(status="failed,pending") == made[1:]
    second = (await client.jobs.get(made[1])).created_at
    assert await ids(created_after=second) == made[1:]
    assert await ids(created_before=second) == made[:1]
    assert await ids(created_after=second.replace(tzinfo=None)) == made[1:]
    offset = second.astimezone(tz=None)
    assert await ids(created_after=offset, order_by="priority") == made[1:]


async def test_a_list_of_nothing_is_empty(own_client: AsyncSpooledClient) -> None:
    page = await own_client.jobs.list()
    assert page == []
    assert page.has_more is False


async def test_history(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    job_id, lease = await take(client, queue)
    await client.jobs.complete(job_id, {"worker_id": WORKER, "lease_id": lease})
    events = await client.jobs.history(job_id)
    assert [event.event_type for event in events] == ["created", "claimed", "completed"]
    assert {event.job_id for event in events} == {job_id}
    assert events[1].worker_id == WORKER
    assert events.has_more is False
    assert [event.created_at for event in events] == sorted(event.created_at for event in events)
    newest = await client.jobs.history(job_id, {"order_dir": "desc", "limit": 1, "offset": 1})
    assert [event.id for event in newest] == [events[1].id]
    assert newest.has_more is True


async def test_cancel(client: AsyncSpooledClient) -> None:
    made = await client.jobs.create({"queue_name": a_queue(), "payload": {}})
    assert await client.jobs.cancel(made.id) is None
    assert (await client.jobs.get(made.id)).status == "cancelled"


async def test_retry(client: AsyncSpooledClient) -> None:
    job_id, lease = await take(client, a_queue(), max_retries=0)
    failed = await client.jobs.fail(job_id, {"worker_id": WORKER, "error": "boom", "lease_id": lease})
    assert failed.success is True
    dead = await client.jobs.get(job_id)
    assert (dead.status, dead.last_error, dead.lease_id) == ("deadletter", "boom", None)
    job = await client.jobs.retry(job_id)
    assert (job.id, job.status, job.retry_count, job.last_error) == (job_id, "pending", 1, None)


async def test_boost_priority(client: AsyncSpooledClient) -> None:
    made = await client.jobs.create({"queue_name": a_queue(), "payload": {}, "priority": 1})
    boosted = await client.jobs.boost_priority(made.id, 99)
    assert (boosted.job_id, boosted.old_priority, boosted.new_priority) == (made.id, 1, 99)
    assert (await client.jobs.get(made.id)).priority == 99


async def test_get_stats(own_client: AsyncSpooledClient) -> None:
    await own_client.jobs.create({"queue_name": "a", "payload": {}})
    await own_client.jobs.create(
        {"queue_name": "a", "payload": {}, "scheduled_at": datetime.now(UTC) + timedelta(days=1)}
    )
    await take(own_client, "b")
    stats = await own_client.jobs.get_stats()
    assert (stats.pending, stats.scheduled, stats.processing, stats.total) == (1, 1, 1, 3)
    assert (stats.completed, stats.failed, stats.deadletter, stats.cancelled) == (0, 0, 0, 0)


async def test_batch_status(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    ids = [(await client.jobs.create({"queue_name": queue, "payload": n})).id for n in range(3)]
    rows = await client.jobs.batch_status([ids[2], str(uuid.uuid4()), ids[0]])
    assert [(row.id, row.status, row.queue_name, row.retry_count) for row in rows] == [
        (ids[2], "pending", queue, 0),
        (ids[0], "pending", queue, 0),
    ]
    assert rows[0].completed_at is None
    assert await client.jobs.batch_status([]) == []


async def test_bulk_enqueue(client: AsyncSpooledClient) -> None:
    queue, key = a_queue(), uuid.uuid4().hex
    answer = await client.jobs.bulk_enqueue(
        BulkEnqueueParams.model_validate(
            {
                "queue_name": queue,
                "jobs": [
                    {"payload": {"n": 0}, "idempotency_key": key},
                    {"payload": {"n": 1}, "priority": 5},
                    {"payload": {"n": 2}, "scheduled_at": datetime.now(UTC) + timedelta(days=1)},
                    {"payload": {"n": 3}, "idempotency_key": key},
                    {"payload": {"n": 4}, "priority": 1000},
                ],
                "default_priority": 2,
                "default_max_retries": 6,
                "default_timeout_seconds": 33,
            }
        )
    )
    assert (answer.total, answer.success_count, answer.failure_count) == (5, 4, 1)
    assert [(item.index, item.created) for item in answer.succeeded] == [
        (0, True),
        (1, True),
        (2, True),
        (3, False),
    ]
    assert [item.index for item in answer.failed] == [4]
    assert answer.failed[0].error
    jobs = [await client.jobs.get(item.job_id) for item in answer.succeeded[:3] if item.job_id]
    assert [(job.priority, job.max_retries, job.timeout_seconds) for job in jobs] == [
        (2, 6, 33),
        (5, 6, 33),
        (2, 6, 33),
    ]
    assert [job.status for job in jobs] == ["pending", "pending", "scheduled"]


async def test_claim_heartbeat_complete(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    for n in range(3):
        await client.jobs.create({"queue_name": queue, "payload": n, "priority": n, "timeout_seconds": 9})
    params = ClaimJobsParams(queue_name=queue, worker_id=WORKER, limit=2, lease_duration_secs=5)
    first, second = (await client.jobs.claim(params)).jobs
    assert (first.payload, second.payload) == (2, 1)
    assert (first.queue_name, first.retry_count, first.max_retries, first.timeout_seconds) == (queue, 0, 3, 9)
    assert first.lease_id
    assert first.lease_expires_at is not None
    renewal = {"worker_id": WORKER, "lease_id": first.lease_id, "lease_duration_secs": 300}
    assert await client.jobs.heartbeat(first.id, renewal) is None
    running = await client.jobs.get(first.id)
    assert (running.status, running.assigned_worker_id, running.lease_id) == (
        "processing",
        WORKER,
        first.lease_id,
    )
    assert running.lease_expires_at is not None
    assert running.lease_expires_at > first.lease_expires_at + timedelta(seconds=200)
    result = {"camelCase": [1, {"x": None}]}
    done = await client.jobs.complete(
        first.id, {"worker_id": WORKER, "lease_id": first.lease_id, "result": result}
    )
    assert done.success is True
    job = await client.jobs.get(first.id)
    assert (job.status, job.result) == ("completed", result)
    assert job.started_at is not None
    assert job.completed_at is not None
    assert job.started_at <= job.completed_at


async def test_fail_plans_another_attempt(client: AsyncSpooledClient) -> None:
    job_id, lease = await take(client, a_queue())
    assert (await client.jobs.fail(job_id, {"worker_id": WORKER, "error": "boom", "lease_id": lease})).success
    job = await client.jobs.get(job_id)
    assert (job.status, job.retry_count, job.last_error) == ("pending", 1, "boom")
    assert job.scheduled_at is not None
    assert job.updated_at is not None
    assert job.scheduled_at > job.updated_at


async def test_acknowledgements_without_a_lease(client: AsyncSpooledClient) -> None:
    job_id, _ = await take(client, a_queue())
    await client.jobs.heartbeat(job_id, {"worker_id": WORKER})
    assert (await client.jobs.complete(job_id, {"worker_id": WORKER})).success is True


async def test_concurrent_claims_share_out_the_jobs(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    await client.jobs.bulk_enqueue({"queue_name": queue, "jobs": [{"payload": n} for n in range(20)]})
    calls = [client.jobs.claim({"queue_name": queue, "worker_id": f"w-{n}", "limit": 6}) for n in range(6)]
    taken = [job.payload for answer in await asyncio.gather(*calls) for job in answer.jobs]
    assert sorted(taken) == list(range(20))


@pytest.mark.parametrize("payload", [0, False, "", [], "text", [1, {"a": None}], {}, 2**53 + 1, 1.25, "👩‍🚀"])
async def test_payloads_and_results_are_any_json(client: AsyncSpooledClient, payload: object) -> None:
    queue = a_queue()
    await client.jobs.create({"queue_name": queue, "payload": payload})
    (job,) = (await client.jobs.claim({"queue_name": queue, "worker_id": WORKER})).jobs
    assert job.payload == payload
    await client.jobs.complete(job.id, {"worker_id": WORKER, "lease_id": job.lease_id, "result": payload})
    assert (await client.jobs.get(job.id)).result == payload
