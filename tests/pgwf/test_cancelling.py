import pytest
from psycopg import errors

from tests.pgwf.flow import Flow


def test_a_cancelled_job_is_never_leased_and_only_the_sweep_takes_it(flow: Flow) -> None:
    flow.submit("a")
    flow.cancel("a")
    assert flow.status("a") == "CANCELLED"
    assert flow.lease() == []
    for call in ("reschedule_unheld_job('a', 'w', 'next')", "complete_unheld_job('a', 'w')"):
        with pytest.raises(errors.RaiseException, match="is not available"):
            flow.rows(f"select pgwf.{call}")


def test_a_cancelled_lease_can_only_be_completed(flow: Flow) -> None:
    flow.submit("a")
    flow.submit("child", "other", wait_for=["a"])
    job_id, lease_id = flow.take()
    flow.cancel("a")
    assert flow.status("a") == "ACTIVE"
    for call in ("extend_lease(%s, %s, 'w', 10)", "reschedule_job(%s, %s, 'w', 'next')"):
        with pytest.raises(errors.RaiseException, match="cancelled") as refused:
            flow.rows(f"select pgwf.{call}", job_id, lease_id)
        assert refused.value.diag.constraint_name == "ms_job_cancelled"
    assert flow.sweep() == 0
    flow.complete(job_id, lease_id)
    assert flow.row("select cancel_requested, cancel_requested_by from pgwf.jobs_archive") == (
        True,
        "canceller",
    )
    assert flow.events("a")[-1] == "job_finished"
    assert flow.take("other")[0] == "child"


def test_a_cancelled_lease_that_lapses_leaves_a_cancelled_job(flow: Flow) -> None:
    flow.submit("a")
    flow.take()
    flow.cancel("a")
    flow.lapse("a")
    assert flow.status("a") == "CANCELLED"
    assert flow.lease() == []
    assert flow.sweep() == 1


def test_the_sweep_archives_cancelled_jobs_and_releases_their_dependents(flow: Flow) -> None:
    flow.submit("a", payload='{"secret": 1}')
    flow.submit("b")
    flow.submit("child", wait_for=["a"])
    flow.cancel("a")
    flow.cancel("b")
    assert flow.wait_for("child") == ["a"]
    assert flow.sweep() == 2
    assert flow.sweep() == 0
    assert flow.live() == ["child"]
    assert flow.wait_for("child") == []
    assert flow.rows(
        "select job_id, cancel_requested, cancel_requested_by, payload from pgwf.jobs_archive order by job_id"
    ) == [("a", True, "canceller", {"secret": 1}), ("b", True, "canceller", {})]
    swept = flow.rows(
        "select job_id, event_type, worker_id from pgwf.jobs_trace where event_type like 'job_cancel_archived%%'"
        " order by trace_id"
    )
    assert swept == [
        ("a", "job_cancel_archived", "sweeper"),
        ("b", "job_cancel_archived", "sweeper"),
        (f"{flow.schema}.archive_cancelled_jobs", "job_cancel_archived_run", "sweeper"),
    ]


def test_the_sweep_takes_the_oldest_up_to_its_limit(flow: Flow) -> None:
    for job_id in "cba":
        flow.submit(job_id)
    for job_id in "abc":
        flow.cancel(job_id)
    assert flow.sweep(2) == 2
    assert flow.archived() == ["b", "c"]
    assert flow.value(
        "select input_data from pgwf.jobs_trace where event_type = 'job_cancel_archived_run'"
    ) == {"worker_id": "sweeper", "limit": 2, "archived_jobs": 2}


def test_a_chain_of_cancelled_jobs_goes_in_one_sweep(flow: Flow) -> None:
    flow.submit("a")
    flow.submit("b", wait_for=["a"])
    flow.submit("c", wait_for=["b"])
    flow.cancel("a")
    flow.cancel("b")
    assert flow.sweep() == 2
    assert flow.wait_for("c") == []


def test_the_sweep_keeps_the_counters(flow: Flow) -> None:
    flow.submit("a")
    for _ in range(2):
        flow.take()
        flow.lapse("a")
    flow.cancel("a")
    flow.sweep()
    assert flow.row("select lease_expiration_count, consecutive_expirations from pgwf.jobs_archive") == (1, 1)


def test_the_first_request_stays(flow: Flow) -> None:
    flow.submit("a")
    who = "select (j).cancel_requested_by, (j).cancel_requested_at from pgwf.cancel_job('a', %s, 'why') as j"
    first = flow.row(who, "first")
    assert flow.row(who, "second") == first
    assert first[0] == "first"
    inputs = flow.values("select input_data from pgwf.jobs_trace where event_type = 'job_cancel_requested'")
    assert inputs == [
        {"job_id": "a", "worker_id": "first", "reason": "why", "was_active": False},
        *(
            {
                "job_id": "a",
                "worker_id": "second",
                "reason": "why",
                "was_active": False,
                "already_cancelled": True,
            },
        ),
    ]


def test_what_is_gone_cannot_be_cancelled(flow: Flow) -> None:
    flow.submit("done")
    flow.finish("done")
    for job_id, message, code in (
        ("done", "already completed", "ms_job_completed"),
        ("nobody", "does not exist", "ms_job_missing"),
    ):
        with pytest.raises(errors.RaiseException, match=message) as refused:
            flow.cancel(job_id)
        assert refused.value.diag.constraint_name == code


def test_an_id_that_is_live_and_archived_blocks_nothing(flow: Flow) -> None:
    # What an older script could leave behind.
    flow.submit("a")
    flow.submit("b")
    for job_id in "ab":
        flow.rows(
            "insert into pgwf.jobs_archive (job_id, next_need, created_at) values (%s, 'c', now())", job_id
        )
    flow.cancel("a")
    assert flow.sweep() == 1
    flow.complete(*flow.take())
    assert flow.live() == []
    assert flow.archived() == ["a", "b"]
