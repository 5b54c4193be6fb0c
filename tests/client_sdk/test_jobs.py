from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from millstream import (
    AsyncClient,
    Complete,
    Conflict,
    Fail,
    JobStatus,
    LeaseLost,
    NewJob,
    NotFound,
    Unauthorized,
    ValidationFailed,
)
from tests.client_sdk.conftest import LiveServer
from tests.client_sdk.line import Line

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


async def test_a_job_is_stored_with_every_option(client: AsyncClient) -> None:
    parent = await client.jobs.enqueue("reports", None)
    run_at = datetime.now(UTC) + timedelta(hours=1)
    expires_at = run_at + timedelta(hours=1)
    payload = {"n": 12345678901234567890, "text": "häh? 💧", "deep": [[{}], None, 1.5, True]}

    enqueued = await client.jobs.enqueue(
        "reports",
        payload,
        priority=7,
        max_retries=9,
        timeout_seconds=60,
        run_at=run_at,
        expires_at=expires_at,
        idempotency_key="once",
        tags={"team": "a"},
        parent_job_id=parent.id,
    )

    job = await client.jobs.get(enqueued.id)
    assert enqueued.created
    assert (job.queue, job.status, job.payload) == ("reports", JobStatus.SCHEDULED, payload)
    assert (job.priority, job.max_retries, job.timeout_seconds, job.retry_count) == (7, 9, 60, 0)
    assert (job.run_at, job.expires_at, job.idempotency_key) == (run_at, expires_at, "once")
    assert (job.tags, job.parent_job_id, job.result, job.worker_id) == ({"team": "a"}, parent.id, None, None)
    assert not job.is_finished


async def test_null_is_a_payload(client: AsyncClient) -> None:
    enqueued = await client.jobs.enqueue("q", None)

    assert (await client.jobs.get(enqueued.id)).payload is None


async def test_a_used_idempotency_key_finds_the_first_job(client: AsyncClient) -> None:
    first = await client.jobs.enqueue("q", 1, idempotency_key="k")

    second = await client.jobs.enqueue("q", 2, idempotency_key="k")

    assert (second.id, second.created) == (first.id, False)
    assert (await client.jobs.get(first.id)).payload == 1


async def test_many_jobs_are_stored_in_requests_of_a_hundred(client: AsyncClient) -> None:
    items = [NewJob({"n": n}, priority=n % 3) for n in range(250)]
    items[130] = NewJob("too important", priority=101)

    answer = await client.jobs.enqueue_many("bulk", iter(items), max_retries=1)

    assert [row.index for row in answer.succeeded] == [n for n in range(250) if n != 130]
    assert [row.index for row in answer.failed] == [130]
    job = await client.jobs.get(answer.succeeded[-1].id)
    assert (job.payload, job.priority, job.max_retries) == ({"n": 249}, 0, 1)
    assert (await client.jobs.stats()).pending == 249
    states = await client.jobs.status([UNKNOWN_ID, *(row.id for row in answer.succeeded)])
    assert states.keys() == {row.id for row in answer.succeeded}
    assert {state.status for state in states.values()} == {JobStatus.PENDING}


async def test_jobs_are_found_by_every_filter(client: AsyncClient) -> None:
    wanted = await client.jobs.enqueue("emails", {"job_type": "welcome"}, tags=["vip"])
    since = (await client.jobs.get(wanted.id)).created_at
    await client.jobs.enqueue("emails", {"job_type": "bill"}, priority=5)
    await client.jobs.enqueue("images", {"job_type": "thumb"}, run_at=since + timedelta(days=1))
    until = since + timedelta(days=1)

    for page in (
        await client.jobs.list(job_type="welcome"),
        await client.jobs.list(tag="vip"),
        await client.jobs.list(search=wanted.id),
        await client.jobs.list(queue="emails", order_by="priority", descending=False, limit=1),
        await client.jobs.list(
            created_after=since, created_before=until, descending=False, limit=1, status=[JobStatus.PENDING]
        ),
    ):
        assert [job.id for job in page] == [wanted.id]
    assert len(await client.jobs.list(created_before=since)) == 0
    assert len(await client.jobs.list(status=[JobStatus.PENDING, JobStatus.SCHEDULED])) == 3


async def test_a_page_tells_whether_there_is_more(client: AsyncClient) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(3)])

    first, rest = await client.jobs.list(limit=2), await client.jobs.list(limit=2, offset=2)

    assert (len(first), first.has_more, len(rest), rest.has_more) == (2, True, 1, False)
    assert {*first, *rest} == {*await client.jobs.list()}


async def test_iteration_sees_every_job_once(client: AsyncClient) -> None:
    stored = await client.jobs.enqueue_many("q", [NewJob(n) for n in range(230)])
    await client.jobs.enqueue("other", None)

    seen = [job.id async for job in client.jobs.iterate(queue="q")]

    assert sorted(seen) == sorted(row.id for row in stored.succeeded)


