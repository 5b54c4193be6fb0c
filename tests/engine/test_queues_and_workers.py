"""Queue configuration, statistics and workers. Contract: spooled-jobs 2.6, 4, 5."""

from typing import Any

import pytest

from millstream.domain.errors import AccessDenied, Conflict, NotFound
from millstream.domain.job import JobState
from millstream.domain.queue import QueueChange
from millstream.domain.worker import NewWorker, WorkerStatus
from millstream.store.jobs import ServerDefaults
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of


@pytest.mark.parametrize(
    ("asked", "configured", "expected"),
    [
        ({}, None, (3, 300)),
        ({}, QueueChange(max_retries=7, default_timeout_seconds=60), (7, 60)),
        ({"max_retries": 1}, QueueChange(max_retries=7, default_timeout_seconds=60), (1, 60)),
        ({"timeout_seconds": 5}, QueueChange(max_retries=7, default_timeout_seconds=60), (7, 5)),
        ({"max_retries": 0, "timeout_seconds": 1}, QueueChange(max_retries=7), (0, 1)),
        ({}, QueueChange(max_retries=0), (0, 300)),
    ],
)
async def test_a_job_falls_back_to_its_queue_then_to_the_server(
    work: Work, asked: dict[str, Any], configured: QueueChange | None, expected: tuple[int, int]
) -> None:
    assert ServerDefaults() == ServerDefaults(3, 300)
    if configured is not None:
        await work.engine.queues.configure(work.principal, "q", configured)
    job = await work.job(await work.enqueue(**asked))
    assert (job.max_retries, job.timeout_seconds) == expected


async def test_a_change_keeps_what_it_does_not_name(work: Work) -> None:
    configure = work.engine.queues.configure
    first = await configure(
        work.principal,
        "q",
        QueueChange(max_retries=9, rate_limit=5, settings='{"a":1}', retry_initial_seconds=4),
    )
    assert (first.max_retries, first.default_timeout_seconds, first.enabled) == (9, 300, True)
    work.clock.advance(1)
    second = await configure(work.principal, "q", QueueChange(default_timeout_seconds=10))
    assert (second.max_retries, second.rate_limit, second.settings, second.retry_initial_seconds) == (
        9,
        5,
        '{"a":1}',
        4,
    )
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert second.updated_at == work.clock.now()
    third = await configure(work.principal, "q", QueueChange(retry_initial_seconds=None))
    assert third.retry_initial_seconds is None


async def test_a_pause_notes_since_when_and_why_and_survives_a_change(work: Work) -> None:
    queues = work.engine.queues
    await queues.pause(work.principal, "q", "first")
    work.clock.advance(10)
    paused = await queues.pause(work.principal, "q", "second")
    assert paused.paused_at == work.clock.now()
    queue = await queues.configure(work.principal, "q", QueueChange(settings="{}"))
    assert (queue.enabled, queue.paused_reason, queue.paused_at) == (False, "second", work.clock.now())
    work.clock.advance(5)
    assert (await queues.resume(work.principal, "q")).paused_seconds == 5
    assert (await queues.resume(work.principal, "q")).paused_seconds == 0
    with pytest.raises(NotFound):
        await queues.resume(work.principal, "never-configured")


async def test_jobs_make_no_queue_row(work: Work) -> None:
    await work.enqueue()
    assert await work.engine.queues.list(work.principal) == []
    with pytest.raises(NotFound):
        await work.engine.queues.get(work.principal, "q")


async def test_statistics_count_the_queue_and_nothing_else(work: Work) -> None:
    empty = await work.engine.queues.stats(work.principal, "q")
    assert (empty.pending, empty.processing, empty.completed_24h, empty.failed_24h) == (0, 0, 0, 0)
    assert (empty.avg_processing_ms, empty.oldest_age_seconds, empty.active_workers) == (None, None, 0)
    await work.complete(await work.run())
    work.clock.advance(86_401)
    lease = await work.run()
    work.clock.advance(3)
    await work.complete(lease)
    await work.die()
    await work.enqueue()
    await work.enqueue("other")
    work.clock.advance(10)
    await work.enqueue(run_at=work.in_seconds(100))
    [claimed] = await work.claim()
    await work.enqueue()
    await work.engine.workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    stats = await work.engine.queues.stats(work.principal, "q")
    assert (stats.pending, stats.processing, stats.completed_24h, stats.failed_24h) == (1, 1, 1, 1)
    assert (stats.avg_processing_ms, stats.oldest_age_seconds, stats.active_workers) == (3_000, 0, 1)
    await work.complete(lease_of(claimed))


