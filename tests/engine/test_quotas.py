"""What a plan allows is allowed, and never one more. Contract: spooled-jobs 1.10, spooled-tenancy 7."""

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace

from millstream.domain.errors import PayloadTooLarge, QuotaExceeded
from millstream.domain.job import Enqueued, NewJob
from millstream.domain.plan import PLANS
from millstream.domain.queue import QueueChange
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of


@pytest.fixture
async def free(work: Work) -> Work:
    """A tenant with the free plan: 10 active jobs, 1,000 a day, 2 queues, 1 worker."""
    return Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)


async def try_enqueue(work: Work, **options: object) -> Enqueued | QuotaExceeded:
    job = NewJob(queue="q", payload="{}", **options)  # type: ignore[arg-type]
    try:
        return await work.engine.jobs.enqueue(work.principal, job)
    except QuotaExceeded as error:
        return error


async def test_of_fifty_creates_at_once_exactly_ten_fit(free: Work, second_engine: Engine) -> None:
    elsewhere = Work(second_engine, free.principal, free.clock)
    answers = await asyncio.gather(*(try_enqueue(where) for where in (free, elsewhere) for _ in range(25)))
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(answers) - len(refused) == 10
    assert {(error.resource, error.current, error.limit, error.plan) for error in refused} == {
        ("active_jobs", 10, 10, "free")
    }
    assert sum((await free.engine.jobs.counts(free.principal)).values()) == 10


async def test_a_finished_job_makes_room(free: Work) -> None:
    for _ in range(10):
        await free.enqueue()
    [claimed] = await free.claim()
    assert isinstance(await try_enqueue(free), QuotaExceeded)
    await free.complete(lease_of(claimed))
    assert isinstance(await try_enqueue(free), Enqueued)
    assert isinstance(await try_enqueue(free), QuotaExceeded)


async def test_a_known_key_is_answered_even_when_the_plan_is_full(free: Work) -> None:
    first = await free.enqueue(idempotency_key="k")
    for _ in range(9):
        await free.enqueue()
    answer = await try_enqueue(free, idempotency_key="k")
    assert isinstance(answer, Enqueued)
    assert (answer.id, answer.created) == (first, False)


async def test_a_bulk_that_does_not_fit_creates_nothing(free: Work) -> None:
    for _ in range(5):
        await free.enqueue()
    with pytest.raises(QuotaExceeded):
        await free.engine.jobs.enqueue_many(free.principal, [NewJob(queue="q", payload="{}")] * 6)
    assert sum((await free.engine.jobs.counts(free.principal)).values()) == 5
    # Two items with one key are one job.
    keyed = [NewJob(queue="q", payload="{}", idempotency_key="same")] * 2
    answers = await free.engine.jobs.enqueue_many(
        free.principal, [NewJob(queue="q", payload="{}")] * 4 + keyed
    )
    assert sum(isinstance(answer, Enqueued) and answer.created for answer in answers) == 5


async def test_the_daily_limit_counts_what_was_created_and_begins_anew_at_midnight(free: Work) -> None:
    async with free.engine.context.database.session() as session:
        await session.run(
            "insert into millstream.counter_deltas values ($1, 1, '', $2, 998)",
            free.principal.tenant_id,
            free.clock.now().date(),
        )
    assert isinstance(await try_enqueue(free), Enqueued)
    # Folded or not, it is counted once.
    await free.engine.upkeep.fold_counters()
    assert isinstance(await try_enqueue(free), Enqueued)
    refused = await try_enqueue(free)
    assert isinstance(refused, QuotaExceeded)
    assert (refused.resource, refused.current, refused.limit) == ("jobs_per_day", 1_000, 1_000)
    free.clock.advance(timedelta(hours=12).total_seconds())
    assert isinstance(await try_enqueue(free), Enqueued)


