import asyncio
import contextvars
import logging
import os
import signal
from datetime import timedelta

import pytest

from millstream import (
    AsyncClient,
    ClaimedJob,
    ConnectionFailed,
    JobStatus,
    NewJob,
    RetryLater,
    RunningJob,
    Unauthorized,
    Worker,
)
from tests.client_sdk.conftest import LiveServer
from tests.client_sdk.line import Line
from tests.client_sdk.observation import eventually

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow


async def test_every_job_of_a_queue_runs_exactly_once(client: AsyncClient) -> None:
    stored = await client.jobs.enqueue_many("q", [NewJob({"n": n}) for n in range(1000)])
    seen: list[str] = []
    worker = Worker(client, "q", concurrency=50)

    @worker.handler
    async def double(job: RunningJob) -> int:
        seen.append(job.id)
        return job.payload_as(dict[str, int])["n"] * 2

    await worker.run(until_idle=True)

    assert sorted(seen) == sorted(row.id for row in stored.succeeded)
    assert (await client.jobs.stats()).completed == 1000
    assert (await client.jobs.get(stored.succeeded[321].id)).result == 642
    me = await client.workers.get(worker.worker_id)
    assert (me.status, me.jobs_processed) == ("offline", 1000)


async def test_no_more_handlers_run_at_once_than_asked_for(client: AsyncClient) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(60)])
    running = peak = 0

    async def handle(_: RunningJob) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _turn in range(20):
            await asyncio.sleep(0)
        running -= 1

    await Worker(client, "q", handle, concurrency=7).run(until_idle=True)

    assert peak == 7


async def test_a_failed_attempt_is_reported_and_retried_when_asked(client: AsyncClient) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id
    attempts: list[tuple[int, bool]] = []

    async def handle(job: RunningJob) -> str:
        attempts.append((job.attempt, job.is_last_attempt))
        if job.attempt == 1:
            raise RetryLater(0, "not yet")
        return "done"

    worker = Worker(client, "q", handle)
    running = asyncio.create_task(worker.run())
    job = await eventually(lambda: client.jobs.get(job_id), lambda job: job.is_finished)
    worker.stop()
    await running

    assert (job.status, job.result, job.last_error) == (JobStatus.COMPLETED, "done", "not yet")
    assert attempts == [(1, False), (2, False)]


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("broken", "ValueError: broken"),
        ("nul \0 and \ud800 surrogate", "ValueError: nul  and ? surrogate"),
        ("x" * 5000, ("ValueError: " + "x" * 5000)[:2048]),
    ],
)
async def test_an_exception_without_retries_left_makes_a_dead_letter(
    client: AsyncClient, text: str, reported: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A lone surrogate in the captured log cannot travel between the processes of a parallel test run.
    caplog.set_level(logging.CRITICAL, logger="millstream.worker")
    job_id = (await client.jobs.enqueue("q", 1, max_retries=0)).id

    async def handle(job: RunningJob) -> None:
        assert job.is_last_attempt
        raise ValueError(text)

    await Worker(client, "q", handle).run(until_idle=True)

    job = await client.jobs.get(job_id)
    assert (job.status, job.last_error) == (JobStatus.DEAD_LETTER, reported)


async def test_a_result_that_is_no_json_is_a_failure(client: AsyncClient) -> None:
    bad = (await client.jobs.enqueue("q", "bad", max_retries=0)).id
    good = (await client.jobs.enqueue("q", "good", max_retries=0)).id

    async def handle(job: RunningJob) -> object:
        return object() if job.payload == "bad" else {"fine": True}

    await Worker(client, "q", handle).run(until_idle=True)

    job = await client.jobs.get(bad)
    assert job.status is JobStatus.DEAD_LETTER
    assert "result is no JSON" in (job.last_error or "")
    assert (await client.jobs.get(good)).result == {"fine": True}


async def test_results_that_fill_several_requests_all_arrive(client: AsyncClient) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(9)])

    async def handle(_: RunningJob) -> str:
        return "x" * 1_000_000

    await Worker(client, "q", handle, concurrency=9).run(until_idle=True)

    assert (await client.jobs.stats()).completed == 9


