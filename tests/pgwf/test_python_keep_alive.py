"""Leases that are extended beside the work, over every source of connections."""

import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

import psycopg
import pytest

from millstream.pgwf import (
    AsyncWorkflow,
    InvalidArgument,
    JobCancelled,
    LeaseExpired,
    LeaseMismatch,
    LeaseState,
    Workflow,
)
from tests.pgwf.callers import SOURCES, Caller, entered, open_caller, open_source, settled, until
from tests.pgwf.flow import Flow


@pytest.fixture(params=["psycopg", "asyncpg"])
async def caller(request: pytest.FixtureRequest, flow: Flow) -> AsyncIterator[Caller]:
    async with open_caller(request.param, flow.dsn, flow.schema) as opened:
        yield opened


async def _leased(caller: Caller, flow: Flow, *, seconds: int = 1) -> Any:
    """Lease a job for a moment, so that the first beat is near, while the database grants more: no beat comes too late."""
    flow.submit("a")
    lease = await caller.call("get_work", "w", ["cap"], lease_seconds=seconds)
    await caller.commit()
    flow.rows("update pgwf.jobs set lease_expires_at = lease_expires_at + interval '1 hour'")
    return lease


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
async def test_a_lease_is_extended_over_every_source(kind: str, flow: Flow) -> None:
    own = "asyncpg" if "async" in kind else "psycopg"
    async with (
        open_caller(own, flow.dsn, flow.schema) as caller,
        open_source(kind, flow.dsn) as source,
    ):
        lease = await _leased(caller, flow)
        before = lease.lease_expires_at
        async with entered(lease.keep_alive(source, lease_seconds=30)) as kept:
            assert kept is lease
            await until(lambda: lease.lease_expires_at > before)
            assert 20 < lease.remaining <= 30
        assert lease.state is LeaseState.ACTIVE
        assert flow.value("select lease_expires_at from pgwf.jobs") == lease.lease_expires_at
        await caller.under(lease, "complete")
        await caller.commit()
    assert flow.archived() == ["a"]
    assert _threads() == []


@pytest.mark.slow
async def test_a_lease_outlives_three_times_its_length(caller: Caller, flow: Flow) -> None:
    flow.submit("a")
    lease = await caller.call("get_work", "w", ["cap"], lease_seconds=2)
    await caller.commit()
    end = lease.lease_expires_at
    lived = "select clock_timestamp() > %s + interval '4 s'"
    async with entered(lease.keep_alive(flow.dsn)):
        await until(lambda: flow.value(lived, end))
        assert lease.state is LeaseState.ACTIVE
        # As long as it was leased for, however often it is extended.
        assert lease.remaining <= 2
    assert flow.status("a") == "ACTIVE"


@pytest.mark.slow
async def test_the_job_is_completed_while_its_lease_is_kept_alive_and_again_after_a_rollback(
    caller: Caller, flow: Flow
) -> None:
    lease = await _leased(caller, flow)
    async with entered(lease.keep_alive(flow.dsn, lease_seconds=1)):
        await caller.under(lease, "complete")
        assert lease.state is LeaseState.RELEASED
        await caller.rollback()
        flow.rows("update pgwf.jobs set lease_expires_at = now() + interval '1 hour'")
        before = lease.lease_expires_at
        lease.reopen()
        await until(lambda: lease.lease_expires_at > before)
        with pytest.raises(TypeError, match="is not a connection"):
            await Caller(None, caller.workflow, caller.finish, caller.execute).under(lease, "complete")
        flow.rows("update pgwf.jobs set lease_expires_at = now() + interval '1 hour'")
        before = lease.lease_expires_at
        await until(lambda: lease.lease_expires_at > before)
        await caller.under(lease, "complete")
        await caller.commit()
    assert (flow.archived(), lease.state) == (["a"], LeaseState.RELEASED)


async def test_losing_the_lease_is_told_once(caller: Caller, flow: Flow) -> None:
    lease = await _leased(caller, flow)
    told: list[tuple[Any, Exception]] = []
    flow.rows("update pgwf.jobs set lease_id = 'of another worker'")
    async with entered(lease.keep_alive(flow.dsn, on_lost=lambda *lost: told.append(lost))):
        await until(lambda: told)
    ((whose, error),) = told
    assert whose is lease
    assert isinstance(error, LeaseMismatch)
    assert lease.state is LeaseState.LOST
    for _ in range(2):
        with pytest.raises(LeaseMismatch) as lost:
            lease.raise_if_lost()
        assert (lost.value.job_id, lost.value.code) == ("a", "ms_lease_mismatch")
    with pytest.raises(LeaseMismatch):
        await caller.under(lease, "complete")
    with pytest.raises(LeaseMismatch):
        async with entered(lease.keep_alive(flow.dsn)):
            pass