async def test_iteration_does_not_skip_when_jobs_leave_the_filter(client: AsyncClient) -> None:
    stored = [(await client.jobs.enqueue("q", n)).id for n in range(120)]
    seen: list[str] = []

    async for job in client.jobs.iterate(queue="q", status=JobStatus.PENDING):
        seen.append(job.id)
        await client.jobs.cancel(job.id)

    assert seen == stored


async def test_a_waiting_job_can_be_changed_and_cancelled(client: AsyncClient) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id

    change = await client.jobs.set_priority(job_id, 10)
    await client.jobs.cancel(job_id)

    assert (change.old_priority, change.new_priority) == (0, 10)
    job = await client.jobs.get(job_id)
    assert (job.status, job.priority, job.is_finished) == (JobStatus.CANCELLED, 10, True)
    assert (await client.jobs.history(job_id))[0].event_type == "created"
    with pytest.raises(Conflict):
        await client.jobs.cancel(job_id)


async def test_a_claimed_job_is_completed_with_a_result(client: AsyncClient) -> None:
    stored = await client.jobs.enqueue("q", {"a": [1, 2]})

    [job] = await client.jobs.claim("q", worker_id="w-1", limit=5, lease_seconds=60)
    renewed = await client.jobs.renew(job.id, lease_id=job.lease_id, worker_id="w-1", lease_seconds=600)
    await client.jobs.complete(job.id, lease_id=job.lease_id, worker_id="w-1", result={"ok": [True]})

    assert (job.id, job.attempt, job.payload) == (stored.id, 1, {"a": [1, 2]})
    assert job.payload_as(dict[str, list[int]]) == {"a": [1, 2]}
    with pytest.raises(msgspec.ValidationError):
        job.payload_as(list[int])
    assert renewed - job.lease_expires_at > timedelta(seconds=500)
    finished = await client.jobs.get(job.id)
    assert (finished.status, finished.result) == (JobStatus.COMPLETED, {"ok": [True]})
    assert finished.worker_id == "w-1"


async def test_a_failed_job_comes_back_when_asked_for(client: AsyncClient) -> None:
    await client.jobs.enqueue("q", 1)
    [job] = await client.jobs.claim("q", worker_id="w")

    await client.jobs.fail(job.id, lease_id=job.lease_id, worker_id="w", error="boom", retry_in_seconds=0)

    [again] = await client.jobs.claim("q", worker_id="w", wait_seconds=5)
    assert (again.id, again.attempt) == (job.id, 2)
    assert (await client.jobs.get(job.id)).last_error == "boom"


async def test_a_stale_lease_is_refused(client: AsyncClient) -> None:
    await client.jobs.enqueue("q", 1)
    [job] = await client.jobs.claim("q", worker_id="w")

    with pytest.raises(LeaseLost):
        await client.jobs.complete(job.id, lease_id=UNKNOWN_ID, worker_id="w")
    with pytest.raises(LeaseLost):
        await client.jobs.renew(job.id, lease_id=UNKNOWN_ID, worker_id="w")
    with pytest.raises(NotFound):
        await client.jobs.complete(UNKNOWN_ID, lease_id=job.lease_id, worker_id="w")


async def test_settlements_are_judged_one_by_one(client: AsyncClient) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(3)], max_retries=0)
    first, second, third = await client.jobs.claim("q", worker_id="w", limit=3)

    results = await client.jobs.settle(
        [
            Complete(first.id, first.lease_id, {"n": 1}),
            Complete(second.id, UNKNOWN_ID),
            Fail(third.id, third.lease_id, "no"),
        ],
        worker_id="w",
    )

    assert [(row.job_id, row.success, row.code) for row in results] == [
        (first.id, True, None),
        (second.id, False, "LEASE_EXPIRED"),
        (third.id, True, None),
    ]
    states = await client.jobs.status([first.id, second.id, third.id])
    assert [states[row.id].status for row in (first, second, third)] == [
        JobStatus.COMPLETED,
        JobStatus.PROCESSING,
        JobStatus.DEAD_LETTER,
    ]


async def test_a_completion_whose_answer_is_lost_counts_once(
    client: AsyncClient, client_on_the_line: AsyncClient, line: Line
) -> None:
    await client.jobs.enqueue("q", 1)
    [job] = await client.jobs.claim("q", worker_id="w")

    line.answers_to_lose = 1
    await client_on_the_line.jobs.complete(job.id, lease_id=job.lease_id, worker_id="w", result=1)

    assert line.lost == 1
    assert (await client.jobs.get(job.id)).status is JobStatus.COMPLETED


