"""Creates of capped tenants share transactions, and every cap holds to the job. Contract: spooled-tenancy 7.2."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from millstream.domain import limits
from millstream.domain.errors import (
    AuthenticationFailed,
    MillstreamError,
    Overloaded,
    PoisonRow,
    QuotaExceeded,
    RowLocked,
    ShuttingDown,
)
from millstream.domain.job import DeadSelection, Enqueued, JobState, NewJob
from millstream.domain.plan import plan_of
from millstream.domain.tenant import Principal
from millstream.engine import batcher as batchers
from millstream.engine.engine import Engine
from millstream.store.database import Database
from tests.conftest import make_principal
from tests.engine.work import Work

JOB = NewJob(queue="q", payload="{}")


async def make_capped(engine: Engine, **own: int) -> Principal:
    """Make a tenant of the free plan with limits of its own; 10 active jobs and 1,000 a day without."""
    principal = await make_principal(engine, plan_tier="free")
    text = "{" + ",".join(f'"{name}":{value}' for name, value in own.items()) + "}"
    return replace(principal, plan=plan_of("free", text))


async def attempt(engine: Engine, principal: Principal, jobs: Sequence[NewJob]) -> int | MillstreamError:
    """Enqueue one job by itself, several as a bulk; returns how many were created, or the refusal."""
    try:
        if len(jobs) == 1:
            return int((await engine.jobs.enqueue(principal, jobs[0])).created)
        answers = await engine.jobs.enqueue_many(principal, jobs)
    except MillstreamError as error:
        return error
    assert all(isinstance(answer, Enqueued) for answer in answers)
    return sum(isinstance(answer, Enqueued) and answer.created for answer in answers)


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three requests be a turn, so that many transactions of both processes compete."""
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 3 * limits.BATCH_BYTES_MAX // limits.BATCH_CREATES_MAX)


async def alive(database: Database, principal: Principal) -> int:
    async with database.session() as session:
        row = await session.one(
            "select count(*) as jobs from millstream.jobs where tenant_id = $1", principal.tenant_id
        )
    assert row is not None
    return int(row["jobs"])


@pytest.mark.usefixtures("short_turns")
@pytest.mark.parametrize(
    ("own", "resource"),
    [
        ({"max_active_jobs": 37}, "active_jobs"),
        ({"max_active_jobs": 10_000, "max_jobs_per_day": 37}, "jobs_per_day"),
    ],
)
async def test_of_a_hundred_creates_on_two_processes_as_many_as_fit_succeed(
    engine: Engine, second_engine: Engine, database: Database, own: dict[str, int], resource: str
) -> None:
    principal = await make_capped(engine, **own)
    answers = await asyncio.gather(
        *(attempt(where, principal, [JOB]) for _ in range(50) for where in (engine, second_engine))
    )
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert answers.count(1) == 37
    assert len(refused) == 63
    assert {(e.resource, e.current, e.limit, e.plan) for e in refused} == {(resource, 37, 37, "free")}
    assert await alive(database, principal) == 37


@pytest.mark.usefixtures("short_turns")
async def test_bulks_and_singles_of_many_tenants_on_two_processes_fill_every_plan_to_the_job(
    engine: Engine, second_engine: Engine, database: Database
) -> None:
    dice = random.Random(7)
    # Every other one by the day.
    room = range(20, 26)
    principals = [
        await make_capped(
            engine, max_active_jobs=5_000 if n % 2 else n, max_jobs_per_day=n if n % 2 else 5_000
        )
        for n in room
    ]
    asked = [
        (principal, [JOB] * dice.choice([1, 1, 1, 2, 5, 9])) for principal in principals for _ in range(40)
    ]
    dice.shuffle(asked)
    answers = await asyncio.gather(
        *(attempt(dice.choice([engine, second_engine]), principal, jobs) for principal, jobs in asked)
    )
    for principal, fitting in zip(principals, room, strict=True):
        mine = [
            (len(jobs), answer)
            for (owner, jobs), answer in zip(asked, answers, strict=True)
            if owner is principal
        ]
        created = sum(answer for _, answer in mine if isinstance(answer, int))
        # Whole or not at all; and since single jobs were asked for to the end, there is no room left.
        assert all(answer == size for size, answer in mine if isinstance(answer, int))
        assert created == fitting == await alive(database, principal)
        for size, answer in mine:
            if isinstance(answer, QuotaExceeded):
                assert (answer.resource, answer.limit) == (
                    ("jobs_per_day" if fitting % 2 else "active_jobs"), fitting,
                )  # fmt: skip
                assert answer.current + size > answer.limit


