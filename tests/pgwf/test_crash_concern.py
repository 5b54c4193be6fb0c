import pytest
from psycopg import errors

from tests.pgwf.flow import Flow

COUNTERS = "select lease_expiration_count, consecutive_expirations from pgwf.jobs where job_id = 'a'"


def test_a_job_that_is_never_finished_is_set_aside(flow: Flow) -> None:
    flow.rows("select pgwf.set_crash_concern_threshold(1)")
    flow.submit("a")
    flow.take()
    flow.lapse("a")
    assert flow.row(COUNTERS) == (0, 0)
    flow.take()
    assert flow.row(COUNTERS) == (1, 1)
    assert flow.status("a") == "ACTIVE"
    flow.lapse("a")
    assert flow.lease() == []
    assert flow.status("a") == "CRASH_CONCERN"
    assert flow.value("select consecutive_expirations from pgwf.jobs_with_status") == 1
    assert flow.events("a").count("lease_expiration_counter_incremented") == 1
    assert flow.value("select pgwf.clear_crash_concern('a', 'operator', 'fixed')") is True
    assert flow.row(COUNTERS) == (1, 0)
    assert flow.status("a") == "READY"
    assert flow.events("a").count("crash_concern_cleared") == 1
    assert flow.take()[0] == "a"


@pytest.mark.parametrize("threshold", [2, 3])
def test_a_threshold_allows_one_lease_more(flow: Flow, threshold: int) -> None:
    flow.rows("select pgwf.set_crash_concern_threshold(%s)", threshold)
    flow.submit("a")
    leases = 0
    while flow.lease():
        leases += 1
        flow.lapse("a")
    assert leases == threshold + 1
    assert flow.row(COUNTERS) == (threshold, threshold)


def test_rescheduling_ends_a_streak(flow: Flow) -> None:
    flow.submit("a")
    flow.take()
    flow.lapse("a")
    job_id, lease_id = flow.take()
    assert flow.row(COUNTERS) == (1, 1)
    flow.rows("select pgwf.reschedule_job(%s, %s, 'w', 'cap')", job_id, lease_id)
    assert flow.row(COUNTERS) == (1, 0)


def test_a_job_of_concern_can_be_completed(flow: Flow) -> None:
    flow.rows("select pgwf.set_crash_concern_threshold(1)")
    flow.submit("a")
    for _ in range(2):
        flow.take()
        flow.lapse("a")
    lease_id = flow.value("select lease_id from pgwf.jobs")
    flow.finish("a")
    assert flow.row(
        "select job_id, lease_id, lease_expiration_count, consecutive_expirations from pgwf.jobs_archive"
    ) == (*("a", lease_id, 1, 0),)


def test_raising_the_threshold_brings_back_what_was_set_aside(flow: Flow) -> None:
    flow.rows("select pgwf.set_crash_concern_threshold(1)")
    flow.submit("a")
    for _ in range(2):
        flow.take()
        flow.lapse("a")
    assert flow.lease() == []
    assert flow.lease() == []
    assert flow.value("select pgwf.set_crash_concern_threshold(2)") == 2
    assert flow.value("select pgwf.crash_concern_threshold()") == 2
    assert flow.status("a") == "READY"
    assert flow.take()[0] == "a"
    flow.lapse("a")
    flow.rows("select pgwf.set_crash_concern_threshold(1)")
    assert flow.status("a") == "CRASH_CONCERN"


def test_a_threshold_in_the_making_keeps_others_from_setting_jobs_aside(flow: Flow) -> None:
    operator = flow.other()
    flow.rows("select pgwf.set_crash_concern_threshold(1)")
    flow.submit("a")
    for _ in range(2):
        flow.take()
        flow.lapse("a")
    with operator.connection.transaction():
        operator.rows("select pgwf.set_crash_concern_threshold(5)")
        assert flow.lease() == []
    assert flow.take()[0] == "a"


def test_a_threshold_waits_for_who_is_setting_jobs_aside(flow: Flow) -> None:
    operator = flow.other()
    flow.rows("select pgwf.set_crash_concern_threshold(1)")
    flow.submit("a")
    for _ in range(2):
        flow.take()
        flow.lapse("a")
    with flow.connection.transaction():
        assert flow.lease() == []
        raised = flow.start(operator.rows, "select pgwf.set_crash_concern_threshold(5)")
        flow.wait_until_blocked(operator)
    raised.result()
    assert flow.take()[0] == "a"


def test_clearing_resets_the_streak_in_any_status(flow: Flow) -> None:
    flow.submit("a")
    assert flow.value("select pgwf.clear_crash_concern('a', 'operator')") is True
    flow.take()
    flow.lapse("a")
    flow.take()
    assert flow.value("select pgwf.clear_crash_concern('a', 'operator')") is True
    assert flow.row(COUNTERS) == (1, 0)
    assert flow.status("a") == "ACTIVE"


def test_concern_is_cleared_on_live_jobs_that_are_not_cancelled(flow: Flow) -> None:
    flow.submit("cancelled")
    flow.cancel("cancelled")
    flow.submit("done")
    flow.finish("done")
    for job_id, message, code in (
        ("cancelled", "cancelled", "ms_job_cancelled"),
        ("done", "archived", "ms_job_completed"),
        ("nobody", "does not exist", "ms_job_missing"),
    ):
        with pytest.raises(errors.RaiseException, match=message) as refused:
            flow.rows("select pgwf.clear_crash_concern(%s, 'operator')", job_id)
        assert refused.value.diag.constraint_name == code