async def test_a_result_that_the_server_refuses_fails_its_own_job_only(client: AsyncClient) -> None:
    deep = (await client.jobs.enqueue("q", 200, max_retries=0)).id
    flat = (await client.jobs.enqueue("q", 2, max_retries=0)).id

    async def handle(job: RunningJob) -> object:
        result: object = "core"
        for _level in range(job.payload_as(int)):
            result = [result]
        return result

    await Worker(client, "q", handle).run(until_idle=True)

    job = await client.jobs.get(deep)
    assert job.status is JobStatus.DEAD_LETTER
    assert "refused the result" in (job.last_error or "")
    assert (await client.jobs.get(flat)).result == [["core"]]


async def test_a_result_that_is_too_long_fails_its_own_job_only(client: AsyncClient) -> None:
    big = (await client.jobs.enqueue("q", 6_000_000, max_retries=0)).id
    small = (await client.jobs.enqueue("q", 10, max_retries=0)).id

    async def handle(job: RunningJob) -> str:
        return "x" * job.claimed.payload_as(int)

    await Worker(client, "q", handle).run(until_idle=True)

    job = await client.jobs.get(big)
    assert job.status is JobStatus.DEAD_LETTER
    assert job.last_error == "the handler's result has 6000002 bytes, 1048576 at most"
    assert (await client.jobs.get(small)).result == "x" * 10


async def test_a_handler_that_takes_too_long_is_cancelled_and_counted_as_failed(client: AsyncClient) -> None:
    slow = (await client.jobs.enqueue("q", "slow", timeout_seconds=1, max_retries=0)).id
    long = (await client.jobs.enqueue("q", "long", timeout_seconds=60)).id
    cancelled: list[str] = []
    done = asyncio.Event()

    async def handle(job: RunningJob) -> None:
        try:
            await done.wait()
        except asyncio.CancelledError:
            cancelled.append(job.id)
            done.set()
            raise

    await Worker(client, "q", handle).run(until_idle=True)

    assert cancelled == [slow]
    job = await client.jobs.get(slow)
    assert (job.status, job.last_error) == (JobStatus.DEAD_LETTER, "timed out after 1 s")
    assert (await client.jobs.get(long)).status is JobStatus.COMPLETED


async def test_the_lease_of_a_long_job_is_renewed(client: AsyncClient) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id
    first_lease: list[ClaimedJob] = []
    renewed = asyncio.Event()

    async def handle(job: RunningJob) -> None:
        first_lease.append(job.claimed)
        await renewed.wait()

    worker = Worker(client, "q", handle, lease_seconds=5)
    running = asyncio.create_task(worker.run())
    await eventually(
        lambda: client.jobs.get(job_id),
        lambda job: bool(first_lease) and job.lease_expires_at != first_lease[0].lease_expires_at,
    )
    renewed.set()
    job = await eventually(lambda: client.jobs.get(job_id), lambda job: job.is_finished)
    worker.stop()
    await running

    assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 0)


async def test_a_longer_lease_that_a_handler_takes_is_not_cut_short(client: AsyncClient) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id
    other_id = (await client.jobs.enqueue("q", 2)).id
    other_lease: list[ClaimedJob] = []
    taken = asyncio.Event()
    checked = asyncio.Event()

    async def handle(job: RunningJob) -> None:
        if job.id == job_id:
            await job.renew(600)
            taken.set()
        else:
            other_lease.append(job.claimed)
        await checked.wait()

    worker = Worker(client, "q", handle, lease_seconds=5)
    running = asyncio.create_task(worker.run())
    await taken.wait()
    # Once the other job, claimed together with it, has been renewed, this one's turn is over too.
    await eventually(
        lambda: client.jobs.get(other_id),
        lambda job: bool(other_lease) and job.lease_expires_at != other_lease[0].lease_expires_at,
    )
    job = await client.jobs.get(job_id)
    checked.set()
    worker.stop()
    await running

    assert job.started_at is not None
    assert job.lease_expires_at is not None
    assert job.lease_expires_at - job.started_at > timedelta(seconds=590)


