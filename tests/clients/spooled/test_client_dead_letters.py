"""Every method of the published client's `jobs.dlq` resource."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from spooled import AsyncSpooledClient
from spooled.errors import NotFoundError
from spooled.types.jobs import ListDlqParams, PurgeDlqParams, RetryDlqParams

from tests.api.spooled.wire import a_queue


async def bury(client: AsyncSpooledClient, queue: str, **fields: object) -> str:
    await client.jobs.create(
        {"queue_name": queue, "payload": {"job_type": "mail"}, "max_retries": 0, **fields}
    )
    (job,) = (await client.jobs.claim({"queue_name": queue, "worker_id": "w"})).jobs
    await client.jobs.fail(job.id, {"worker_id": "w", "error": "boom", "lease_id": job.lease_id})
    return job.id


async def test_list(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    dead = [await bury(client, queue, tags=[f"t{n}"]) for n in range(3)]
    page = await client.jobs.dlq.list({"queue_name": queue, "limit": 2})
    assert [row.id for row in page] == dead[:0:-1]
    assert page.has_more is True
    row = page[0]
    assert (row.queue_name, row.status, row.last_error, row.job_type) == (queue, "deadletter", "boom", "mail")
    assert (row.retry_count, row.max_retries) == (0, 0)
    rest = await client.jobs.dlq.list(ListDlqParams(queue_name=queue, limit=2, offset=2))
    assert [row.id for row in rest] == dead[:1]
    assert rest.has_more is False
    tagged = await client.jobs.dlq.list(
        {"queue_name": queue, "tag": "t1", "q": queue[:6], "job_type": "mail"}
    )
    assert [row.id for row in tagged] == [dead[1]]
    middle = (await client.jobs.get(dead[1])).created_at
    later = await client.jobs.dlq.list({"queue_name": queue, "created_after": middle, "order_dir": "asc"})
    assert [row.id for row in later] == dead[1:]
    earlier = await client.jobs.dlq.list({"queue_name": queue, "created_before": middle})
    assert [row.id for row in earlier] == dead[:1]


async def test_list_of_nothing(own_client: AsyncSpooledClient) -> None:
    page = await own_client.jobs.dlq.list()
    assert page == []
    assert page.has_more is False


async def test_retry_by_id(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    dead, other = await bury(client, queue), await bury(client, queue)
    answer = await client.jobs.dlq.retry({"job_ids": [dead, str(uuid.uuid4())]})
    assert (answer.retried_count, answer.retried_jobs, answer.skipped_jobs) == (1, [dead], [])
    assert answer.job_ids == [dead]
    job = await client.jobs.get(dead)
    assert (job.status, job.retry_count, job.last_error) == ("pending", 0, None)
    assert (await client.jobs.get(other)).status == "deadletter"


async def test_retry_by_queue(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    dead = [await bury(client, queue) for _ in range(3)]
    answer = await client.jobs.dlq.retry(RetryDlqParams(queue_name=queue, limit=2))
    assert (answer.retried_count, set(answer.retried_jobs)) == (2, set(dead[:2]))


async def test_retry_of_everything(own_client: AsyncSpooledClient) -> None:
    dead = {await bury(own_client, "a"), await bury(own_client, "b")}
    answer = await own_client.jobs.dlq.retry({})
    assert (answer.retried_count, set(answer.retried_jobs)) == (2, dead)
    assert (await own_client.jobs.dlq.retry({})).retried_count == 0


async def test_purge(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    dead = [await bury(client, queue) for _ in range(4)]
    last = (await client.jobs.get(dead[3])).created_at
    purged = await client.jobs.dlq.purge({"confirm": True, "queue_name": queue, "limit": 1})
    assert purged.purged_count == 1
    with pytest.raises(NotFoundError):
        await client.jobs.get(dead[0])
    purged = await client.jobs.dlq.purge(PurgeDlqParams(confirm=True, queue_name=queue, older_than=last))
    assert purged.purged_count == 2
    purged = await client.jobs.dlq.purge({"confirm": True, "queue_name": queue, "older_than_days": 1})
    assert purged.purged_count == 0
    assert [row.id for row in await client.jobs.dlq.list({"queue_name": queue})] == [dead[3]]
    purged = await client.jobs.dlq.purge(
        {"confirm": True, "queue_name": queue, "older_than": last + timedelta(microseconds=1)}
    )
    assert purged.purged_count == 1