@pytest.mark.usefixtures("short_turns")
async def test_dead_letters_and_new_jobs_compete_for_the_same_room(
    engine: Engine, second_engine: Engine, work: Work, database: Database
) -> None:
    principal = await make_capped(engine, max_active_jobs=10)
    mine = Work(engine, principal, work.clock)
    dead = [await mine.die() for _ in range(10)]

    async def revive(job_id: UUID) -> int:
        try:
            revived = await second_engine.jobs.retry_dead(
                principal, DeadSelection(job_ids=(job_id,), limit=1)
            )
        except QuotaExceeded as error:
            assert (error.resource, error.current, error.limit) == ("active_jobs", 10, 10)  # noqa: PT017 - only some of them are refused
            return 0
        return len(revived.job_ids)

    creates = [attempt(engine, principal, [JOB]) for _ in range(20)]
    answers = await asyncio.gather(*creates, *map(revive, dead))
    assert sum(answer for answer in answers if isinstance(answer, int)) == 10
    assert await alive(database, principal) == 10


async def test_one_key_asked_for_a_hundred_times_is_one_job_and_one_charge(
    engine: Engine, second_engine: Engine, database: Database
) -> None:
    principal = await make_capped(engine, max_active_jobs=2)
    keyed = NewJob(queue="q", payload="{}", idempotency_key="same")
    engines = [engine, second_engine] * 50
    answers = await asyncio.gather(*(where.jobs.enqueue(principal, keyed) for where in engines))
    assert len({answer.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert await attempt(engine, principal, [JOB]) == 1
    # Full: what is known is answered, what is not is refused, and a bulk of both is refused whole.
    assert await attempt(engine, principal, [keyed]) == 0
    assert isinstance(await attempt(engine, principal, [keyed, JOB]), QuotaExceeded)
    assert await attempt(engine, principal, [keyed, keyed]) == 0
    assert await alive(database, principal) == 2


async def test_requests_of_one_turn_are_decided_in_their_order(engine: Engine) -> None:
    principal = await make_capped(engine, max_active_jobs=10)
    other = NewJob(queue="q", payload="{}", idempotency_key="k")
    asked = [[JOB], [JOB] * 6, [JOB] * 4, [other], [JOB] * 3, [other], [JOB, JOB], [JOB]]
    answers = await asyncio.gather(*(attempt(engine, principal, jobs) for jobs in asked))
    told = [answer.current if isinstance(answer, QuotaExceeded) else f"+{answer}" for answer in answers]
    assert told == ["+1", "+6", 7, "+1", 8, "+0", "+2", 10]


async def test_concurrent_creates_of_a_tenant_share_a_transaction(engine: Engine, database: Database) -> None:
    principal = await make_capped(engine, max_active_jobs=1_000)
    await asyncio.gather(*(attempt(engine, principal, [JOB]) for _ in range(200)))
    async with database.session() as session:
        rows = await session.many(
            "select amount from millstream.counter_deltas where tenant_id = $1 and kind = 1",
            principal.tenant_id,
        )
    # The deltas of the day: one for each transaction.
    assert sum(row["amount"] for row in rows) == 200
    assert len(rows) <= 3


async def test_a_tenant_whose_row_is_held_holds_up_nobody_else(
    engine: Engine, database_dsn: str, database: Database
) -> None:
    held = await make_capped(engine)
    others = [await make_capped(engine) for _ in range(3)]
    holder = await asyncpg.connect(database_dsn)
    try:
        await holder.execute("begin")
        await holder.execute("select from millstream.tenants where id = $1 for update", held.tenant_id)
        waiting = [asyncio.create_task(attempt(engine, held, [JOB])) for _ in range(12)]
        answers = await asyncio.gather(*(attempt(engine, other, [JOB]) for other in others))
        assert answers == [1, 1, 1]
        assert not any(task.done() for task in waiting)
        await holder.execute("rollback")
        outcomes = await asyncio.gather(*waiting)
    finally:
        await holder.close()
    assert outcomes.count(1) == 10
    assert await alive(database, held) == 10


async def test_a_row_that_stays_held_is_told_apart_from_a_full_plan(
    engine: Engine, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batchers, "LOCKED_ROW_SECONDS_MAX", 0.2)
    principal = await make_capped(engine)
    holder = await asyncpg.connect(database_dsn)
    try:
        await holder.execute("begin")
        await holder.execute("select from millstream.tenants where id = $1 for update", principal.tenant_id)
        assert isinstance(await attempt(engine, principal, [JOB]), RowLocked)
        await holder.execute("rollback")
    finally:
        await holder.close()
    assert await attempt(engine, principal, [JOB]) == 1


async def test_what_the_database_refuses_fails_alone(engine: Engine, database: Database) -> None:
    principal = await make_capped(engine)
    # Past what the edge lets through: a priority that a check of the table refuses.
    poison = NewJob(queue="q", payload="{}", priority=101)
    answers = await asyncio.gather(
        *(attempt(engine, principal, [job]) for job in [JOB, JOB, poison, JOB, poison, JOB])
    )
    assert [isinstance(answer, PoisonRow) or answer for answer in answers] == [1, 1, True, 1, True, 1]
    assert await alive(database, principal) == 4


async def test_a_caller_that_left_before_its_turn_is_forgotten(
    engine: Engine, database_dsn: str, database: Database
) -> None:
    principal = await make_capped(engine)
    holder = await asyncpg.connect(database_dsn)
    try:
        await holder.execute("begin")
        await holder.execute("select from millstream.tenants where id = $1 for update", principal.tenant_id)
        first = asyncio.create_task(attempt(engine, principal, [JOB]))
        async with asyncio.timeout(10):
            while not await holder.fetchval(  # noqa: ASYNC110 - polled with a deadline
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()"
            ):
                await asyncio.sleep(0.002)
        left = [asyncio.create_task(attempt(engine, principal, [JOB])) for _ in range(4)]
        await asyncio.sleep(0)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await holder.execute("rollback")
        assert await first == 1
    finally:
        await holder.close()
    assert await attempt(engine, principal, [JOB]) == 1
    assert await alive(database, principal) == 2


async def test_a_tenant_that_is_gone_creates_nothing(engine: Engine, database: Database) -> None:
    principal = await make_capped(engine)
    async with database.session() as session:
        await session.run("delete from millstream.tenants where id = $1", principal.tenant_id)
    assert isinstance(await attempt(engine, principal, [JOB]), AuthenticationFailed)
    assert await alive(database, principal) == 0


async def test_more_than_may_wait_is_refused_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_QUEUE_ROWS_MAX", 8)
    principal = await make_capped(engine)
    answers = await asyncio.gather(*(attempt(engine, principal, [JOB]) for _ in range(12)))
    assert Counter(type(answer) for answer in answers) == {int: 8, Overloaded: 4}


async def test_closing_answers_what_was_asked_and_takes_no_more(engine: Engine) -> None:
    principal = await make_capped(engine)
    asked = [asyncio.create_task(attempt(engine, principal, [JOB])) for _ in range(5)]
    await asyncio.sleep(0)
    await engine.jobs.close()
    assert await asyncio.gather(*asked) == [1] * 5
    assert isinstance(await attempt(engine, principal, [JOB]), ShuttingDown)


async def test_an_empty_bulk_is_nothing(engine: Engine) -> None:
    assert await engine.jobs.enqueue_many(await make_capped(engine), []) == []


async def test_a_capped_tenant_may_have_the_largest_cap_there_is(engine: Engine, work: Work) -> None:
    principal = await make_capped(engine, max_active_jobs=2**31 - 1, max_jobs_per_day=2**31 - 1)
    created = await engine.jobs.enqueue(principal, JOB)
    assert (await engine.jobs.get(principal, created.id)).state is JobState.READY
    assert (await engine.usage.report(principal)).items.active_jobs.current == 1
    assert await Work(engine, principal, work.clock).retry_dead() == []