async def test_a_handler_whose_lease_is_lost_is_cancelled_and_not_settled(client: AsyncClient) -> None:
    await client.jobs.enqueue("q", 1)
    cancelled = asyncio.Event()

    async def handle(job: RunningJob) -> str:
        # Somebody settles the job behind the worker's back.
        await client.jobs.complete(
            job.id, lease_id=job.claimed.lease_id, worker_id=job.worker_id, result="theirs"
        )
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
        return "ours"

    worker = Worker(client, "q", handle, lease_seconds=5)
    running = asyncio.create_task(worker.run())
    await cancelled.wait()
    worker.stop()
    await running

    [job] = [await client.jobs.get(row.id) for row in await client.jobs.list()]
    assert (job.status, job.result) == (JobStatus.COMPLETED, "theirs")


async def test_an_idle_worker_is_woken_by_a_new_job(client: AsyncClient) -> None:
    seen: asyncio.Queue[object] = asyncio.Queue()

    async def handle(job: RunningJob) -> None:
        seen.put_nowait(job.payload)

    worker = Worker(client, "q", handle)
    running = asyncio.create_task(worker.run())
    await eventually(client.workers.list, bool)
    await client.jobs.enqueue("q", "first")
    assert await seen.get() == "first"
    await client.jobs.enqueue("q", "second")
    assert await seen.get() == "second"
    worker.stop()
    await running

    assert (await client.jobs.stats()).completed == 2


async def test_stopping_lets_the_jobs_already_taken_finish(client: AsyncClient) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(5)])
    started, finish = asyncio.Event(), asyncio.Event()

    async def handle(_: RunningJob) -> None:
        started.set()
        await finish.wait()

    worker = Worker(client, "q", handle, concurrency=2)
    running = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    finish.set()
    await running

    stats = await client.jobs.stats()
    assert (stats.completed, stats.processing, stats.pending) == (2, 0, 3)
    assert (await client.workers.get(worker.worker_id)).status == "offline"


async def test_what_is_not_finished_in_time_is_given_back(client: AsyncClient) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id
    started = asyncio.Event()

    async def handle(_: RunningJob) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = Worker(client, "q", handle, shutdown_seconds=0)
    running = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    await running

    job = await client.jobs.get(job_id)
    assert (job.status, job.retry_count) == (JobStatus.PENDING, 1)
    assert job.last_error == "the worker stopped before the job was finished"
    [again] = await client.jobs.claim("q", worker_id="w", wait_seconds=5)
    assert again.id == job_id


async def test_a_job_that_was_not_begun_is_given_back_with_all_its_retries(client: AsyncClient) -> None:
    # A worker that runs one at a time, fast enough to have filled its buffer when the last one blocks.
    ids = [(await client.jobs.enqueue("q", number, max_retries=0)).id for number in range(60)]
    blocked = asyncio.Event()
    running_id = ""

    async def handle(job: RunningJob) -> None:
        nonlocal running_id
        await asyncio.sleep(0)
        if job.payload == 20:
            running_id = job.id
            blocked.set()
            await asyncio.Event().wait()

    worker = Worker(client, "q", handle, concurrency=1, prefetch=30, shutdown_seconds=0)
    running = asyncio.create_task(worker.run())
    await blocked.wait()
    before = await client.jobs.stats()
    worker.stop()
    await running

    # Those in the buffer were given back; for the one that had begun it was the last attempt.
    assert before.processing > 1
    left = [await client.jobs.get(job_id) for job_id in ids[20:]]
    assert [job.id for job in left if job.status is JobStatus.DEAD_LETTER] == [running_id]
    rest = [job for job in left if job.id != running_id]
    assert {(job.status, job.retry_count, job.last_error) for job in rest} == {(JobStatus.PENDING, 0, None)}


