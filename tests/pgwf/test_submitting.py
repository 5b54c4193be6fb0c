import pytest
from psycopg import errors

from tests.pgwf.flow import Flow


def test_three_arguments_submit_a_job_that_can_be_leased(flow: Flow) -> None:
    need, available = flow.row("select next_need, available_at from pgwf.submit_job('a', 'submitter', 'cap')")
    assert need == "cap"
    assert available is not None
    ((job_id, lease_id, in_future),) = flow.rows(
        "select job_id, lease_id, lease_expires_at > clock_timestamp() from pgwf.get_work('w', array['cap'], 30, 1)"
    )
    assert job_id == "a"
    assert lease_id
    assert in_future
    assert flow.events("a") == ["job_submitted", "job_retrieved"]


def test_a_payload_travels_from_submission_to_the_archive_but_never_into_the_trace(flow: Flow) -> None:
    flow.rows("select pgwf.submit_job(%s, %s, %s, %s, %s)", "a", "w", "cap", None, '{"secret": 1}')
    job_id, lease_id, payload = flow.row(
        "select job_id, lease_id, payload from pgwf.get_work('w', array['cap'])"
    )
    assert payload == {"secret": 1}
    assert flow.value("select payload from pgwf.jobs") == {"secret": 1}
    flow.complete(job_id, lease_id)
    assert flow.value("select payload from pgwf.jobs_archive") == {"secret": 1}
    assert not flow.value(
        "select bool_or((input_data::text || coalesce(output_data::text, '')) ~ 'payload|secret') from pgwf.jobs_trace"
    )


def test_a_payload_that_is_no_object_is_refused(flow: Flow) -> None:
    for given in ("[1]", "null", "1", '"text"', "true"):
        with pytest.raises(errors.RaiseException, match="payload must be a JSON object") as refused:
            flow.submit("a", payload=given)
        assert refused.value.diag.constraint_name == "ms_payload_invalid"
    assert flow.live() == []


def test_a_payload_may_have_512_stored_bytes(flow: Flow) -> None:
    flow.submit("fits", payload='{"data": "%s"}' % ("x" * 492))
    with pytest.raises(errors.RaiseException, match="payload exceeds 512 bytes") as refused:
        flow.submit("a", payload='{"data": "%s"}' % ("x" * 493))
    assert refused.value.diag.constraint_name == "ms_payload_too_large"
    flow.submit("nothing", payload=None)
    assert flow.value("select payload from pgwf.jobs where job_id = 'nothing'") == {}
    assert flow.live() == ["fits", "nothing"]


def test_rows_of_other_writers_keep_the_rules_of_payloads(flow: Flow) -> None:
    for rule, payload in (
        ("jobs_payload_is_object", "[]"),
        ("jobs_payload_size_limit", '{"a": "%s"}' % ("x" * 520)),
    ):
        with pytest.raises(errors.CheckViolation) as refused:
            flow.rows("insert into pgwf.jobs (job_id, next_need, payload) values ('a', 'c', %s)", payload)
        assert refused.value.diag.constraint_name == rule


def test_an_id_is_taken_while_its_job_lives_and_afterwards(flow: Flow) -> None:
    flow.submit("a")
    with pytest.raises(errors.UniqueViolation) as refused:
        flow.submit("a")
    assert refused.value.diag.constraint_name == "jobs_pkey"
    flow.complete(*flow.take())
    with pytest.raises(errors.RaiseException, match="already completed") as completed:
        flow.submit("a")
    assert completed.value.diag.constraint_name == "ms_job_completed"


def test_ids_are_purged_with_the_archive(flow: Flow) -> None:
    flow.submit("a")
    flow.finish("a")
    flow.rows("delete from pgwf.jobs_archive")
    flow.submit("a")
    assert flow.live() == ["a"]


def test_a_job_has_an_id_and_a_need(flow: Flow) -> None:
    for job_id, need in ((None, "cap"), ("a", None)):
        with pytest.raises(errors.NotNullViolation):
            flow.rows("select pgwf.submit_job(%s, 'w', %s)", job_id, need)


