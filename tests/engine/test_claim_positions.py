"""Claims that begin at a position, for the time that an old transaction keeps dead index entries alive."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from millstream.domain.clock import Clock
from millstream.domain.job import ClaimedJob
from millstream.engine.claim_positions import (
    LAG_SECONDS,
    SLOW_SECONDS,
    SLOW_SECONDS_PER_JOB,
    WHOLE_CLAIM_PAUSE,
    ClaimPositions,
)
from millstream.engine.lookback import RECENT_SECONDS, WHOLE_SCAN_EVERY, WHOLE_SECONDS, Lookback
from millstream.store import claims
from millstream.store.claims import Position, Seat, Want
from tests.engine.work import Work, lease_of

KEY = (1, "q")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Stopwatch:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def handed_out(*seconds: float, priority: int = 0) -> list[ClaimedJob]:
    """Jobs that were created so many seconds after START."""
    return [
        ClaimedJob(
            id=uuid4(),
            queue="q",
            payload="{}",
            priority=priority,
            retry_count=0,
            max_retries=3,
            timeout_seconds=300,
            created_at=START + timedelta(seconds=offset),
            lease_id=uuid4(),
            lease_expires_at=START,
        )
        for offset in seconds
    ]


async def claim_from(work: Work, position: Position | None, jobs: int = 10) -> list[UUID]:
    """Claim from queue `q`, beginning at `position`; returns what was handed out, best first."""
    async with work.engine.context.database.session() as session:
        [claimed] = await claims.claim_jobs(
            session,
            [Want(work.principal.tenant_id, "q", jobs, 0, position)],
            [Seat("w", 30)],
            [1] * jobs,
            [uuid4().hex for _ in range(jobs)],
            batch_id=1,
            now=work.clock.now(),
        )
    return [job.id for job in claimed]


async def test_a_claim_from_a_position_takes_jobs_in_the_order_of_a_whole_claim(work: Work) -> None:
    failed = await work.run()
    ids: dict[str, UUID] = {}
    since = work.in_seconds(1)
    for name, priority in [("old", 0), ("low", -5), ("high", 5), ("young", 0), ("lowest", -9), ("one", 1)]:
        work.clock.advance(1)
        ids[name] = await work.enqueue(priority=priority)
    await work.fail(failed, retry_in_seconds=0)
    ids["back"] = failed.job_id
    order = [ids[name] for name in ("high", "one", "back", "old", "young", "low", "lowest")]
    for jobs in range(1, 8):
        claimed = await claim_from(work, Position(0, since), jobs)
        assert claimed == order[:jobs]
        # All come back, so that the next claim finds the same: those in front of the position as returned ones.
        async with work.engine.context.database.session() as session:
            await session.run(
                "update millstream.jobs set state = 1, returned = id = $1, worker_id = null, lease_id = null,"
                " lease_expires_at = null where tenant_id = $2",
                failed.job_id,
                work.principal.tenant_id,
            )


async def test_whatever_comes_back_is_found_behind_the_position(work: Work) -> None:
    buried = await work.run(max_retries=0)
    await work.fail(buried)
    given_back, failed, changed = await work.run(), await work.run(), await work.enqueue(priority=3)
    due = await work.enqueue(run_at=work.in_seconds(5))
    work.clock.advance(10)
    position = Position(0, work.clock.now())
    tenant_id = work.principal.tenant_id
    async with work.engine.context.database.session() as session:
        lease = (tenant_id, given_back.job_id, given_back.lease_id or uuid4())
        assert await claims.release_jobs(session, [lease], work.clock.now())
    await work.fail(failed, retry_in_seconds=0)
    assert await work.engine.jobs.set_priority(work.principal, changed, 0) == 3
    await work.retry_dead(job_ids=(buried.job_id,))
    await work.engine.claiming.promote()
    claimed = await claim_from(work, position)
    assert claimed == [buried.job_id, given_back.job_id, failed.job_id, changed, due]


async def test_a_job_that_never_left_is_passed_over_until_a_whole_claim(work: Work) -> None:
    late = await work.enqueue()
    work.clock.advance(1)
    young = await work.enqueue()
    assert await claim_from(work, Position(0, work.clock.now())) == [young]
    assert await claim_from(work, None) == [late]


async def test_slow_claims_go_on_from_positions_and_lose_nothing(work: Work) -> None:
    """Every statement counts as slow, and whole claims are as rare as if they took an hour."""
    positions = work.engine.claiming.positions
    found = 0
    for _ in range(30):
        ids = [await work.enqueue(priority=priority) for priority in (0, 0, 1, -1)]
        work.clock.advance(0.3)
        claimed = await work.claim(limit=10)
        positions.learn((work.principal.tenant_id, "q"), None, claimed, seconds=3_600)
        assert len(positions) == 1
        found += len(claimed)
        assert {job.id for job in claimed} == set(ids)
        for job in claimed:
            await work.complete(lease_of(job, "w"))
    assert found == 120


def test_a_quick_claim_needs_no_position() -> None:
    positions = ClaimPositions()
    positions.learn(KEY, None, handed_out(1, 2), seconds=SLOW_SECONDS + 2 * SLOW_SECONDS_PER_JOB)
    assert positions.find(KEY) is None
    assert len(positions) == 0


def test_a_position_lags_behind_what_was_handed_out() -> None:
    stopwatch = Stopwatch()
    positions = ClaimPositions(stopwatch)
    positions.learn(KEY, None, handed_out(1, 2), seconds=60)
    first = positions.find(KEY)
    assert first == Position(0, START + timedelta(seconds=1 - LAG_SECONDS))
    for round_ in (3, 4, 5):
        stopwatch.now += LAG_SECONDS
        positions.learn(KEY, first, handed_out(round_), seconds=60)
    assert positions.find(KEY) == Position(0, START + timedelta(seconds=4))


def test_whole_claims_take_about_a_tenth_of_the_time() -> None:
    stopwatch = Stopwatch()
    positions = ClaimPositions(stopwatch)
    positions.learn(KEY, None, handed_out(1), seconds=2)
    stopwatch.now += 2 * WHOLE_CLAIM_PAUSE - 0.001
    assert positions.find(KEY) is not None
    stopwatch.now += 0.001
    assert positions.find(KEY) is None
    # A slow one that finds nothing keeps the position; a quick one gives it up.
    positions.learn(KEY, None, [], seconds=2)
    assert positions.find(KEY) is not None
    positions.learn(KEY, None, [], seconds=0)
    assert len(positions) == 0


def test_a_whole_claim_moves_the_position_to_the_level_that_it_reached() -> None:
    positions = ClaimPositions(Stopwatch())
    positions.learn(KEY, None, handed_out(1, priority=5), seconds=60)
    positions.learn(KEY, None, [*handed_out(2, priority=5), *handed_out(0, 3, priority=-2)], seconds=60)
    assert positions.find(KEY) == Position(-2, START - timedelta(seconds=LAG_SECONDS))


def test_scans_of_due_rows_look_a_minute_back_and_now_and_then_at_all() -> None:
    stopwatch = Stopwatch()
    lookback = Lookback(Clock(), stopwatch)

    def scan(found: int = 0) -> int:
        seconds = lookback.seconds()
        lookback.found(found, limit=10)
        return seconds

    assert [scan() for _ in range(WHOLE_SCAN_EVERY + 1)] == [
        WHOLE_SECONDS,
        *[RECENT_SECONDS] * (WHOLE_SCAN_EVERY - 1),
        WHOLE_SECONDS,
    ]
    assert [scan(found=10), scan(), scan()] == [RECENT_SECONDS, WHOLE_SECONDS, RECENT_SECONDS]
    stopwatch.now += 31
    assert scan() == WHOLE_SECONDS