async def test_cancelling_the_worker_gives_its_jobs_back(client: AsyncClient) -> None:
    job_id = (await client.jobs.enqueue("q", 1)).id
    started = asyncio.Event()

    async def handle(_: RunningJob) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(Worker(client, "q", handle).run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await client.jobs.get(job_id)).status is JobStatus.PENDING


async def test_a_signal_stops_the_worker(client: AsyncClient) -> None:
    await client.jobs.enqueue("q", 1)
    started, finish = asyncio.Event(), asyncio.Event()

    async def handle(_: RunningJob) -> None:
        started.set()
        await finish.wait()

    running = asyncio.create_task(Worker(client, "q", handle).run(handle_signals=True))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    finish.set()
    await running

    assert (await client.jobs.stats()).completed == 1


async def test_a_second_signal_gives_running_jobs_back_at_once(client: AsyncClient) -> None:
    await client.jobs.enqueue("q", 1)
    started = asyncio.Event()

    async def handle(_: RunningJob) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(Worker(client, "q", handle).run(handle_signals=True))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    await running

    assert (await client.jobs.stats()).pending == 1


async def test_what_a_handler_leaves_in_a_context_variable_stays_there(client: AsyncClient) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(5)])
    request = contextvars.ContextVar[str]("request", default="clean")
    found: list[str] = []

    async def handle(job: RunningJob) -> None:
        found.append(request.get())
        request.set(job.id)

    await Worker(client, "q", handle, concurrency=1).run(until_idle=True)

    assert found == ["clean"] * 5


async def test_lost_answers_do_not_lose_or_repeat_settlements(
    client: AsyncClient, client_on_the_line: AsyncClient, line: Line
) -> None:
    await client.jobs.enqueue_many("q", [NewJob(n) for n in range(10)])
    ran = 0

    async def handle(_: RunningJob) -> str:
        nonlocal ran
        ran += 1
        if ran == 10:
            line.answers_to_lose = 2
        return "done"

    await Worker(client_on_the_line, "q", handle, concurrency=10).run(until_idle=True)

    assert (ran, line.lost) == (10, 2)
    assert (await client.jobs.stats()).completed == 10


async def test_a_worker_survives_an_outage(
    client: AsyncClient, client_on_the_line: AsyncClient, line: Line
) -> None:
    before = (await client.jobs.enqueue("q", "before")).id
    started, finish = asyncio.Event(), asyncio.Event()

    async def handle(_: RunningJob) -> str:
        started.set()
        await finish.wait()
        return "done"

    worker = Worker(client_on_the_line, "q", handle)
    running = asyncio.create_task(worker.run())
    await started.wait()
    line.cut()
    finish.set()
    with pytest.raises(ConnectionFailed):
        await client_on_the_line.jobs.stats()
    during = (await client.jobs.enqueue("q", "during")).id
    line.is_cut = False
    jobs = [
        await eventually(lambda job_id=job_id: client.jobs.get(job_id), lambda job: job.is_finished)
        for job_id in (before, during)
    ]
    worker.stop()
    await running

    assert [(job.status, job.retry_count) for job in jobs] == [(JobStatus.COMPLETED, 0)] * 2


async def test_a_worker_with_a_bad_key_does_not_start(server: LiveServer) -> None:
    async with AsyncClient(server.url, "sk_live_unknown") as stranger:
        worker = Worker(stranger, "q", _never)
        with pytest.raises(Unauthorized):
            await worker.run()


async def test_a_worker_needs_a_handler(client: AsyncClient) -> None:
    with pytest.raises(ValueError, match="no handler"):
        await Worker(client, "q").run()


async def _never(_: RunningJob) -> None:
    raise AssertionError("nothing to run")