async def test_an_enqueue_whose_answer_is_lost_stores_one_job(
    client: AsyncClient, client_on_the_line: AsyncClient, line: Line
) -> None:
    line.answers_to_lose = 1

    enqueued = await client_on_the_line.jobs.enqueue("q", 1, idempotency_key="k")

    assert line.lost == 1
    assert [job.id for job in await client.jobs.list()] == [enqueued.id]


async def test_a_cancel_whose_answer_is_lost_is_no_error(
    client: AsyncClient, client_on_the_line: AsyncClient, line: Line
) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id
    line.answers_to_lose = 1

    await client_on_the_line.jobs.cancel(job_id)

    assert line.lost == 1
    assert (await client.jobs.get(job_id)).status is JobStatus.CANCELLED


async def test_dead_letters_are_listed_retried_and_purged(client: AsyncClient) -> None:
    stored = await client.jobs.enqueue_many("q", [NewJob(n) for n in range(3)], max_retries=0)
    for job in await client.jobs.claim("q", worker_id="w", limit=3):
        await client.jobs.fail(job.id, lease_id=job.lease_id, worker_id="w", error="no")
    ids = {row.id for row in stored.succeeded}
    first, second, third = sorted(ids)
    assert {row.id for row in await client.dead_letters.list(queue="q")} == ids

    by_hand = await client.jobs.retry(first)
    named = await client.dead_letters.retry(job_ids=[second])
    none = await client.dead_letters.retry(job_ids=[])
    purged = await client.dead_letters.purge(queue="q")

    assert (by_hand.status, named.retried, none.retried, purged) == (JobStatus.PENDING, [second], [], 1)
    with pytest.raises(NotFound):
        await client.jobs.get(third)
    assert (await client.dead_letters.retry(queue="q")).retried == []


async def test_refusals_carry_what_the_server_says(client: AsyncClient, server: LiveServer) -> None:
    with pytest.raises(ValidationFailed) as invalid:
        await client.jobs.enqueue("no spaces", 1)
    with pytest.raises(NotFound) as missing:
        await client.jobs.get(UNKNOWN_ID)
    async with AsyncClient(server.url, "sk_live_unknown") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.jobs.stats()

    assert (invalid.value.status, missing.value.code) == (400, "NOT_FOUND")
    assert missing.value.request_id


async def test_queues_are_configured_paused_and_deleted(client: AsyncClient) -> None:
    configured = await client.queues.configure("mail.out", max_retries=9, settings={"a": 1})
    changed = await client.queues.configure("mail.out", rate_limit=10)
    paused = await client.queues.pause("mail.out", reason="maintenance")
    await client.jobs.enqueue("mail.out", 1)

    assert (configured.name, configured.max_retries, configured.settings) == ("mail.out", 9, {"a": 1})
    assert (changed.max_retries, changed.rate_limit) == (9, 10)
    assert paused.reason == "maintenance"
    assert [(queue.name, queue.enabled) for queue in await client.queues.list()] == [("mail.out", False)]
    assert await client.jobs.claim("mail.out", worker_id="w") == []
    assert (await client.queues.resume("mail.out")).paused_seconds >= 0
    assert (await client.queues.get("mail.out")).enabled
    assert (await client.queues.stats("mail.out")).pending_jobs == 1
    with pytest.raises(Conflict):
        await client.queues.delete("mail.out")
    await client.queues.delete("mail.out", delete_jobs=True)
    assert (await client.jobs.stats()).total == 0


async def test_the_back_off_of_a_queue_is_configurable(client: AsyncClient) -> None:
    queue = await client.queues.configure(
        "q", retry_initial_seconds=2, retry_factor=1.5, retry_max_seconds=30
    )

    assert (queue.retry_initial_seconds, queue.retry_factor, queue.retry_max_seconds) == (2, 1.5, 30)


async def test_workers_come_and_go(client: AsyncClient) -> None:
    registered = await client.workers.register(
        "q", hostname="host-1", concurrency=4, metadata={"zone": "a"}, version="1.0"
    )
    await client.workers.heartbeat(registered.id, current_jobs=3)

    assert [worker.id for worker in await client.workers.list()] == [registered.id]
    worker = await client.workers.get(registered.id)
    assert (worker.queue, worker.hostname, worker.concurrency) == ("q", "host-1", 4)
    assert (worker.status, worker.current_jobs, worker.metadata) == ("healthy", 3, {"zone": "a"})
    await client.workers.deregister(registered.id)
    assert (await client.workers.get(registered.id)).status == "offline"
    assert registered.heartbeat_seconds > 0


async def test_health_needs_no_credential(server: LiveServer) -> None:
    async with AsyncClient(server.url) as client:
        health = await client.health()

    assert health.is_healthy
    assert health.database


async def test_the_credentials_of_a_data_directory_connect(server: LiveServer) -> None:
    async with AsyncClient.from_credentials(server.data_dir) as client:
        assert (await client.jobs.stats()).total >= 0