@pytest.mark.slow
async def test_a_job_that_is_cancelled_meanwhile_may_still_be_completed(caller: Caller, flow: Flow) -> None:
    lease = await _leased(caller, flow, seconds=4)
    told: list[Exception] = []

    def on_lost(_: object, error: Exception) -> None:
        told.append(error)
        raise ValueError("of the caller's own, which is logged")

    flow.cancel("a")
    async with entered(lease.keep_alive(flow.dsn, on_lost=on_lost)):
        await until(lambda: told)
        assert isinstance(told[0], JobCancelled)
        with pytest.raises(JobCancelled):
            lease.raise_if_lost()
        with pytest.raises(JobCancelled):
            await caller.under(lease, "extend", 5)
        await caller.under(lease, "complete")
        await caller.rollback()
        lease.reopen()
        assert lease.state is LeaseState.LOST
        await caller.under(lease, "complete")
        await caller.commit()
        assert (flow.archived(), len(told)) == (["a"], 1)


@pytest.mark.slow
async def test_beats_that_fail_are_repeated_until_one_succeeds(
    caller: Caller, flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await _leased(caller, flow)
    attempts: list[int] = []

    @contextlib.contextmanager
    def flaky() -> Generator[object]:
        attempts.append(1)
        if len(attempts) < 3:
            raise psycopg.OperationalError("the line is cut")
        with psycopg.connect(flow.dsn) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def flaky_async() -> AsyncGenerator[object]:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionResetError("the line is cut")
        async with await psycopg.AsyncConnection.connect(flow.dsn) as connection:
            yield connection

    before = lease.lease_expires_at
    source = flaky if isinstance(caller.workflow, Workflow) else flaky_async
    async with entered(lease.keep_alive(source, lease_seconds=30)):
        await until(lambda: lease.lease_expires_at > before)
    assert (len(attempts), lease.state) == (3, LeaseState.ACTIVE)
    assert "the line is cut" in caplog.text


@pytest.mark.slow
async def test_a_lease_that_cannot_be_extended_ends(caller: Caller, flow: Flow) -> None:
    lease = await _leased(caller, flow)
    told: list[Exception] = []

    def broken() -> Any:
        raise psycopg.OperationalError("the line is cut")

    async with entered(lease.keep_alive(broken, on_lost=lambda _, error: told.append(error))):
        await until(lambda: told)
    assert isinstance(told[0], LeaseExpired)
    assert isinstance(told[0].__cause__, psycopg.OperationalError)
    assert lease.state is LeaseState.EXPIRED
    assert lease.remaining == 0
    with pytest.raises(LeaseExpired):
        lease.raise_if_lost()
    with pytest.raises(LeaseExpired):
        lease.reopen()
    with pytest.raises(LeaseExpired):
        await caller.under(lease, "complete")


async def test_a_lease_is_kept_alive_once_and_only_while_it_is_held(caller: Caller, flow: Flow) -> None:
    lease = await _leased(caller, flow)
    with pytest.raises(TypeError, match="does not hand out connections"):
        lease.keep_alive(caller.connection)
    with pytest.raises(InvalidArgument):
        lease.keep_alive(flow.dsn, lease_seconds=0)
    kept = lease.keep_alive(flow.dsn)
    async with entered(kept):
        for again in (kept, lease.keep_alive(flow.dsn)):
            with pytest.raises(RuntimeError, match="kept alive already"):
                async with entered(again):
                    pass
    with pytest.raises(RuntimeError, match="kept alive already"):
        async with entered(kept):
            pass
    await caller.under(lease, "complete")
    with pytest.raises(LeaseExpired):
        async with entered(lease.keep_alive(flow.dsn)):
            pass
    assert "RELEASED" in repr(lease)


async def test_a_beat_does_not_wait_for_ever_for_a_lock(caller: Caller, flow: Flow) -> None:
    lease = await _leased(caller, flow)
    trigger = "create function pgwf.note_limits() returns trigger language plpgsql as $$ begin"
    flow.rows(
        f"{trigger} perform pg_notify('limits', current_setting('lock_timeout') || ' ' ||"
        " current_setting('statement_timeout')); return new; end $$"
    )
    flow.rows(
        "create trigger noted before update on pgwf.jobs for each row execute function pgwf.note_limits()"
    )
    try:
        flow.rows("listen limits")
        before = lease.lease_expires_at
        async with entered(lease.keep_alive(flow.dsn)):
            await until(lambda: lease.lease_expires_at > before)
        limits = [told.payload for told in flow.connection.notifies(timeout=10, stop_after=1)]
    finally:
        flow.rows("unlisten limits")
        flow.rows("drop function pgwf.note_limits cascade")
    assert limits == ["10s 10s"]


async def test_the_context_leaves_nothing_running(flow: Flow) -> None:
    workflow, twin = Workflow(schema=flow.schema), AsyncWorkflow(schema=flow.schema)
    flow.submit("a")
    lease = workflow.get_work(flow.connection, "w", ["cap"], lease_seconds=300)
    assert lease is not None
    with lease.keep_alive(flow.dsn):
        assert _threads() != []
    assert _threads() == []
    assert await settled(twin.schema) == workflow.schema


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if "keep-alive" in each.name]
