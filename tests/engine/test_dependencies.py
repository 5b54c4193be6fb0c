"""Dependencies between any jobs: added, passed over, refused."""

from uuid import uuid4

import pytest

from millstream.domain.errors import Conflict, NotFound
from millstream.domain.job import DependencyMode, JobState
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of

ALL, ANY = DependencyMode.ALL, DependencyMode.ANY


async def test_a_job_waits_for_what_it_is_made_to_wait_for(work: Work) -> None:
    first, second, job = [await work.enqueue(queue) for queue in ("a", "a", "q")]
    added = await work.engine.dependencies.add(work.principal, job, [first, second, first], ALL)
    assert (added.added, added.is_met) == (2, False)
    assert await work.claim() == []
    again = await work.engine.dependencies.add(work.principal, job, [second], ANY)
    assert (again.added, again.is_met) == (0, False)
    found = await work.engine.dependencies.get(work.principal, job)
    assert {each.id for each in found.depends_on} == {first, second}
    assert (found.job.dependency_mode, found.dependents) == (ANY, [])
    below = await work.engine.dependencies.get(work.principal, first)
    assert [(each.id, each.state) for each in below.dependents] == [(job, JobState.BLOCKED)]
    await work.complete(lease_of((await work.claim("a"))[0]))
    assert [claimed.id for claimed in await work.claim()] == [job]


async def test_completed_jobs_are_met_at_once_and_dead_ones_are_waited_for(work: Work) -> None:
    lease = await work.run("a")
    await work.complete(lease)
    dead = await work.die("b")
    job = await work.enqueue()
    assert (await work.engine.dependencies.add(work.principal, job, [lease.job_id], ALL)).is_met
    assert not (await work.engine.dependencies.add(work.principal, job, [dead], ALL)).is_met
    # The mode is the whole job's: one of the two is completed.
    assert (await work.engine.dependencies.add(work.principal, job, [dead], ANY)).is_met
    assert not (await work.engine.dependencies.add(work.principal, job, [dead], ALL)).is_met
    await work.retry_dead(job_ids=(dead,))
    await work.complete(lease_of((await work.claim("b"))[0]))
    assert await work.state(job) is JobState.READY


async def test_circles_and_itself_are_passed_over(work: Work) -> None:
    a, b, c = [await work.enqueue() for _ in range(3)]
    add = work.engine.dependencies.add
    assert (await add(work.principal, b, [a], ALL)).added == 1
    assert (await add(work.principal, c, [b], ALL)).added == 1
    assert (await add(work.principal, a, [a, b, c], ALL)).added == 0
    assert await work.state(a) is JobState.READY


async def test_what_cannot_be_is_refused(work: Work) -> None:
    add = work.engine.dependencies.add
    waiting, running = await work.enqueue("w"), await work.run()
    with pytest.raises(NotFound):
        await add(work.principal, waiting, [uuid4()], ALL)
    with pytest.raises(NotFound):
        await add(work.principal, uuid4(), [waiting], ALL)
    with pytest.raises(Conflict, match="pending or scheduled"):
        await add(work.principal, running.job_id, [waiting], ALL)
    cancelled = await work.enqueue("w")
    await work.engine.jobs.cancel(work.principal, cancelled)
    with pytest.raises(Conflict, match="cancelled"):
        await add(work.principal, waiting, [cancelled], ALL)
    with pytest.raises(Conflict, match="cancelled"):
        await add(work.principal, waiting, [cancelled], ANY)
    assert (await work.engine.dependencies.get(work.principal, waiting)).depends_on == []
    stranger = await make_principal(work.engine)
    with pytest.raises(NotFound):
        await add(stranger, waiting, [running.job_id], ALL)
    with pytest.raises(NotFound):
        await work.engine.dependencies.get(work.restricted_to("other").principal, waiting)


async def test_a_scheduled_job_waits_for_both(work: Work) -> None:
    lease = await work.run("a")
    job = await work.enqueue(run_at=work.in_seconds(60))
    await work.engine.dependencies.add(work.principal, job, [lease.job_id], ALL)
    assert await work.state(job) is JobState.BLOCKED
    await work.complete(lease)
    assert await work.state(job) is JobState.SCHEDULED
