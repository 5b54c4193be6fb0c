"""Connections lost in the middle of a batch: callers get the truth, or are told that it is not known."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from msgspec.structs import replace

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import Conflict, OutcomeUnknown
from millstream.domain.job import Enqueued, JobEventKind, JobState, NewJob
from millstream.domain.message import NewMessage, PublishedMessage, ReadRequest
from millstream.domain.plan import plan_of
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.conftest import Cluster
from tests.engine.line import Line, open_line
from tests.engine.work import Work, lease_of

# Words by which the statements are recognised on the line; a prepared statement is told by its arguments.
MARK = "markthis"


@pytest.fixture
async def line_and_dsn(database_dsn: str) -> AsyncIterator[tuple[Line, str]]:
    async with open_line(database_dsn) as opened:
        yield opened


@pytest.fixture
def line(line_and_dsn: tuple[Line, str]) -> Line:
    return line_and_dsn[0]


@pytest.fixture
async def far(
    line_and_dsn: tuple[Line, str], principal: Principal, database_dsn: str, clock: SteeredClock
) -> AsyncIterator[Work]:
    """The same tenant on an engine whose connections go over the line."""
    database = await Database.open(line_and_dsn[1], min_size=1, max_size=5)
    engine: Engine = await open_engine(
        database, direct=lambda: installation.direct_session(database_dsn), clock=clock
    )
    yield Work(engine, principal, clock)
    await engine.close()
    await database.close()


async def test_a_create_whose_answer_was_lost_is_answered_as_created(
    work: Work, far: Work, line: Line
) -> None:
    line.lose_answer_to = MARK.encode()
    creates = [far.enqueue(payload=f'"{MARK}{number}"') for number in range(20)]
    ids = await asyncio.gather(*creates)
    assert line.cuts == 1
    for number, job_id in enumerate(ids):
        assert (await work.job(job_id)).payload == f'"{MARK}{number}"'
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 20


async def test_a_create_that_never_reached_the_database_is_not_run_again(
    work: Work, far: Work, line: Line
) -> None:
    line.lose_question = MARK.encode()
    with pytest.raises(OutcomeUnknown):
        await far.enqueue(payload=f'"{MARK}"')
    assert line.cuts == 1
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 0
    # The engine works again by itself.
    job_id = await far.enqueue()
    assert await work.state(job_id) is JobState.READY


async def test_capped_creates_whose_transaction_was_cut_short_did_nothing_and_say_so(
    work: Work, far: Work, line: Line
) -> None:
    capped = replace(work.principal, plan=plan_of("free", '{"max_active_jobs": 12}'))
    line.lose_answer_to = MARK.encode()
    jobs = [NewJob(queue="q", payload=f'"{MARK}{number}"') for number in range(10)]
    answers = await asyncio.gather(
        *(far.engine.jobs.enqueue(capped, job) for job in jobs), return_exceptions=True
    )
    assert line.cuts == 1
    # The insert's answer was lost, and before the commit its transaction with it.
    assert {type(answer) for answer in answers} == {OutcomeUnknown}
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 0
    assert isinstance(await far.engine.jobs.enqueue(capped, jobs[0]), Enqueued)


async def test_capped_creates_whose_commit_was_lost_are_answered_as_created(
    work: Work, far: Work, line: Line
) -> None:
    capped = replace(work.principal, plan=plan_of("free"))
    line.lose_answer_to = b"commit"
    answers = await asyncio.gather(
        *(far.engine.jobs.enqueue(capped, NewJob(queue="q", payload="1")) for _ in range(12)),
        return_exceptions=True,
    )
    assert line.cuts == 1
    created = [answer for answer in answers if isinstance(answer, Enqueued)]
    assert len({answer.id for answer in created}) == 10
    for answer in created:
        assert await work.state(answer.id) is JobState.READY
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 10
    # Nobody can tell a refusal from what never got there.
    assert [type(answer) for answer in answers if not isinstance(answer, Enqueued)] == [OutcomeUnknown] * 2


async def test_a_completion_whose_answer_was_lost_is_answered_as_done(
    work: Work, far: Work, line: Line
) -> None:
    lease = await work.run()
    line.lose_answer_to = MARK.encode()
    await far.complete(lease, f'"{MARK}"')
    assert line.cuts == 1
    job = await work.job(lease.job_id)
    assert (job.state, job.result) == (JobState.COMPLETED, f'"{MARK}"')
    assert (await work.history(lease.job_id)).count(JobEventKind.COMPLETED) == 1


async def test_a_completion_presented_again_is_not_told_of_the_first_ones_success(
    work: Work, far: Work, line: Line
) -> None:
    lease = await work.run()
    await work.complete(lease, '"first"')
    work.clock.advance(60)
    line.lose_answer_to = MARK.encode()
    with pytest.raises(Conflict, match="already completed"):
        await far.complete(lease, f'"{MARK}"')
    assert line.cuts == 1
    assert (await work.job(lease.job_id)).result == '"first"'


async def test_a_completion_that_never_arrived_leaves_the_job_running(
    work: Work, far: Work, line: Line
) -> None:
    lease = await work.run()
    line.lose_question = MARK.encode()
    with pytest.raises(OutcomeUnknown):
        await far.complete(lease, f'"{MARK}"')
    assert await work.state(lease.job_id) is JobState.RUNNING
    await far.complete(lease)


@pytest.mark.parametrize(
    ("max_retries", "retry_in", "told"), [(3, None, 1), (3, 90, 90), (3, 0, 0), (0, None, None)]
)
async def test_a_failure_whose_answer_was_lost_is_answered_as_it_was_recorded(
    work: Work, far: Work, line: Line, max_retries: int, retry_in: int | None, told: int | None
) -> None:
    lease = await work.run(max_retries=max_retries)
    line.lose_answer_to = MARK.encode()
    failed = await far.fail(lease, MARK, retry_in_seconds=retry_in)
    assert line.cuts == 1
    assert failed.retry_in_seconds == told
    job = await work.job(lease.job_id)
    assert job.state is (
        JobState.DEAD if told is None else JobState.READY if told == 0 else JobState.RETRYING
    )
    # Once, not twice.
    assert job.retry_count == (0 if told is None else 1)


async def test_a_claim_whose_answer_was_lost_gives_its_jobs_back(work: Work, far: Work, line: Line) -> None:
    ids = [await work.enqueue() for _ in range(3)]
    line.lose_answer_to = MARK.encode()
    with pytest.raises(OutcomeUnknown):
        await far.claim(worker=MARK, limit=3)
    assert line.cuts == 1
    claimed = await work.claim(limit=10)
    assert [job.id for job in claimed] == ids
    assert all(job.retry_count == 0 for job in claimed)
    for job in claimed:
        await work.complete(lease_of(job))


async def test_a_renewal_whose_answer_was_lost_says_so(work: Work, far: Work, line: Line) -> None:
    lease = await work.run(worker=MARK)
    line.lose_answer_to = MARK.encode()
    with pytest.raises(OutcomeUnknown):
        await far.renew(lease, 77)
    # It may be presented again: renewing twice is renewing once.
    assert await far.renew(lease, 77) == work.in_seconds(77)


# A publish with a delay reads before it is appended: one at a time, so that the cut finds nobody reading.
@pytest.mark.parametrize(("publishes", "delays"), [(20, 0), (1, 20)])
async def test_a_publish_whose_answer_was_lost_is_answered_with_its_offsets(
    work: Work, far: Work, line: Line, publishes: int, delays: int
) -> None:
    await far.engine.topics.create(far.principal, "t", 2)
    publish = far.engine.publishing.publish
    await publish(far.principal, "t", [NewMessage("before", partition=0)])
    messages = [
        NewMessage(f"{MARK} {number}", partition=number % 2, priority=Priority(number % 5))
        for number in range(10)
    ] + [NewMessage(f"late {number}", partition=0, delay_seconds=5) for number in range(delays)]
    line.lose_answer_to = MARK.encode()
    answers = await asyncio.gather(*(publish(far.principal, "t", messages) for _ in range(publishes)))
    assert line.cuts == 1
    work.clock.advance(5)
    for outcomes in answers:
        for message, answer in zip(messages, outcomes, strict=True):
            assert isinstance(answer, PublishedMessage)
            page = await work.engine.reading.read(
                work.principal, "t", answer.partition, ReadRequest(offset=answer.offset, limit=1)
            )
            assert page.messages[0].value == message.value
    status = await work.engine.topics.describe(work.principal, "t")
    assert [one.next_offset for one in status.partitions] == [
        1 + publishes * (5 + delays),
        publishes * 5,
    ]


async def test_a_publish_that_never_reached_the_database_is_not_run_again(
    work: Work, far: Work, line: Line
) -> None:
    await far.engine.topics.create(far.principal, "t", 1)
    line.lose_question = MARK.encode()
    with pytest.raises(OutcomeUnknown):
        await far.engine.publishing.publish(far.principal, "t", [NewMessage(MARK)])
    assert line.cuts == 1
    assert (await work.engine.topics.describe(work.principal, "t")).partitions[0].next_offset == 0
    [after] = await far.engine.publishing.publish(far.principal, "t", [NewMessage("after")])
    assert isinstance(after, PublishedMessage)
    assert after.offset == 0


async def test_a_session_ended_while_its_statement_waits_did_nothing(
    work: Work, database_dsn: str, cluster: Cluster
) -> None:
    lease = await work.run()
    holder = await asyncpg.connect(database_dsn)
    killer = await asyncpg.connect(cluster.superuser_dsn)
    try:
        await holder.execute("begin")
        await holder.execute("select from millstream.jobs where id = $1 for update", lease.job_id)
        completion = asyncio.create_task(work.complete(lease))
        async with asyncio.timeout(10):
            while not await killer.fetchval(  # noqa: ASYNC110 - polled with a deadline
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where wait_event_type = 'Lock' and query like 'with batch as materialized%'"
            ):
                await asyncio.sleep(0.002)
        with pytest.raises(OutcomeUnknown):
            await completion
        await holder.execute("rollback")
    finally:
        await holder.close()
        await killer.close()
    assert await work.state(lease.job_id) is JobState.RUNNING
    await work.complete(lease)


async def test_connections_cut_at_random_moments_lose_and_double_nothing(
    work: Work, far: Work, line: Line
) -> None:
    known: list[Enqueued] = []
    unknown = 0

    async def create(number: int) -> None:
        nonlocal unknown
        job = NewJob(queue="q", payload=str(number), idempotency_key=f"k{number}")
        try:
            known.append(await far.engine.jobs.enqueue(far.principal, job))
        except OutcomeUnknown:
            unknown += 1

    creates = [asyncio.create_task(create(number)) for number in range(200)]
    for _ in range(5):
        for _ in range(3):
            await asyncio.sleep(0)
        line.cut()
    await asyncio.gather(*creates)
    assert len(known) + unknown == 200
    for enqueued in known:
        assert enqueued.created
        assert await work.state(enqueued.id) is JobState.READY
    total = sum((await work.engine.jobs.counts(work.principal)).values())
    assert len(known) <= total <= 200
