"""The published client's worker runtimes, unmodified: `SpooledWorker` and `AsyncSpooledWorker`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from spooled import AsyncSpooledClient, SpooledClient

from tests.api.spooled.wire import Api, JsonObject, a_queue, answered
from tests.clients.spooled.flavour import Context, Runtime

Client: TypeAlias = "SpooledClient | AsyncSpooledClient"


async def look(call: Callable[..., Any], *args: object) -> Any:
    """A raw call beside the runtime, without holding the loop that its handlers run in."""
    return await asyncio.to_thread(call, *args)


async def enqueue(api: Api, queue: str, count: int = 1, **fields: object) -> list[str]:
    return [await asyncio.to_thread(api.enqueue, queue, {"n": n}, **fields) for n in range(count)]


async def until(see: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await see():  # noqa: ASYNC110 - what is awaited is the server's state, which announces nothing here
            await asyncio.sleep(0.02)


async def echo(context: Context) -> JsonObject:
    return {"echo": context.payload, "attempt": context.retry_count}


async def never(_: Context) -> None:
    raise AssertionError("there is nothing to do")


class Gate:
    """A handler that says it has begun and then waits to be let through."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.contexts: list[Context] = []

    async def __call__(self, context: Context) -> JsonObject:
        self.contexts.append(context)
        self.begun.set()
        await self.open.wait()
        return {"passed": True}


async def test_it_registers_works_and_deregisters(plain: Client, api: Api) -> None:
    queue = a_queue()
    options: dict[str, Any] = {
        "concurrency": 7,
        "worker_type": "suite",
        "version": "1.2",
        "metadata": {"a": 1},
    }
    async with Runtime(plain, queue, never, **options) as runtime:
        worker_id = runtime.worker_id
        (started,) = runtime.seen.of("started")
        assert (started.worker_id, started.queue_name) == (worker_id, queue)
        row = answered(await look(api.get, f"/workers/{worker_id}"))
        assert (row["queue_name"], row["hostname"], row["status"]) == (queue, "test-host", "healthy")
        assert (row["max_concurrency"], row["worker_type"], row["version"]) == (7, "suite", "1.2")
        assert row["metadata"] == {"a": 1}
    (stopped,) = await runtime.seen.times("stopped")
    assert (stopped.worker_id, stopped.reason) == (worker_id, "graceful")
    assert answered(await look(api.get, f"/workers/{worker_id}"))["status"] == "offline"
    assert runtime.seen.of("error") == []


async def test_a_stable_id_is_reused(plain: Client, api: Api) -> None:
    queue = a_queue()
    worker_id = f"stable-{queue}"
    for _ in range(2):
        async with Runtime(plain, queue, never, worker_id=worker_id) as runtime:
            assert runtime.worker_id == worker_id
            assert answered(await look(api.get, f"/workers/{worker_id}"))["status"] == "healthy"


async def test_every_job_is_done_and_its_result_kept(plain: Client, api: Api) -> None:
    queue = a_queue()
    ids = await enqueue(api, queue, 25)
    async with Runtime(plain, queue, echo, concurrency=10) as runtime:
        done = await runtime.seen.times("job:completed", 25)
        worker_id = runtime.worker_id
    assert {event.job_id for event in done} == set(ids)
    assert {event.queue_name for event in done} == {queue}
    assert len(runtime.seen.of("job:claimed")) == len(runtime.seen.of("job:started")) == 25
    for n, job_id in enumerate(ids):
        job = await look(api.job, job_id)
        assert (job["status"], job["assigned_worker_id"]) == ("completed", worker_id)
        assert job["result"] == {"echo": {"n": n}, "attempt": 0}
    assert runtime.seen.of("error") == []

    async def credited() -> bool:
        row = answered(await look(api.get, f"/workers/{worker_id}"))
        return (row["jobs_processed"], row["jobs_failed"]) == (25, 0)

    await until(credited)


async def test_a_job_that_arrives_later_is_found(plain: Client, api: Api) -> None:
    queue = a_queue()
    async with Runtime(plain, queue, echo) as runtime:
        for count in (1, 2):
            (job_id,) = await enqueue(api, queue)
            done = await runtime.seen.times("job:completed", count)
            assert done[-1].job_id == job_id