async def test_the_daily_limit_is_named_before_the_active_one(free: Work) -> None:
    for _ in range(10):
        await free.enqueue()
    async with free.engine.context.database.session() as session:
        await session.run("update millstream.counter_deltas set amount = 1000 where kind = 1")
    refused = await try_enqueue(free)
    assert isinstance(refused, QuotaExceeded)
    assert refused.resource == "jobs_per_day"


async def test_dead_letters_that_do_not_fit_stay_dead(free: Work) -> None:
    dead = [await free.die() for _ in range(3)]
    for _ in range(8):
        await free.enqueue()
    with pytest.raises(QuotaExceeded):
        await free.retry_dead()
    assert await free.retry_dead(limit=2) == dead[:2]
    # Nothing found is nothing refused.
    assert await free.retry_dead(queue="empty") == []


async def test_a_payload_is_measured_in_bytes_of_the_plan(free: Work) -> None:
    limit = free.principal.plan.max_payload_size_bytes
    await free.enqueue(payload='"' + "ä" * (limit // 2 - 1) + '"')
    with pytest.raises(PayloadTooLarge) as refused:
        await free.enqueue(payload='"' + "ä" * (limit // 2) + '"')
    assert (refused.value.current, refused.value.limit, refused.value.plan) == (limit + 2, limit, "free")


async def test_of_many_queues_configured_at_once_two_fit(free: Work, second_engine: Engine) -> None:
    async def configure(engine: Engine, name: str) -> bool:
        try:
            await engine.queues.configure(free.principal, name, QueueChange())
        except QuotaExceeded as error:
            assert (error.resource, error.current, error.limit) == ("queues", 2, 2)  # noqa: PT017 - only some of them are refused
            return False
        return True

    fitted = await asyncio.gather(
        *(configure(engine, f"q{number}") for number in range(50) for engine in (free.engine, second_engine))
    )
    assert len(await free.engine.queues.list(free.principal)) == 2
    # Either process may have made a queue that the other one then found.
    assert 2 <= sum(fitted) <= 4
    # Known ones may be changed, and paused, however full the plan is.
    for queue in await free.engine.queues.list(free.principal):
        await free.engine.queues.pause(free.principal, queue.name, None)
    with pytest.raises(QuotaExceeded):
        await free.engine.queues.pause(free.principal, "another", None)


async def test_a_plan_that_shrank_refuses_one_more_and_tells_how_many_there_are(free: Work) -> None:
    large = replace(free.principal, plan=PLANS["pro"])
    for number in range(5):
        await free.engine.queues.configure(large, f"q{number}", QueueChange())
    for _ in range(14):
        await free.engine.jobs.enqueue(large, NewJob(queue="q", payload="{}"))
    with pytest.raises(QuotaExceeded) as refused:
        await free.engine.queues.configure(free.principal, "another", QueueChange())
    assert (refused.value.current, refused.value.limit) == (5, 2)
    await free.engine.queues.configure(free.principal, "q1", QueueChange())
    refusal = await try_enqueue(free)
    assert isinstance(refusal, QuotaExceeded)
    # Jobs are counted no further than it takes to refuse one.
    assert (refusal.current, refusal.limit) == (11, 10)


async def test_of_many_workers_registered_at_once_one_fits(free: Work, second_engine: Engine) -> None:
    async def register(name: str, engine: Engine = free.engine) -> bool:
        try:
            await engine.workers.register(free.principal, NewWorker(id=name, queue="q", hostname="h"))
        except QuotaExceeded as error:
            assert (error.resource, error.current, error.limit) == ("workers", 1, 1)  # noqa: PT017 - only some of them are refused
            return False
        return True

    names = [f"w{number}" for number in range(100)]
    engines = [free.engine, second_engine] * 50
    assert sum(await asyncio.gather(*map(register, names, engines))) == 1
    [worker] = await free.engine.workers.list(free.principal)
    # A known one is not charged again, and one that left makes room.
    assert await register(worker.id)
    await free.engine.workers.deregister(free.principal, worker.id)
    assert await register("next")