def test_every_function_asks_who_calls(flow: Flow) -> None:
    calls = (
        "submit_job('a', null, 'cap')",
        "get_work(null, array['cap'])",
        "extend_lease('a', 'l', null)",
        "reschedule_job('a', 'l', null, 'cap')",
        "reschedule_unheld_job('a', null, 'cap')",
        "complete_job('a', 'l', null)",
        "complete_unheld_job('a', null)",
        "cancel_job('a', null)",
        "archive_cancelled_jobs(null)",
        "clear_crash_concern('a', null)",
    )
    flow.rows("select pgwf.set_trace(false)")
    for call in calls:
        with pytest.raises(errors.RaiseException, match="cannot be NULL") as refused:
            flow.rows(f"select pgwf.{call}")
        assert refused.value.diag.constraint_name == "ms_invalid_argument"


def test_every_function_on_one_job_wants_its_id(flow: Flow) -> None:
    calls = (
        "extend_lease(null, 'l', 'w')",
        "reschedule_job(null, 'l', 'w', 'cap')",
        "reschedule_unheld_job(null, 'w', 'cap')",
        "complete_job(null, 'l', 'w')",
        "complete_unheld_job(null, 'w')",
        "cancel_job(null, 'w')",
        "clear_crash_concern(null, 'w')",
    )
    for call in calls:
        with pytest.raises(errors.RaiseException, match="cannot be NULL") as refused:
            flow.rows(f"select pgwf.{call}")
        assert refused.value.diag.constraint_name == "ms_invalid_argument"


def test_only_live_dependencies_are_kept_in_order_and_as_often_as_given(flow: Flow) -> None:
    for job_id in ("done", "b", "a"):
        flow.submit(job_id)
    flow.finish("done")
    flow.submit("child", wait_for=["b", None, "done", "a", "b"])
    assert flow.wait_for("child") == ["b", "a", "b"]
    flow.submit("free", wait_for=["done", None])
    assert flow.wait_for("free") == []
    flow.submit("also-free", wait_for=None)
    assert flow.wait_for("also-free") == []
    for job_id in ("a", "b"):
        flow.finish(job_id)
    assert flow.wait_for("child") == []


def test_unknown_dependencies_are_named(flow: Flow) -> None:
    flow.submit("a")
    for given, named in ((["nope", "a", "neither", "nope"], "{nope,neither,nope}"), (["self"], "{self}")):
        with pytest.raises(errors.RaiseException, match="wait_for references unknown jobs") as refused:
            flow.submit("self", wait_for=given)
        assert named in str(refused.value.diag.message_primary)
        assert refused.value.diag.constraint_name == "ms_unknown_dependency"
    assert flow.live() == ["a"]


def test_a_submission_shares_the_fate_of_its_transaction(flow: Flow) -> None:
    other = flow.other()
    flow.rows("create table if not exists pgwf.orders (id text)")
    flow.rows("truncate pgwf.orders")
    with flow.connection.transaction(force_rollback=True):
        flow.rows("insert into pgwf.orders values ('1')")
        flow.submit("a")
    assert (other.live(), other.values("select id from pgwf.orders")) == ([], [])
    with flow.connection.transaction():
        flow.rows("insert into pgwf.orders values ('1')")
        with pytest.raises(errors.RaiseException), flow.connection.transaction():
            flow.submit("b", wait_for=["nobody"])
        flow.submit("a")
        assert other.live() == []
    assert (other.live(), other.values("select id from pgwf.orders")) == (["a"], ["1"])


def test_the_parts_of_a_job_are_returned(flow: Flow) -> None:
    flow.submit("p")
    call = (
        f"select * from {flow.schema}.submit_job('a', 'w', 'cap', array['p'], '{{\"n\": 1}}'::jsonb, 'key',"
        " '2031-01-01 00:00:00Z'::timestamptz, 'infinity'::timestamptz)"
    )
    cursor = flow.connection.execute(call.encode())
    assert cursor.description is not None
    assert [column.name for column in cursor.description] == [
        *("job_id", "next_need", "wait_for", "payload", "available_at")
    ]
    (row,) = cursor.fetchall()
    assert row[:4] == ("a", "cap", ["p"], {"n": 1})
    assert row[4].year == 2031