async def test_the_handler_is_told_about_its_job(plain: Client, api: Api) -> None:
    queue = a_queue()
    seen: list[Context] = []

    async def note(context: Context) -> None:
        seen.append(context)

    payload = {"Ünï": ["👩‍🚀", 2**60, None, {"camelCase": 1.5}]}
    job_id = await asyncio.to_thread(api.enqueue, queue, payload, max_retries=4)
    async with Runtime(plain, queue, note) as runtime:
        await runtime.seen.times("job:completed")
    (context,) = seen
    assert (context.job_id, context.queue_name, context.payload) == (job_id, queue, payload)
    assert (context.retry_count, context.max_retries) == (0, 4)
    assert not context.signal.is_set()
    assert (await look(api.job, job_id))["result"] is None


@pytest.mark.slow
async def test_a_failed_job_is_tried_again_after_its_delay(plain: Client, api: Api) -> None:
    queue = a_queue()
    attempts: list[int] = []

    async def twice(context: Context) -> JsonObject:
        attempts.append(context.retry_count)
        if context.retry_count == 0:
            raise RuntimeError("not yet")
        return {"done": True}

    (job_id,) = await enqueue(api, queue, max_retries=3)
    async with Runtime(plain, queue, twice) as runtime:
        (failed,) = await runtime.seen.times("job:failed")
        assert (failed.job_id, failed.error, failed.will_retry) == (job_id, "not yet", True)
        waiting = await look(api.job, job_id)
        assert (waiting["retry_count"], waiting["last_error"]) == (1, "not yet")
        await runtime.seen.times("job:completed")
    assert attempts == [0, 1]
    job = await look(api.job, job_id)
    assert (job["status"], job["result"]) == ("completed", {"done": True})
    assert await look(api.history, job_id) == ["created", "claimed", "failed", "claimed", "completed"]


async def test_a_job_without_retries_becomes_a_dead_letter(plain: Client, api: Api) -> None:
    queue = a_queue()

    async def never_works(_: Context) -> None:
        raise ValueError("broken " + "x" * 3000)

    (job_id,) = await enqueue(api, queue, max_retries=0)
    async with Runtime(plain, queue, never_works) as runtime:
        (failed,) = await runtime.seen.times("job:failed")
        assert failed.will_retry is False
    job = await look(api.job, job_id)
    assert (job["status"], job["retry_count"]) == ("deadletter", 0)
    assert job["last_error"].startswith("broken xxx")
    assert [row["id"] for row in answered(await look(api.get, f"/jobs/dlq?queue_name={queue}"))] == [job_id]
    assert runtime.seen.of("error") == []


async def test_an_error_without_a_text_is_reported(plain: Client, api: Api) -> None:
    queue = a_queue()

    async def silent(_: Context) -> None:
        raise ValueError

    (job_id,) = await enqueue(api, queue, max_retries=0)
    async with Runtime(plain, queue, silent) as runtime:
        await runtime.seen.times("job:failed")
    assert (await look(api.job, job_id))["last_error"] == "Job failed"


@pytest.mark.slow
async def test_a_job_that_outruns_its_timeout_is_failed(plain: Client, api: Api) -> None:
    queue, gate = a_queue(), Gate()
    (job_id,) = await enqueue(api, queue, max_retries=0, timeout_seconds=1)
    async with Runtime(plain, queue, gate) as runtime:
        (failed,) = await runtime.seen.times("job:failed")
        assert failed.error == "Job timeout exceeded"
        assert gate.contexts[0].signal.is_set()
        gate.open.set()
    job = await look(api.job, job_id)
    assert (job["status"], job["last_error"]) == ("deadletter", "Job timeout exceeded")


@pytest.mark.slow
async def test_the_lease_of_a_long_job_is_renewed(plain: Client, api: Api) -> None:
    queue, gate = a_queue(), Gate()
    (job_id,) = await enqueue(api, queue)
    ends: set[str] = set()

    async def renewed_twice() -> bool:
        ends.add((await look(api.job, job_id))["lease_expires_at"])
        return len(ends) >= 3

    async with Runtime(plain, queue, gate, lease_duration=5, heartbeat_fraction=0.02) as runtime:
        await asyncio.wait_for(gate.begun.wait(), 30)
        held = await look(api.job, job_id)
        await until(renewed_twice)
        assert (await look(api.job, job_id))["lease_id"] == held["lease_id"]
        gate.open.set()
        await runtime.seen.times("job:completed")
    assert runtime.seen.of("error") == []
    assert (await look(api.job, job_id))["result"] == {"passed": True}


