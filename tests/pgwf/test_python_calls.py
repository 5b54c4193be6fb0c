"""Every call on every kind of connection, inside the caller's transaction."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from millstream.pgwf import (
    CancelResult,
    DependencyViolation,
    InvalidArgument,
    JobAlreadyCompleted,
    JobAlreadyExists,
    JobCancelled,
    JobDependencies,
    JobNotAvailable,
    JobNotFound,
    JobStatus,
    LeaseExpired,
    LeaseMismatch,
    LeaseState,
    PayloadError,
    TraceEventType,
    TransientError,
    WorkflowError,
)
from tests.pgwf.callers import CONNECTIONS, Caller, open_caller
from tests.pgwf.flow import Flow, Session

NEXT_YEAR = datetime.now(UTC) + timedelta(days=365)
EARLIER = datetime(2001, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)


# The others differ in how a statement is sent and how its rows and errors come back, which the first tests go through.
USUAL = ["psycopg", "session", "asyncpg", "sqlalchemy asyncpg"]


@pytest.fixture(params=USUAL)
async def caller(request: pytest.FixtureRequest, flow: Flow) -> AsyncIterator[Caller]:
    async with open_caller(request.param, flow.dsn, flow.schema) as opened:
        yield opened


@pytest.fixture(params=CONNECTIONS)
async def any_caller(request: pytest.FixtureRequest, flow: Flow) -> AsyncIterator[Caller]:
    async with open_caller(request.param, flow.dsn, flow.schema) as opened:
        yield opened


async def test_a_job_is_submitted_leased_extended_and_completed(any_caller: Caller, flow: Flow) -> None:
    payload = {"order": 7, "nested": {"per cent %s": [":name", None, 'quo"te', "ω"]}}
    deps = JobDependencies("mail", ["", ""], "", EARLIER, payload, NEXT_YEAR)
    submitted = await any_caller.call("submit_job", "a:b%s", deps, "shop")
    assert (submitted.job_id, submitted.next_need, submitted.wait_for) == ("a:b%s", "mail", ())
    assert (submitted.payload, submitted.available_at) == (payload, EARLIER)
    assert flow.live() == []
    await any_caller.commit()
    assert await any_caller.call("get_work", "w", ["other", ""]) is None
    lease = await any_caller.call("get_work", "w", ("other", "mail"), lease_seconds=30)
    await any_caller.commit()
    assert (lease.job_id, lease.worker_id, lease.next_need) == ("a:b%s", "w", "mail")
    assert (lease.singleton_key, lease.wait_for, lease.payload) == (None, (), payload)
    assert (lease.available_at, lease.available_at.tzinfo, lease.state) == (EARLIER, UTC, LeaseState.ACTIVE)
    assert 20 < lease.remaining <= 30
    assert [lease.lease_id] == flow.values("select lease_id from pgwf.jobs")
    before = lease.lease_expires_at
    after = await any_caller.under(lease, "extend", timedelta(seconds=30))
    assert after == lease.lease_expires_at > before + timedelta(seconds=29)
    assert 50 < lease.remaining <= 61
    view = await any_caller.call("get_job", "a:b%s")
    assert (view.lease_expires_at, view.expires_at, view.status) == (after, NEXT_YEAR, JobStatus.ACTIVE)
    await any_caller.under(lease, "complete")
    assert lease.state is LeaseState.RELEASED
    lease.raise_if_lost()
    await any_caller.commit()
    assert flow.archived() == ["a:b%s"]
    for name, *arguments in (
        ("complete",),
        ("extend", 1),
        ("reschedule", JobDependencies("x")),
    ):
        with pytest.raises(LeaseExpired):
            # No connection: the database is not asked.
            await Caller(None, any_caller.workflow, any_caller.finish, any_caller.execute).under(
                lease, name, *arguments
            )


async def test_a_leased_job_is_handed_on_with_a_time_and_another_payload(caller: Caller, flow: Flow) -> None:
    await caller.call("submit_job", "a", JobDependencies("first", singleton_key="key", payload={"n": 1}), "w")
    await caller.call("submit_job", "b", JobDependencies("other"), "w")
    lease = await caller.call("get_work", "w", ["first"])
    with pytest.raises(InvalidArgument):
        await caller.under(lease, "reschedule", JobDependencies("second", expires_at=NEXT_YEAR))
    with pytest.raises(DependencyViolation) as refused:
        await caller.under(lease, "reschedule", JobDependencies("second", singleton_key="another"))
    assert refused.value.job_id == "a"
    handed_on = await caller.under(
        lease, "reschedule", JobDependencies("second", singleton_key="key", available_at=EARLIER)
    )
    assert (handed_on.job_id, handed_on.next_need, handed_on.available_at) == ("a", "second", EARLIER)
    assert lease.state is LeaseState.RELEASED
    assert await caller.call("get_work", "w", ["first"]) is None
    second = await caller.call("get_work", "w", ["second"])
    assert (second.job_id, second.payload, second.singleton_key) == ("a", {"n": 1}, "key")
    await caller.under(second, "reschedule", JobDependencies("third", wait_for=["b"], payload={}))
    await caller.commit()
    view = await caller.call("get_job", "a")
    assert (view.payload, view.wait_for, view.status) == ({}, ("b",), JobStatus.PENDING_JOBS)
    assert flow.wait_for("a") == ["b"]


async def test_jobs_without_a_lease_are_completed_and_changed(caller: Caller, flow: Flow) -> None:
    for job_id in ("a", "b"):
        await caller.call("submit_job", job_id, JobDependencies("old", singleton_key=job_id), "w")
    changed = await caller.call(
        "reschedule_unheld_job", "a", "w", JobDependencies("new", singleton_key="a", available_at=EARLIER)
    )
    assert (changed.job_id, changed.next_need, changed.available_at) == ("a", "new", EARLIER)
    with pytest.raises(DependencyViolation) as refused:
        await caller.call("reschedule_unheld_job", "a", "w", JobDependencies("new", singleton_key="b"))
    assert (refused.value.job_id, refused.value.code) == ("a", "ms_singleton_immutable")
    with pytest.raises(InvalidArgument):
        await caller.call("reschedule_unheld_job", "a", "w", JobDependencies("new", expires_at=NEXT_YEAR))
    await caller.call("complete_unheld_job", "b", "w")
    assert await caller.call("get_work", "w", ["old"]) is None
    assert (await caller.call("get_work", "w", ["new"])).job_id == "a"
    await caller.commit()
    assert (flow.live(), flow.archived()) == (["a"], ["b"])


async def test_the_callers_writes_and_the_job_are_there_together_or_not_at_all(
    any_caller: Caller, flow: Flow
) -> None:
    flow.rows("create table if not exists pgwf.orders (id text); truncate pgwf.orders")
    orders = "select id from pgwf.orders"
    await any_caller.write("insert into pgwf.orders values ('one')")
    await any_caller.call("submit_job", "one", JobDependencies("cap"), "shop")
    assert (flow.values(orders), flow.live()) == ([], [])
    await any_caller.rollback()
    assert (flow.values(orders), flow.live()) == ([], [])
    await any_caller.write("insert into pgwf.orders values ('two')")
    with pytest.raises(DependencyViolation, match="nobody"):
        await any_caller.call("submit_job", "x", JobDependencies("cap", ["nobody"]), "shop", savepoint=True)
    await any_caller.call("submit_job", "two", JobDependencies("cap"), "shop", savepoint=True)
    await any_caller.commit()
    assert (flow.values(orders), flow.live()) == (["two"], ["two"])


async def test_a_lease_is_taken_up_again_after_a_rollback(caller: Caller, flow: Flow) -> None:
    await caller.call("submit_job", "a", JobDependencies("cap"), "w")
    lease = await caller.call("get_work", "w", ["cap"])
    await caller.commit()
    await caller.under(lease, "complete")
    await caller.rollback()
    assert (lease.state, flow.live()) == (LeaseState.RELEASED, ["a"])
    lease.reopen()
    assert lease.state is LeaseState.ACTIVE
    await caller.under(lease, "complete")
    await caller.commit()
    assert flow.archived() == ["a"]


async def test_times_without_end_are_none_on_every_driver(any_caller: Caller, flow: Flow) -> None:
    flow.submit("a", available_at="-infinity")
    flow.submit("far", available_at="20000-01-01Z", expires_at="-infinity")
    flow.submit("never", available_at="infinity")
    views = {view.job_id: view for view in await any_caller.call("list_jobs")}
    assert [(views[each].available_at, views[each].expires_at) for each in ("a", "far", "never")] == [
        *((None, None), (None, None), (None, None))
    ]
    assert views["a"].lease_expires_at is None
    lease = await any_caller.call("get_work", "w", ["cap"])
    assert (lease.job_id, lease.available_at) == ("a", None)
    assert (await any_caller.call("cancel_job", "never", "w")).was_active is False
    assert (await any_caller.call("get_job", "never")).cancel_requested_by == "w"


async def test_several_jobs_are_leased_oldest_first_and_listed_by_pages(caller: Caller, flow: Flow) -> None:
    names = ["e", "d", "c", "b", "a"]
    for name in names:
        flow.submit(name)
    flow.submit("other", "other", wait_for=["a"])
    leases = await caller.call("get_work_batch", "w", ["cap"], limit=2, lease_seconds=45)
    assert [lease.job_id for lease in leases] == ["e", "d"]
    assert len({lease.lease_id for lease in leases}) == 2
    assert all(40 < lease.remaining <= 45 for lease in leases)
    first = await caller.call("list_jobs", next_need="cap", limit=3)
    rest = await caller.call(
        "list_jobs", next_need="cap", limit=3, after=(first[-1].created_at, first[-1].job_id)
    )
    assert [view.job_id for view in (*first, *rest)] == names
    ready = await caller.call("list_jobs", status=JobStatus.READY)
    assert [view.job_id for view in ready] == ["c", "b", "a"]
    assert [view.job_id for view in await caller.call("list_jobs", status="PENDING_JOBS")] == ["other"]
    assert await caller.call("get_job", "unknown") is None


async def test_a_job_is_cancelled_and_archived(caller: Caller, flow: Flow) -> None:
    for name in ("a", "leased", "dependent"):
        await caller.call("submit_job", name, JobDependencies(name), "w")
    await caller.call("reschedule_unheld_job", "dependent", "w", JobDependencies("dependent", ["a"]))
    lease = await caller.call("get_work", "w", ["leased"])
    first = await caller.call("cancel_job", "a", "operator", "out of stock")
    assert isinstance(first, CancelResult)
    assert (first.job_id, first.cancelled_by, first.was_active) == ("a", "operator", False)
    assert first.already_cancelled is False
    again = await caller.call("cancel_job", "a", "operator")
    assert (again.cancelled_at, again.already_cancelled) == (first.cancelled_at, True)
    another = await caller.call("cancel_job", "a", "somebody")
    assert (another.cancelled_by, another.already_cancelled) == ("operator", True)
    assert (await caller.call("cancel_job", "leased", "operator")).was_active is True
    assert await caller.call("archive_cancelled_jobs", "sweeper") == 1
    assert await caller.call("archive_cancelled_jobs", "sweeper", 5) == 0
    await caller.commit()
    for name, argument in (("extend", 5), ("reschedule", JobDependencies("x"))):
        with pytest.raises(JobCancelled):
            await caller.under(lease, name, argument)
        await caller.rollback()
    await caller.under(lease, "complete")
    await caller.commit()
    assert (flow.live(), flow.archived()) == (["dependent"], ["a", "leased"])


async def test_what_happened_is_traced_and_purged(caller: Caller, flow: Flow) -> None:
    await caller.call("submit_job", "a", JobDependencies("cap", payload={"secret": 1}), "shop")
    flow.rows(
        "insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data) values ('a', 'new', 'x', '{}')"
    )
    await caller.commit()
    lease = await caller.call("get_work", "w", ["cap"])
    await caller.under(lease, "complete")
    rows = await caller.call("job_trace", "a")
    assert {row.event_type for row in rows} == {
        *(TraceEventType.JOB_SUBMITTED, "new", TraceEventType.JOB_RETRIEVED, TraceEventType.JOB_FINISHED)
    }
    assert [row.trace_id for row in rows] == sorted(row.trace_id for row in rows)
    finished = rows[-1]
    assert (finished.job_id, finished.worker_id, finished.event_at.tzinfo) == ("a", "w", UTC)
    assert finished.input_data["lease_id"] == lease.lease_id
    assert finished.output_data["archived_row"]["job_id"] == "a"
    assert next(row for row in rows if row.event_type == "new").output_data is None
    assert len(await caller.call("job_trace", "a", limit=1)) == 1
    assert await caller.call("purge_trace", before=EARLIER) == 0
    assert await caller.call("purge_trace", before=NEXT_YEAR, limit=3) == 3
    assert await caller.call("purge_trace", before=NEXT_YEAR) == 1


async def test_the_switches_are_set_and_read(caller: Caller, flow: Flow) -> None:
    assert (await caller.call("is_trace_enabled"), await caller.call("is_notify_enabled")) == (True, False)
    assert await caller.call("crash_concern_threshold") == 5
    assert (await caller.call("set_trace", False), await caller.call("set_notify", True)) == (False, True)
    assert await caller.call("set_crash_concern_threshold", 1) == 1
    await caller.commit()
    flow.submit("a")
    for _ in range(2):
        flow.lease()
        flow.lapse("a")
    assert await caller.call("get_work", "w", ["cap"]) is None
    view = await caller.call("get_job", "a")
    assert (view.status, view.consecutive_expirations, view.lease_expiration_count) == (
        *(JobStatus.CRASH_CONCERN, 1, 1),
    )
    assert await caller.call("clear_crash_concern", "a", "operator", "mended") is None
    assert (await caller.call("get_work", "w", ["cap"])).job_id == "a"
    assert (await caller.call("is_trace_enabled"), await caller.call("is_notify_enabled")) == (False, True)


async def test_every_refusal_has_its_class(any_caller: Caller, flow: Flow) -> None:
    for name in ("live", "done", "cancelled", "leased"):
        flow.submit(name, name)
    flow.finish("done")
    flow.cancel("cancelled")
    lost = await any_caller.call("get_work", "w", ["leased"])
    await any_caller.commit()
    flow.lapse("leased")
    flow.take("leased")

    async def refused(kind: type[WorkflowError], name: str, job_id: str, *arguments: object) -> WorkflowError:
        with pytest.raises(kind) as caught:
            await (
                any_caller.under(lost, name, *arguments)
                if name in ("complete", "extend", "reschedule")
                else any_caller.call(name, job_id, *arguments)
            )
        await any_caller.rollback()
        assert type(caught.value) is kind
        assert (caught.value.job_id, caught.value.__cause__ is not None) == (job_id, True)
        return caught.value

    plain = JobDependencies("cap")
    exists = await refused(JobAlreadyExists, "submit_job", "live", plain, "w")
    assert (exists.sqlstate, exists.code) == ("23505", None)
    completed = await refused(JobAlreadyCompleted, "submit_job", "done", plain, "w")
    assert (completed.sqlstate, completed.code) == ("P0001", "ms_job_completed")
    await refused(DependencyViolation, "submit_job", "x", JobDependencies("cap", ["nobody"]), "w")
    await refused(PayloadError, "submit_job", "x", JobDependencies("cap", payload={"a": "b" * 600}), "w")
    await refused(PayloadError, "submit_job", "x", JobDependencies("cap", payload={"a": "\0"}), "w")
    await refused(PayloadError, "submit_job", "x", JobDependencies("cap", payload={"a": "\ud800"}), "w")
    await refused(LeaseMismatch, "complete", "leased")
    await refused(LeaseMismatch, "extend", "leased", 5)
    await refused(LeaseMismatch, "reschedule", "leased", plain)
    await refused(JobNotAvailable, "complete_unheld_job", "leased", "w")
    await refused(JobNotFound, "complete_unheld_job", "unknown", "w")
    await refused(JobNotAvailable, "reschedule_unheld_job", "cancelled", "w", plain)
    await refused(JobNotFound, "reschedule_unheld_job", "done", "w", JobDependencies("c", singleton_key="k"))
    await refused(JobAlreadyCompleted, "cancel_job", "done", "w")
    await refused(JobNotFound, "cancel_job", "unknown", "w")
    await refused(JobAlreadyCompleted, "clear_crash_concern", "done", "w")
    await refused(JobCancelled, "clear_crash_concern", "cancelled", "w")
    await refused(JobNotFound, "clear_crash_concern", "unknown", "w")
    with pytest.raises(Exception, match="no_such_table") as unknown:
        await any_caller.write("select * from no_such_table")
    assert not isinstance(unknown.value, WorkflowError)


async def test_what_can_be_repeated_says_so(any_caller: Caller, flow: Flow) -> None:
    flow.submit("a")
    other: Session = flow.other()
    await any_caller.write("set local lock_timeout = '1ms'")
    with other.connection.transaction():
        other.rows("select from pgwf.jobs for update")
        with pytest.raises(TransientError) as locked:
            await any_caller.call("complete_unheld_job", "a", "w")
    assert locked.value.sqlstate == "55P03"
    await any_caller.rollback()
    await any_caller.call("get_job", "a")
    (pid,) = flow.values(
        "select pid from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
    )
    other.rows("select pg_terminate_backend(%s, 10000)", pid)
    with pytest.raises(TransientError):
        await any_caller.call("get_job", "a")
    if isinstance(any_caller.connection, psycopg.Connection | psycopg.AsyncConnection):
        # The others want to be rolled back, or given back, before they say anything else.
        with pytest.raises(TransientError):
            await any_caller.call("get_job", "a")
