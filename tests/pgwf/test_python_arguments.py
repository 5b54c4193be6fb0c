"""What is refused before a database is asked, and what is worked out without one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import asyncpg
import psycopg
import pytest

from millstream.domain.errors import MillstreamError
from millstream.pgwf import (
    AsyncWorkflow,
    Backoff,
    DependencyViolation,
    InvalidArgument,
    JobAlreadyCompleted,
    JobCancelled,
    JobDependencies,
    JobNotAvailable,
    JobNotFound,
    JobStatus,
    LeaseError,
    LeaseExpired,
    LeaseMismatch,
    LeaseState,
    PayloadError,
    TraceEventType,
    TransientError,
    Workflow,
    WorkflowError,
)
from millstream.pgwf.arguments import extension_seconds
from millstream.pgwf.channels import need_channel
from millstream.pgwf.classification import classified, is_transient
from millstream.pgwf.hold import Hold
from millstream.pgwf.statements.leases import LeasedJob
from millstream.pgwf.trace import event_type_of
from tests.pgwf.callers import settled
from tests.pgwf.flow import Flow

NOW = datetime.now(UTC)
NAIVE = NOW.replace(tzinfo=None)
PLAIN = JobDependencies("cap")
CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE


@pytest.fixture(scope="module")
def connection() -> psycopg.Connection:
    """A connection that fails every statement: it was never opened."""
    return psycopg.Connection.__new__(psycopg.Connection)


@pytest.fixture(scope="module")
def async_connection() -> psycopg.AsyncConnection:
    return psycopg.AsyncConnection.__new__(psycopg.AsyncConnection)


INVALID: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *(("submit_job", (job_id, PLAIN, "w"), {}) for job_id in ("", None, 3, "a\0b", "\ud800")),
    ("submit_job", ("a", PLAIN, ""), {}),
    *(("submit_job", ("a", deps, "w"), {}) for deps in (None, "cap", {"next_need": "cap"})),
    *(
        ("submit_job", ("a", deps, "w"), {})
        for deps in (
            JobDependencies(""),
            JobDependencies("cap", "not a list"),
            JobDependencies("cap", ["a\0"]),
            JobDependencies("cap", None),  # pyright: ignore[reportArgumentType] - that is the point
            JobDependencies("cap", [None]),  # pyright: ignore[reportArgumentType] - that is the point
            # Looking at it once would leave nothing to wait for.
            JobDependencies("cap", iter(["a"])),  # pyright: ignore[reportArgumentType] - that is the point
            JobDependencies("cap", singleton_key="a\0"),
            JobDependencies("cap", available_at=NAIVE),
            JobDependencies("cap", available_at="2030-01-01"),  # pyright: ignore[reportArgumentType] - that is the point
            JobDependencies("cap", expires_at=NAIVE),
            JobDependencies("cap", payload=[1]),  # pyright: ignore[reportArgumentType] - that is the point
            JobDependencies("cap", payload={"a": float("nan")}),
            JobDependencies("cap", payload={"a": float("inf")}),
            JobDependencies("cap", payload={"a": object()}),
            JobDependencies("cap", payload=CYCLE),
        )
    ),
    ("get_work", ("", ["cap"]), {}),
    *(("get_work", ("w", capabilities), {}) for capabilities in ([], [""], "cap", [None], ["a\0"], None, 5)),
    ("get_work", ("w", iter(["cap"])), {}),
    *(("get_work", ("w", ["cap"]), {"lease_seconds": each}) for each in (0, -1, 2**31, 1.5, True, None)),
    *(("get_work_batch", ("w", ["cap"]), {"limit": each}) for each in (0, -1, 2**31)),
    ("complete_unheld_job", ("", "w"), {}),
    ("complete_unheld_job", ("a", ""), {}),
    ("reschedule_unheld_job", ("", "w", PLAIN), {}),
    ("reschedule_unheld_job", ("a", "", PLAIN), {}),
    ("reschedule_unheld_job", ("a", "w", None), {}),
    ("reschedule_unheld_job", ("a", "w", JobDependencies("")), {}),
    ("reschedule_unheld_job", ("a", "w", JobDependencies("cap", expires_at=NOW)), {}),
    ("cancel_job", ("", "w"), {}),
    ("cancel_job", ("a", ""), {}),
    ("cancel_job", ("a", "w", "\0"), {}),
    ("archive_cancelled_jobs", ("",), {}),
    ("archive_cancelled_jobs", ("w", 0), {}),
    ("clear_crash_concern", ("", "w"), {}),
    ("clear_crash_concern", ("a", ""), {}),
    ("set_crash_concern_threshold", (0,), {}),
    *((name, (each,), {}) for name in ("set_trace", "set_notify") for each in (None, "false", 0, 1)),
    ("get_job", ("",), {}),
    ("list_jobs", (), {"limit": 0}),
    ("list_jobs", (), {"status": "UNHEARD OF"}),
    ("list_jobs", (), {"next_need": ""}),
    *(
        ("list_jobs", (), {"after": after})
        for after in ((NAIVE, "a"), (NOW,), (NOW, None), (None, "a"), "a", (NOW, "a", "b"))
    ),
    ("job_trace", ("",), {}),
    ("job_trace", ("a",), {"limit": 0}),
    ("purge_trace", (), {"before": NAIVE}),
    ("purge_trace", (), {"before": None}),
    ("purge_trace", (), {"before": NOW, "limit": 0}),
]


@pytest.mark.parametrize(("name", "arguments", "named"), INVALID)
async def test_arguments_are_refused_before_the_database_is_asked(
    name: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    connection: psycopg.Connection,
    async_connection: psycopg.AsyncConnection,
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        getattr(Workflow(), name)(connection, *arguments, **named)
    assert isinstance(refused.value, ValueError)
    with pytest.raises(InvalidArgument, match=r".+") as same:
        await getattr(AsyncWorkflow(), name)(async_connection, *arguments, **named)
    assert str(same.value) == str(refused.value)


@pytest.mark.parametrize("name", ["submit_job", "get_work", "complete_unheld_job", "reschedule_unheld_job"])
async def test_the_connection_is_looked_at_first(
    name: str, connection: psycopg.Connection, async_connection: psycopg.AsyncConnection
) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "submit_job": ("", PLAIN, ""),
        "get_work": ("", []),
        "complete_unheld_job": ("", ""),
        "reschedule_unheld_job": ("", "", PLAIN),
    }
    for workflow, wrong in ((Workflow(), async_connection), (AsyncWorkflow(), connection)):
        for refused in (None, "postgresql://", wrong):
            with pytest.raises(TypeError, match="is not a connection"):
                await settled(getattr(workflow, name)(refused, *arguments[name]))


@pytest.mark.parametrize("schema", ["", "Upper", "pg_mine", "a" * 41, "a-b", None, 5])
def test_a_schema_needs_a_name_without_quotes(schema: Any) -> None:
    for made in (Workflow, AsyncWorkflow):
        with pytest.raises(InvalidArgument):
            made(schema=schema)


def test_an_extension_counts_whole_seconds_from_what_remains() -> None:
    assert extension_seconds(2, 0) == 3
    assert extension_seconds(-5, 0) == 1
    assert extension_seconds(-5, 0.2) == 1
    assert extension_seconds(10.2, 4.5) == 16
    assert extension_seconds(0, 2**31) == 2**31 - 1


def _hold(lasts_seconds: float, *, asked_at: float | None = None) -> Hold:
    from time import monotonic

    leased = LeasedJob("a", "lease", "cap", None, (), {}, NOW, NOW, lasts_seconds)
    return Hold("pgwf", "w", 60, leased, asked_at=monotonic() if asked_at is None else asked_at)


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [(60, 25), (30, 10), (15, 2.5), (13, 1.5), (11, 0.5), (9, 3), (6, 2), (3, 1), (0.01, 0.05)],
)
def test_beats_come_at_half_time_and_leave_room_for_more_near_the_end(
    remaining: float, expected: float
) -> None:
    assert _hold(remaining).beat_after() == pytest.approx(expected, abs=0.2)


def test_a_beat_neither_adds_up_nor_takes_away() -> None:
    assert _hold(20).beat_seconds(60) == 60
    assert _hold(600).beat_seconds(60) == 600


def test_the_end_of_a_lease_is_counted_from_before_the_question() -> None:
    from time import monotonic

    hold = _hold(60, asked_at=monotonic() - 61)
    assert (hold.state, hold.remaining) == (LeaseState.EXPIRED, 0)
    with pytest.raises(LeaseExpired) as expired:
        hold.require_active()
    assert expired.value.job_id == "a"
    assert _hold(60).state is LeaseState.ACTIVE


def test_waits_double_up_to_their_ceiling() -> None:
    assert list(islice(Backoff().delays(), 8)) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert list(islice(Backoff(3, 10, 1.5).delays(), 4)) == [3, 4.5, 6.75, 10]
    varied = list(islice(Backoff(initial=8, maximum=8, jitter=0.5).delays(), 50))
    assert all(4 <= each <= 8 for each in varied)
    assert len(set(varied)) > 1


@pytest.mark.parametrize(
    "named",
    [
        {"initial": 0},
        {"maximum": 0.5},
        {"factor": 0.9},
        {"jitter": 1.1},
        {"jitter": -1},
        {"maximum": float("inf")},
    ],
)
def test_waits_that_make_no_sense_are_refused(named: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        Backoff(**named)


def test_names_are_those_of_the_database() -> None:
    assert [str(status) for status in JobStatus] == [
        *("READY", "EXPIRED", "PENDING_JOBS", "AWAITING_FUTURE", "ACTIVE", "CRASH_CONCERN", "CANCELLED")
    ]
    assert len(TraceEventType) == 10
    assert event_type_of("job_finished") is TraceEventType.JOB_FINISHED
    assert event_type_of("of a later version") == "of a later version"


def test_dependencies_drop_what_is_empty() -> None:
    deps = JobDependencies("cap", ["", "a", ""], "")
    deps.validate()
    assert (deps.awaited(), deps.key(), deps.encoded_payload()) == (["a"], None, None)
    with pytest.raises(AttributeError):
        deps.next_need = "another"  # pyright: ignore[reportAttributeAccessIssue] - that is the point


def test_the_exceptions_form_one_family() -> None:
    assert issubclass(WorkflowError, MillstreamError)
    assert issubclass(LeaseExpired, LeaseError)
    assert issubclass(LeaseMismatch, LeaseError)
    assert issubclass(InvalidArgument, ValueError)
    error = LeaseExpired()
    assert (str(error), error.job_id, error.sqlstate, error.code) == (
        *(
            "The lease has ended: its time is over, or the job was completed or rescheduled under it",
            None,
            None,
            None,
        ),
    )


# What the scripts that raise without machine codes say.
WITHOUT_CODES: list[tuple[str, type[WorkflowError]]] = [
    ("wait_for references unknown jobs: {x}", DependencyViolation),
    ("Singleton key of job is not available", DependencyViolation),
    ("job x is not currently leased", LeaseMismatch),
    ("job x is not ACTIVELY LEASED", LeaseMismatch),
    ("active lease not found for job x", LeaseMismatch),
    ("lease of x has expired", LeaseExpired),
    ("job x is not available: not found", JobNotFound),
    ("job x does not exist", JobNotFound),
    ("job x is not available", JobNotAvailable),
    ("job x is already completed", JobAlreadyCompleted),
    ("job x is archived", JobAlreadyCompleted),
    ("payload must be a JSON object", PayloadError),
    ("payload exceeds 512 bytes", PayloadError),
    ("worker_caps cannot be empty", InvalidArgument),
    ("lease_seconds must be positive", InvalidArgument),
    ("job_id cannot be NULL", InvalidArgument),
    ("job x is cancelled", JobCancelled),
]


@pytest.mark.parametrize(("message", "kind"), WITHOUT_CODES)
def test_errors_without_codes_are_known_by_their_words(
    message: str, kind: type[WorkflowError], flow: Flow
) -> None:
    with pytest.raises(psycopg.errors.RaiseException) as raised:
        flow.rows(f"do $$ begin raise exception '{message}'; end $$")
    found = classified(raised.value, "x")
    assert found is not None
    assert type(found) is kind
    assert (found.message, found.job_id, found.sqlstate, found.code) == (message, "x", "P0001", None)


def test_a_code_counts_more_than_words_and_words_only_of_errors_that_were_raised(flow: Flow) -> None:
    coded = "raise exception 'singleton not found' using constraint = 'ms_job_cancelled'"
    with pytest.raises(psycopg.errors.RaiseException) as raised:
        flow.rows(f"do $$ begin {coded}; end $$")
    assert type(classified(raised.value)) is JobCancelled
    # PostgreSQL's own words, and those of other constraints, mean nothing here.
    for statement in (
        "select * from is_not_available_does_not_exist",
        "do $$ begin raise exception 'something else'; end $$",
        "create temp table one (id int primary key); insert into one values (1), (1)",
    ):
        with pytest.raises(psycopg.Error) as other:
            flow.rows(statement)
        assert classified(other.value) is None


def _raised(sqlstate: str) -> psycopg.Error:
    return psycopg.errors.lookup(sqlstate)("of the server")


@pytest.mark.parametrize(
    ("make", "transient"),
    [
        *(
            (lambda state=state: _raised(state), True)
            for state in ("40001", "40P01", "55P03", "57P01", "08006", "53300")
        ),
        *((lambda state=state: _raised(state), False) for state in ("57014", "42P01", "28P01", "23505")),
        (lambda: psycopg.OperationalError("the connection is closed"), True),
        (lambda: psycopg.ProgrammingError("you did wrong"), False),
        (lambda: asyncpg.InterfaceError("connection is closed"), True),
        (lambda: asyncpg.InterfaceError("another operation is in progress"), False),
        (lambda: asyncpg.ConnectionDoesNotExistError("gone"), True),
        (ConnectionRefusedError, True),
        (lambda: ValueError("no"), False),
        (TransientError, True),
        (LeaseMismatch, False),
    ],
)
def test_what_may_be_repeated_is_told_from_what_may_not(
    make: Callable[[], Exception], transient: bool
) -> None:
    assert is_transient(make()) is transient


def test_channels_are_those_of_the_database(flow: Flow) -> None:
    for capability in ("cap", "x" * 200, 'a"b', "\N{GREEK SMALL LETTER OMEGA}" * 30, "y" * 53, "y" * 37):
        known = flow.value("select pgwf.need_channel(%s)", capability)
        assert need_channel(flow.schema, capability) == known


def test_an_extension_has_a_length() -> None:
    from millstream.pgwf.arguments import seconds_of

    assert seconds_of(timedelta(minutes=2)) == 120
    assert seconds_of(0.5) == 0.5
    for wrong in (0, -1, timedelta(0), float("nan"), float("inf"), 2**31, None, "5", True):
        with pytest.raises(InvalidArgument):
            seconds_of(wrong)
