"""What a job's history tells. Contract: spooled-jobs 3.10, 12."""

from uuid import uuid4

import pytest

from millstream.domain.errors import NotFound
from millstream.domain.job import JobEvent, JobEventKind
from tests.engine.work import Work, lease_of

K = JobEventKind


async def events(
    work: Work, job_id: object, *, descending: bool = False, limit: int = 100, offset: int = 0
) -> list[JobEvent]:
    page = await work.engine.jobs.history(
        work.principal,
        job_id,  # type: ignore[arg-type]
        descending=descending,
        limit=limit,
        offset=offset,
    )
    return page.events


async def a_long_life(work: Work) -> tuple[object, list[JobEventKind]]:
    job_id = await work.enqueue(max_retries=1)
    for worker in ("first", "second"):
        work.clock.advance(10)
        [claimed] = await work.claim(worker=worker)
        work.clock.advance(1)
        await work.fail(lease_of(claimed, worker), f"error of {worker}")
    work.clock.advance(10)
    await work.engine.jobs.retry(work.principal, job_id)
    work.clock.advance(10)
    [claimed] = await work.claim(worker="third")
    work.clock.advance(1)
    await work.complete(lease_of(claimed, "third"))
    return job_id, [
        K.CREATED,
        K.CLAIMED,
        K.FAILED,
        K.CLAIMED,
        K.FAILED,
        K.DEAD_LETTERED,
        K.RETRIED,
        K.CLAIMED,
        K.COMPLETED,
    ]


async def test_every_step_is_told_in_its_order(work: Work) -> None:
    job_id, kinds = await a_long_life(work)
    told = await events(work, job_id)
    assert [event.kind for event in told] == kinds
    assert [event.at for event in told] == sorted(event.at for event in told)
    assert [event.worker_id for event in told] == [
        None, "first", "first", "second", "second", None, None, "third", "third",
    ]  # fmt: skip
    assert [event.error for event in told if event.error] == [
        "error of first",
        "error of second",
        "error of second",
    ]
    assert {event.job_id for event in told} == {job_id}


async def test_ids_are_distinct_and_stay_what_they_were(work: Work) -> None:
    job_id, kinds = await a_long_life(work)
    once = [event.id for event in await events(work, job_id)]
    assert len(set(once)) == len(kinds)
    assert [event.id for event in await events(work, job_id)] == once


async def test_ids_stay_the_same_while_the_job_goes_on(work: Work) -> None:
    job_id = await work.enqueue()
    seen: dict[object, JobEvent] = {}

    async def look() -> None:
        for event in await events(work, job_id):
            assert seen.setdefault(event.id, event) == event
        assert len(seen) == len(await events(work, job_id))

    await look()
    [claimed] = await work.claim()
    await look()
    work.clock.advance(1)
    await work.fail(lease_of(claimed), retry_in_seconds=0)
    await look()
    [claimed] = await work.claim()
    await look()
    work.clock.advance(1)
    await work.complete(lease_of(claimed))
    await look()
    assert len(seen) == 5


async def test_pages_cut_the_same_order_from_either_end(work: Work) -> None:
    job_id, kinds = await a_long_life(work)
    forward = await events(work, job_id)
    backward = await events(work, job_id, descending=True)
    assert backward == forward[::-1]
    for offset in range(len(kinds)):
        page = await work.engine.jobs.history(
            work.principal, forward[0].job_id, descending=False, limit=2, offset=offset
        )
        assert page.events == forward[offset : offset + 2]
        assert page.has_more == (offset + 2 < len(kinds))


async def test_a_cancelled_job_ends_with_its_cancellation(work: Work) -> None:
    job_id = await work.enqueue()
    work.clock.advance(3)
    await work.engine.jobs.cancel(work.principal, job_id)
    assert await work.history(job_id) == [K.CREATED, K.CANCELLED]


async def test_waiting_becoming_due_and_priorities_leave_no_entry(work: Work) -> None:
    job_id = await work.enqueue(run_at=work.in_seconds(5))
    work.clock.advance(5)
    await work.engine.claiming.promote()
    await work.engine.jobs.set_priority(work.principal, job_id, 5)
    assert await work.history(job_id) == [K.CREATED]


async def test_the_history_of_an_unknown_job_is_not_found(work: Work) -> None:
    with pytest.raises(NotFound):
        await events(work, uuid4())
    job_id = await work.enqueue("a")
    with pytest.raises(NotFound):
        await events(work.restricted_to("b"), job_id)
