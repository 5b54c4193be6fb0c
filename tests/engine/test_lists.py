"""Lists of jobs: every filter, every order, stable pages. Contract: spooled-jobs 3.2, 3.7, 3.8, 3.16."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from millstream.domain.job import Job, JobFilter, JobOrder, JobState
from tests.conftest import make_principal
from tests.engine.work import Work

S = JobState


@pytest.fixture
async def jobs(work: Work) -> dict[str, UUID]:
    """One job in each state, a second apart, by the name of its state; the parent of the blocked one is `PARENT`."""
    made: dict[str, UUID] = {}
    for state in (S.RUNNING, S.COMPLETED, S.DEAD, S.CANCELLED, S.RETRYING, S.SCHEDULED, S.BLOCKED, S.READY):
        made[state.name] = (await work.in_state(state)).job_id
        work.clock.advance(1)
    made["PARENT"] = (await work.job(made["BLOCKED"])).parent_job_id or uuid4()
    return made


async def listed(work: Work, **wanted: Any) -> list[UUID]:
    wanted.setdefault("descending", False)
    page = await work.engine.jobs.list(work.principal, JobFilter(**wanted))
    assert not page.has_more
    return [job.id for job in page.jobs]


async def test_a_list_shows_jobs_wherever_they_live_newest_first(work: Work, jobs: dict[str, UUID]) -> None:
    page = await work.engine.jobs.list(work.principal, JobFilter())
    assert {job.id for job in page.jobs} == set(jobs.values())
    order = [(job.created_at, job.id) for job in page.jobs]
    assert order == sorted(order, reverse=True)


async def test_a_state_filters(work: Work, jobs: dict[str, UUID]) -> None:
    for state in JobState:
        expected = {jobs[state.name]} | ({jobs["PARENT"]} if state is S.READY else set())
        assert set(await listed(work, states=(state,))) == expected, state


async def test_several_states_match_any_of_them(work: Work, jobs: dict[str, UUID]) -> None:
    assert set(await listed(work, states=(S.DEAD, S.COMPLETED))) == {jobs["DEAD"], jobs["COMPLETED"]}


async def test_counts_count_each_state(work: Work, jobs: dict[str, UUID]) -> None:
    counts = await work.engine.jobs.counts(work.principal)
    assert counts == {**dict.fromkeys(JobState, 1), S.READY: 2}
    restricted = work.restricted_to("parents")
    assert sum((await restricted.engine.jobs.counts(restricted.principal)).values()) == 1


async def test_every_order_goes_both_ways_and_pages_without_a_gap(work: Work, jobs: dict[str, UUID]) -> None:
    await work.engine.jobs.set_priority(work.principal, jobs["SCHEDULED"], 5)
    await work.engine.jobs.set_priority(work.principal, jobs["RETRYING"], -5)
    for order in JobOrder:
        for descending in (False, True):
            await _check_order(work, len(jobs), order, descending)


async def _check_order(work: Work, count: int, order: JobOrder, descending: bool) -> None:
    keys: dict[JobOrder, Callable[[Job], Any]] = {
        JobOrder.CREATED_AT: lambda job: job.created_at,
        JobOrder.UPDATED_AT: lambda job: job.updated_at,
        JobOrder.RUN_AT: lambda job: job.run_at,
        JobOrder.COMPLETED_AT: lambda job: job.completed_at,
        JobOrder.PRIORITY: lambda job: job.priority,
        JobOrder.STATE: lambda job: job.state,
        JobOrder.QUEUE: lambda job: job.queue,
        JobOrder.RETRY_COUNT: lambda job: job.retry_count,
    }
    wanted = JobFilter(order=order, descending=descending)
    page = await work.engine.jobs.list(work.principal, wanted)
    values = [keys[order](job) for job in page.jobs]
    present = [value for value in values if value is not None]
    assert present, order
    assert present == sorted(present, reverse=descending), (order, descending)
    # What has no such time comes last, whichever way.
    assert values == present + [None] * (len(values) - len(present))
    paged: list[UUID] = []
    for offset in range(0, 10, 2):
        part = await work.engine.jobs.list(
            work.principal, JobFilter(order=order, descending=descending, limit=2, offset=offset)
        )
        paged += [job.id for job in part.jobs]
        assert part.has_more == (offset + 2 < count)
    assert paged == [job.id for job in page.jobs]


async def test_filters_combine(work: Work) -> None:
    wanted = await work.enqueue("a", job_type="resize", tags='["x"]')
    await work.enqueue("a", job_type="other", tags='["x"]')
    await work.enqueue("b", job_type="resize", tags='["x"]')
    await work.enqueue("a", job_type="resize")
    assert await listed(work, queue="a", job_type="resize", tag="x") == [wanted]


async def test_created_from_is_inclusive_and_created_before_exclusive(work: Work) -> None:
    ids: list[UUID] = []
    for _ in range(4):
        ids.append(await work.enqueue())
        work.clock.advance(10)
    first, last = work.in_seconds(-30), work.in_seconds(-10)
    assert await listed(work, created_from=first, created_before=last) == ids[1:3]


async def test_a_tag_matches_an_element_a_key_or_the_text_itself(work: Work) -> None:
    found: set[UUID] = set()
    for tags, matches in (
        ('["x", "y"]', True),
        ('{"x": 1}', True),
        ('"x"', True),
        ('{"y": "x"}', False),
        ('{"y": {"x": 1}}', False),
        ('[["x"]]', False),
        ('["xx"]', False),
        ("7", False),
        ("null", False),
        (None, False),
    ):
        job_id = await work.enqueue(tags=tags)
        found |= {job_id} if matches else set()
        assert set(await listed(work, tag="x")) == found, tags
        assert (await work.job(job_id)).tags == tags


SEARCHED = {
    "plain": ("orders", "resize"),
    "percent": ("100%-sure", "resize"),
    "underscore": ("a_b", "resize"),
    "dash": ("axb", "resize"),
    "backslash": ("back.slash", "back\\slash"),
    "type": ("other", "SendEmail"),
}


FOUND: dict[str, set[str]] = {
    "order": {"plain"},
    "ORD": {"plain"},
    "rder": {"plain"},
    "%": {"percent"},
    "a_b": {"underscore"},
    "_": {"underscore"},
    "axb": {"dash"},
    "\\": {"backslash"},
    "email": {"type"},
    "resize": {"plain", "percent", "underscore", "dash"},
    "nothing of the kind": set(),
}


async def test_a_search_takes_its_text_literally_in_any_case(work: Work) -> None:
    ids = {name: await work.enqueue(queue, job_type=kind) for name, (queue, kind) in SEARCHED.items()}
    for text, found in FOUND.items():
        assert set(await listed(work, search=text)) == {ids[name] for name in found}, text


async def test_a_search_finds_the_head_of_an_id(work: Work) -> None:
    job_id = await work.enqueue()
    other = await work.enqueue()
    text = str(job_id)
    for length in (36, 35, 28):
        assert await listed(work, search=text[:length]) == [job_id]
        assert await listed(work, search=text[:length].upper()) == [job_id]
    assert set(await listed(work, search=text[:8])) == {job_id, other}
    assert await listed(work, search=text[10:]) == []
    assert await listed(work, search=text + "0") == []


async def test_a_key_of_some_queues_sees_those_only(work: Work) -> None:
    mine = await work.enqueue("a")
    await work.enqueue("b")
    restricted = work.restricted_to("a")
    assert await listed(restricted) == [mine]
    assert await listed(restricted, queue="b") == []
    assert await listed(work.restricted_to()) == []


async def test_tenants_see_their_own_jobs(work: Work) -> None:
    await work.enqueue()
    other = Work(work.engine, await make_principal(work.engine), work.clock)
    assert await listed(other) == []
    assert await listed(other, search="q") == []


async def test_statuses_come_in_the_order_asked_for_each_once(work: Work, jobs: dict[str, UUID]) -> None:
    asked = [jobs["READY"], uuid4(), jobs["COMPLETED"], jobs["DEAD"], jobs["READY"]]
    found = await work.engine.jobs.statuses(work.principal, asked)
    assert [(status.id, status.state) for status in found] == [
        (jobs["READY"], S.READY),
        (jobs["COMPLETED"], S.COMPLETED),
        (jobs["DEAD"], S.DEAD),
    ]
    assert [status.completed_at is not None for status in found] == [False, True, False]


async def test_a_list_misses_no_job_that_moves_meanwhile(work: Work) -> None:
    leases = [await work.run(lease_seconds=600) for _ in range(30)]
    expected = {lease.job_id for lease in leases}

    async def look() -> None:
        for _ in range(15):
            page = await work.engine.jobs.list(work.principal, JobFilter(limit=100))
            assert {job.id for job in page.jobs} == expected
            assert len(page.jobs) == 30

    async def finish() -> None:
        for lease in leases:
            await work.complete(lease)

    await asyncio.gather(look(), finish())