async def test_a_queue_in_use_is_not_deleted_unless_its_jobs_are(work: Work) -> None:
    queues = work.engine.queues
    await queues.configure(work.principal, "q", QueueChange())
    job_id = await work.enqueue(idempotency_key="k")
    with pytest.raises(Conflict):
        await queues.delete(work.principal, "q", with_jobs=False)
    dead = await work.die("q2")
    await queues.delete(work.principal, "q", with_jobs=True)
    with pytest.raises(NotFound):
        await work.job(job_id)
    assert await work.state(dead) is JobState.DEAD
    # Its key is free again.
    again = await work.enqueue(idempotency_key="k")
    assert again != job_id
    for with_jobs in (True, False):
        with pytest.raises(NotFound):
            await queues.delete(work.principal, "nobody-knows-it", with_jobs=with_jobs)


async def test_scheduled_jobs_do_not_keep_a_queue(work: Work) -> None:
    await work.engine.queues.configure(work.principal, "q", QueueChange())
    job_id = await work.enqueue(run_at=work.in_seconds(60))
    await work.engine.queues.delete(work.principal, "q", with_jobs=False)
    assert await work.state(job_id) is JobState.SCHEDULED


async def test_a_key_of_some_queues_manages_no_other(work: Work) -> None:
    await work.engine.queues.configure(work.principal, "b", QueueChange())
    queues, key = work.engine.queues, work.restricted_to("a").principal
    assert await queues.list(key) == []
    for refused in (
        queues.get(key, "b"),
        queues.stats(key, "b"),
        queues.pause(key, "b", None),
        queues.resume(key, "b"),
        queues.configure(key, "b", QueueChange()),
        queues.delete(key, "b", with_jobs=True),
    ):
        with pytest.raises(AccessDenied):
            await refused
    await queues.get(work.principal, "b")


async def test_registering_a_known_worker_keeps_what_is_not_given(work: Work) -> None:
    workers = work.engine.workers
    first = await workers.register(
        work.principal,
        NewWorker(
            id="w",
            queue="q",
            hostname="h",
            worker_type="t",
            max_concurrency=9,
            metadata='{"a":1}',
            version="1",
        ),
    )
    work.clock.advance(5)
    again = await workers.register(work.principal, NewWorker(id="w", queue="q2", hostname="h2"))
    assert (again.queue, again.hostname) == ("q2", "h2")
    assert (again.worker_type, again.max_concurrency, again.metadata, again.version) == (
        "t",
        9,
        '{"a":1}',
        "1",
    )
    assert again.registered_at == first.registered_at
    assert again.last_heartbeat_at == work.clock.now()


async def test_a_worker_id_belongs_to_one_tenant(work: Work) -> None:
    await work.engine.workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    other = Work(work.engine, await make_principal(work.engine), work.clock)
    with pytest.raises(Conflict):
        await work.engine.workers.register(other.principal, NewWorker(id="w", queue="q", hostname="h"))
    assert await work.engine.workers.list(other.principal) == []
    for refused in (
        work.engine.workers.get(other.principal, "w"),
        work.engine.workers.deregister(other.principal, "w"),
        work.engine.workers.heartbeat(
            other.principal, "w", status=WorkerStatus.HEALTHY, current_jobs=0, metadata=None
        ),
    ):
        with pytest.raises(NotFound):
            await refused


async def test_a_worker_that_leaves_keeps_its_row_and_its_leases(work: Work) -> None:
    workers = work.engine.workers
    await workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    lease = await work.run(lease_seconds=600)
    for _ in range(2):
        await workers.deregister(work.principal, "w")
    assert (await workers.get(work.principal, "w")).status is WorkerStatus.OFFLINE
    await work.complete(lease)
    worker = await workers.get(work.principal, "w")
    assert (worker.jobs_processed, worker.jobs_failed) == (1, 0)


async def test_a_lapsed_lease_is_not_counted_against_its_worker(work: Work) -> None:
    await work.engine.workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    await work.run(lease_seconds=30)
    work.clock.advance(31)
    await work.engine.settling.reap()
    worker = await work.engine.workers.get(work.principal, "w")
    assert (worker.jobs_processed, worker.jobs_failed) == (0, 0)


async def test_the_most_recent_heartbeat_comes_first(work: Work) -> None:
    for name in ("a", "b", "c"):
        await work.engine.workers.register(work.principal, NewWorker(id=name, queue="q", hostname="h"))
        work.clock.advance(1)
    await work.engine.workers.heartbeat(
        work.principal, "a", status=WorkerStatus.DEGRADED, current_jobs=3, metadata='{"x":1}'
    )
    listed = await work.engine.workers.list(work.principal)
    assert [worker.id for worker in listed] == ["a", "c", "b"]
    assert (listed[0].status, listed[0].current_jobs, listed[0].metadata) == (
        WorkerStatus.DEGRADED,
        3,
        '{"x":1}',
    )
