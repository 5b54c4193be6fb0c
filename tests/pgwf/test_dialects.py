"""The calls of both argument dialects, without types, as drivers send them that leave types to the server."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.pgwf.flow import Flow

Call = Callable[..., list[tuple[Any, ...]]]
WHEN = "2031-05-06 07:08:09.123456Z"


@pytest.fixture(params=["extended", "simple", "prepared"])
def call(flow: Flow, request: pytest.FixtureRequest) -> Call:
    """Call a function by position, every argument as text without a type."""
    connection = flow.connection.pgconn

    def send(function: str, *given: str | None) -> list[tuple[Any, ...]]:
        marks = ", ".join(f"${number}" for number in range(1, len(given) + 1))
        sql = f"select * from {flow.schema}.{function}({marks})"
        values: list[Any] = [None if value is None else value.encode() for value in given]
        if request.param == "extended":
            result = connection.exec_params(sql.encode(), values)
        elif request.param == "prepared":
            prepared = connection.prepare(b"", sql.encode())
            _raise_for(prepared)
            result = connection.exec_prepared(b"", values)
        else:
            literals = ", ".join("null" if value is None else _quoted(value) for value in given)
            result = connection.exec_(f"select * from {flow.schema}.{function}({literals})".encode())
        _raise_for(result)
        return [
            tuple(result.get_value(row, column) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    return send


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _raise_for(result: "psycopg.pq.abc.PGresult") -> None:
    if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)


STORED = (
    "select payload::text, singleton_key, available_at = %s::timestamptz, available_at <= clock_timestamp(),"
    " expires_at::text from pgwf.jobs where job_id = %s"
)

# What follows the capability, and what becomes of it: payload, key, whether the job is for WHEN.
SUBMISSIONS: list[tuple[tuple[str | None, ...], str, str | None, bool]] = [
    ((), "{}", None, False),
    ((None,), "{}", None, False),
    ((None, '{"n": 1}'), '{"n": 1}', None, False),
    ((None, None, None), "{}", None, False),
    ((None, ' {"n": 1}', None), '{"n": 1}', None, False),
    ((None, '{"n": 1}', "key"), '{"n": 1}', "key", False),
    ((None, '{"n": 1}', WHEN), '{"n": 1}', WHEN, False),
    ((None, None, WHEN), "{}", None, True),
    ((None, None, "2031-05-06T07:08:09.123456+00:00"), "{}", None, True),
    ((None, None, "2031-05-06 08:08:09.123456+01"), "{}", None, True),
    ((None, None, "key"), "{}", "key", False),
    ((None, None, "2031-05-06"), "{}", "2031-05-06", False),
    (("{}", "key", None), "{}", "key", False),
    (("{}", "key", WHEN), "{}", "key", True),
    ((None, '{"n": 1}', "key", WHEN), '{"n": 1}', "key", True),
    ((None, '{"n": 1}', "key", WHEN, "infinity"), '{"n": 1}', "key", True),
]


def test_submissions_by_position_mean_what_either_dialect_says(flow: Flow, call: Call) -> None:
    for number, (given, payload, key, at_when) in enumerate(SUBMISSIONS):
        (row,) = call("submit_job", f"job-{number}", "w", "cap", *given)
        assert row[:2] == (f"job-{number}".encode(), b"cap")
        expected = (payload, key, at_when, not at_when, "infinity")
        assert flow.row(STORED, WHEN, f"job-{number}") == expected, given


def test_a_time_that_is_none_is_refused(flow: Flow, call: Call) -> None:
    flow.submit("old")
    with pytest.raises(errors.InvalidDatetimeFormat):
        call("submit_job", "a", "w", "cap", None, "key", "soon")
    for first in ("key", None):
        with pytest.raises(errors.InvalidDatetimeFormat):
            call("reschedule_unheld_job", "old", "w", "next", None, first, "soon")
    assert flow.values("select next_need from pgwf.jobs") == ["cap"]


RESCHEDULES: list[tuple[tuple[str | None, ...], str, bool]] = [
    ((), '{"n": 0}', False),
    ((None,), '{"n": 0}', False),
    ((None, None), '{"n": 0}', False),
    ((None, WHEN), '{"n": 0}', True),
    ((None, None, None), '{"n": 0}', False),
    ((None, None, '{"n": 1}'), '{"n": 1}', False),
    ((None, WHEN, '{"n": 1}'), '{"n": 1}', True),
    ((None, WHEN, None), '{"n": 0}', True),
    ((None, "key", None), '{"n": 0}', False),
    ((None, "key", WHEN), '{"n": 0}', True),
    ((None, None, WHEN), '{"n": 0}', True),
]


def test_reschedules_by_position_mean_what_either_dialect_says(flow: Flow, call: Call) -> None:
    for number, (given, payload, at_when) in enumerate(RESCHEDULES):
        flow.submit(f"held-{number}", f"held-{number}", payload='{"n": 0}', singleton_key=f"key{number}")
        lease_id = flow.take(f"held-{number}")[1]
        flow.submit(f"unheld-{number}", payload='{"n": 0}', singleton_key=f"key{number}")
        sent = [f"key{number}" if value == "key" else value for value in given]
        (held,) = call("reschedule_job", f"held-{number}", lease_id, "w", "next", *sent)
        (unheld,) = call("reschedule_unheld_job", f"unheld-{number}", "w", "next", *sent)
        for job_id, row in ((f"held-{number}", held), (f"unheld-{number}", unheld)):
            assert row[:3] == (job_id.encode(), b"next", b"{}")
            expected = (payload, f"key{number}", at_when, not at_when, "infinity")
            assert flow.row(STORED, WHEN, job_id) == expected, given


def test_a_key_cannot_be_changed_by_rescheduling(flow: Flow, call: Call) -> None:
    flow.submit("none")
    flow.submit("a", "keyed", singleton_key="key")
    _, lease_id = flow.take("keyed")
    stored = "select next_need, lease_id, singleton_key, expires_at::text from pgwf.jobs order by job_id"
    before = flow.rows(stored)
    for given in (("another", None), ("another", WHEN)):
        with pytest.raises(errors.RaiseException, match="singleton") as refused:
            call("reschedule_job", "a", lease_id, "w", "next", None, *given)
        assert refused.value.diag.constraint_name == "ms_singleton_immutable"
        with pytest.raises(errors.RaiseException, match="singleton"):
            call("reschedule_unheld_job", "none", "w", "next", None, *given)
    assert flow.rows(stored) == before


def test_typed_calls_of_the_older_dialect_reach_their_overloads(flow: Flow) -> None:
    flow.rows(
        "select pgwf.submit_job('a', 'w', 'cap', null::text[], 'key'::text, %s::timestamptz)",
        WHEN,
    )
    assert flow.row(STORED, WHEN, "a") == ("{}", "key", True, False, "infinity")
    flow.rows("select pgwf.submit_job('b', 'w', 'cap', array['a'], 'key', now())")
    assert flow.row("select singleton_key, wait_for from pgwf.jobs where job_id = 'b'") == ("key", ["a"])
    flow.submit("c", singleton_key="other")
    _, lease_id = flow.take()
    flow.rows(
        "select pgwf.reschedule_job('c', %s, 'w', 'next', null::text[], 'other'::text, %s::timestamptz)",
        *(lease_id, WHEN),
    )
    assert flow.status("c") == "AWAITING_FUTURE"
    flow.submit("d")
    flow.rows(
        "select pgwf.reschedule_unheld_job('d', 'w', 'next', null::text[], null::text, %s::timestamptz)", WHEN
    )
    assert flow.status("d") == "AWAITING_FUTURE"
    flow.submit("e")
    with pytest.raises(errors.RaiseException, match="singleton"):
        flow.rows("select pgwf.reschedule_unheld_job('e', 'w', 'next', null::text[], 'k'::text, now())")


def test_calls_by_name_reach_the_full_functions(flow: Flow) -> None:
    flow.rows(
        "select pgwf.submit_job(p_job_id => 'a', p_worker_id => 'w', p_next_need => 'cap',"
        " p_available_at => '2001-01-01Z', p_singleton_key => 'key')"
    )
    lease_id = flow.take()[1]
    flow.rows(
        "select pgwf.reschedule_job(p_job_id => 'a', p_lease_id => %s, p_worker_id => 'w', p_next_need => 'n',"
        " p_available_at => '2100-01-01Z')",
        lease_id,
    )
    assert flow.status("a") == "AWAITING_FUTURE"


def test_the_calls_of_the_library_for_go_work_from_end_to_end(flow: Flow, call: Call) -> None:
    call("submit_job", "a", "w", "cap", None, None, None)
    ((job_id, lease_id, *_),) = call("get_work", "w", "{cap}", "60", "1")
    assert job_id == b"a"
    call("extend_lease", "a", lease_id.decode(), "w", "90")
    call("reschedule_job", "a", lease_id.decode(), "w", "next", None, None, "2001-01-01 00:00:00Z")
    call("reschedule_unheld_job", "a", "w", "last", "{}", None, "2001-01-01T00:00:00Z")
    ((_, lease_id, *_),) = call("get_work", "w", "{next,last}", "60", "1")
    assert call("complete_job", "a", lease_id.decode(), "w") == [(b"t",)]
    call("submit_job", "b", "w", "cap", "{a}", "key", "2001-01-01 00:00:00Z")
    assert call("complete_unheld_job", "b", "w") == [(b"t",)]
    assert flow.archived() == ["a", "b"]