async def test_a_stopping_worker_finishes_what_it_has_begun(plain: Client, api: Api) -> None:
    queue, gate = a_queue(), Gate()
    first, second = await enqueue(api, queue, 2)
    async with Runtime(plain, queue, gate, concurrency=1) as runtime:
        await asyncio.wait_for(gate.begun.wait(), 30)
        stopping = asyncio.create_task(runtime.stop())
        await until(lambda: is_stopping(runtime))
        gate.open.set()
        await asyncio.wait_for(stopping, 30)
        assert (await look(api.job, first))["status"] == "completed"
        assert (await look(api.job, second))["status"] == "pending"
    assert runtime.seen.of("job:failed") == []


async def is_stopping(runtime: Runtime) -> bool:
    return runtime.worker.state == "stopping"


async def test_a_job_that_outlives_the_stop_is_handed_back(plain: Client, api: Api) -> None:
    queue, gate = a_queue(), Gate()
    (job_id,) = await enqueue(api, queue)
    async with Runtime(plain, queue, gate, shutdown_timeout=0.2) as runtime:
        await asyncio.wait_for(gate.begun.wait(), 30)
        stopping = asyncio.create_task(runtime.stop())
        (failed,) = await runtime.seen.times("job:failed")
        assert (failed.error, failed.will_retry) == ("Worker shutdown timeout", True)
        gate.open.set()
        await asyncio.wait_for(stopping, 30)
    job = await look(api.job, job_id)
    assert (job["status"], job["retry_count"], job["last_error"]) == ("pending", 1, "Worker shutdown timeout")


@pytest.mark.parametrize("operation", ["heartbeat", "complete", "fail"])
async def test_a_worker_that_lost_its_lease_does_not_settle(plain: Client, api: Api, operation: str) -> None:
    queue, gate = a_queue(), Gate()
    (job_id,) = await enqueue(api, queue)

    async def handle(context: Context) -> JsonObject:
        result = await gate(context)
        if operation == "fail":
            raise RuntimeError("too late")
        return result

    beats = (
        {"lease_duration": 5, "heartbeat_fraction": 0.02}
        if operation == "heartbeat"
        else {"lease_duration": 60}
    )
    async with Runtime(plain, queue, handle, concurrency=1, **beats) as runtime:
        await asyncio.wait_for(gate.begun.wait(), 30)
        # The job is taken from under the worker, as a lease that ran out would: back to pending, then to another.
        held = await look(api.job, job_id)
        lost = {"id": job_id, "lease_id": held["lease_id"]}
        await asyncio.to_thread(api.fail, lost, runtime.worker_id, retry_in_seconds=0)
        again = await look(api.claim_one, queue, "other-worker")
        if operation != "heartbeat":
            gate.open.set()
        (event,) = await runtime.seen.times("job:lease_lost")
        assert (event.job_id, event.operation, event.lease_id) == (job_id, operation, held["lease_id"])
        assert event.error.code == "LEASE_EXPIRED"
        assert gate.contexts[0].signal.is_set()
        gate.open.set()
        job = await look(api.job, job_id)
        assert (job["status"], job["assigned_worker_id"]) == ("processing", "other-worker")
        assert job["lease_id"] == again["lease_id"]
        await asyncio.to_thread(api.complete, again, "other-worker")
    assert runtime.seen.of("job:completed") == runtime.seen.of("job:failed") == []
    assert (await look(api.job, job_id))["status"] == "completed"


async def test_a_paused_queue_rests_and_goes_on_when_resumed(plain: Client, api: Api) -> None:
    queue = a_queue()
    answered(await look(api.post, f"/queues/{queue}/pause", {}))
    (job_id,) = await enqueue(api, queue)
    async with Runtime(plain, queue, echo) as runtime:
        assert (await look(api.job, job_id))["status"] == "pending"
        answered(await look(api.post, f"/queues/{queue}/resume"))
        (done,) = await runtime.seen.times("job:completed")
        assert done.job_id == job_id


async def test_two_workers_share_a_queue_without_doing_anything_twice(plain: Client, api: Api) -> None:
    queue = a_queue()
    handled: list[str] = []

    async def note(context: Context) -> None:
        handled.append(context.job_id)

    body = {"queue_name": queue, "jobs": [{"payload": n} for n in range(60)]}
    made = answered(await look(api.post, "/jobs/bulk", body))
    async with Runtime(plain, queue, note) as one, Runtime(plain, queue, note) as other:

        async def all_done() -> bool:
            return len(one.seen.of("job:completed")) + len(other.seen.of("job:completed")) == 60

        await until(all_done)
    assert sorted(handled) == sorted(item["job_id"] for item in made["succeeded"])
