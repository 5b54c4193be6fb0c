import itertools
import uuid

import pytest
from psycopg import errors

from tests.pgwf.flow import Flow

REFUSED = [
    ("get_work('w', null, 30, 1)", "worker_caps cannot be empty"),
    ("get_work('w', array['cap'], 0, 1)", "lease_seconds must be positive"),
    ("get_work('w', array['cap'], null, 1)", "lease_seconds must be positive"),
    ("get_work('w', array['cap'], 30, 0)", "limit_jobs must be positive"),
    ("get_work('w', array['cap'], 30, null)", "limit_jobs must be positive"),
    ("extend_lease('a', 'l', 'w', 0)", "additional_seconds must be positive"),
    ("extend_lease('a', 'l', 'w', null)", "additional_seconds must be positive"),
    ("archive_cancelled_jobs('w', 0)", "limit must be positive"),
    ("archive_cancelled_jobs('w', null)", "limit must be positive"),
    ("set_trace(null)", "cannot be NULL"),
    ("set_notify(null)", "cannot be NULL"),
    ("set_crash_concern_threshold(0)", "threshold must be positive"),
    ("set_crash_concern_threshold(null)", "threshold must be positive"),
]


def test_arguments_out_of_range_are_refused(flow: Flow) -> None:
    for call, message in REFUSED:
        with pytest.raises(errors.RaiseException, match=message) as refused:
            flow.rows(f"select pgwf.{call}")
        assert refused.value.diag.constraint_name == "ms_invalid_argument"


def test_no_capabilities_get_no_work(flow: Flow) -> None:
    flow.submit("a")
    assert flow.rows("select * from pgwf.get_work('w', '{}', 30, 1)") == []
    assert flow.rows("select * from pgwf.get_work('w', array[null]::text[], 30, 1)") == []


def test_the_oldest_jobs_of_all_capabilities_come_first(flow: Flow) -> None:
    for job_id, need in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "other"), ("5", "b")):
        flow.submit(job_id, need)
    assert [job_id for job_id, _ in flow.lease("b", "a", "a", limit=3)] == ["1", "2", "3"]
    assert [job_id for job_id, _ in flow.lease("b", "a", limit=3)] == ["5"]


def test_a_batch_has_one_expiry_and_a_lease_for_each(flow: Flow) -> None:
    flow.submit("a")
    flow.submit("b")
    rows = flow.rows("select lease_id, lease_expires_at from pgwf.get_work('w', array['cap'], 30, 5)")
    assert len({uuid.UUID(lease_id) for lease_id, _ in rows}) == 2
    assert len({expires_at for _, expires_at in rows}) == 1
    assert flow.rows("select lease_id, lease_expires_at from pgwf.jobs order by created_at") == rows


def test_jobs_that_slept_take_their_place_in_the_order_of_creation(flow: Flow) -> None:
    flow.submit("slept", available_at="2100-01-01Z")
    flow.submit("lapsed")
    flow.take()
    flow.submit("fresh")
    flow.rows("update pgwf.jobs set available_at = clock_timestamp() where job_id = 'slept'")
    flow.lapse("lapsed")
    # As if they had woken up by themselves: nobody wrote to them since.
    flow.rows("update pgwf.jobs set wake_at = clock_timestamp() - interval '1 ms' where job_id <> 'fresh'")
    assert [job_id for job_id, _ in flow.lease(limit=3)] == ["slept", "lapsed", "fresh"]


def test_a_key_lets_one_job_at_a_time_be_active(flow: Flow) -> None:
    flow.rows("select pgwf.submit_job(%s, %s, %s, %s, %s, %s)", "old", "w", "cap", None, None, "key")
    flow.rows("select pgwf.submit_job(%s, %s, %s, %s, %s, %s)", "new", "w", "cap", None, None, "key")
    lease = flow.take()
    assert lease[0] == "old"
    assert flow.lease() == []
    assert flow.status("new") == "READY"
    flow.complete(*lease)
    assert flow.take()[0] == "new"


def test_a_batch_holds_one_job_of_each_key(flow: Flow) -> None:
    for job_id, key in (("1", "a"), ("2", "a"), ("3", None), ("4", "b"), ("5", "a"), ("6", None)):
        flow.submit(job_id, singleton_key=key)
    assert [job_id for job_id, _ in flow.lease(limit=10)] == ["1", "3", "4", "6"]


def test_a_lapsed_lease_does_not_hold_its_key(flow: Flow) -> None:
    flow.submit("old", "first", singleton_key="key")
    flow.submit("new", "second", singleton_key="key")
    flow.take("first")
    assert flow.lease("second") == []
    flow.lapse("old")
    assert flow.take("second")[0] == "new"
    assert flow.lease("first") == []


def test_many_jobs_of_a_busy_key_do_not_hide_those_behind_them(flow: Flow) -> None:
    flow.submit("holder", singleton_key="key")
    flow.take()
    flow.rows(
        "insert into pgwf.jobs (job_id, next_need, singleton_key) select i::text, 'cap', 'key' from generate_series(1, 500) i"
    )
    flow.submit("behind")
    assert [job_id for job_id, _ in flow.lease(limit=3)] == ["behind"]


def test_rescheduling_keeps_the_key(flow: Flow) -> None:
    flow.submit("keyed", singleton_key="key")
    job_id, lease_id = flow.take()
    flow.rows("select pgwf.reschedule_job(%s, %s, 'w', 'next')", job_id, lease_id)
    assert flow.value("select singleton_key from pgwf.jobs") == "key"
    assert flow.value("select singleton_key from pgwf.jobs_with_status") == "key"
    flow.submit("plain")
    flow.rows("select pgwf.reschedule_unheld_job('plain', 'w', 'next')")
    assert flow.value("select singleton_key from pgwf.jobs where job_id = 'plain'") is None


def test_an_extension_counts_from_now_and_may_shorten(flow: Flow) -> None:
    flow.submit("a")
    job_id, lease_id = flow.take()
    extend = "select extract(epoch from pgwf.extend_lease(%s, %s, 'w', %s) - clock_timestamp())"
    assert 100 < flow.value(extend, job_id, lease_id, 120) <= 120
    assert 0 < flow.value(extend, job_id, lease_id, 10) <= 10
    assert flow.value("select lease_expires_at < clock_timestamp() + interval '11 s' from pgwf.jobs")


def test_a_shortened_lease_ends_when_it_says(flow: Flow) -> None:
    flow.submit("a")
    ((job_id, lease_id),) = flow.lease(seconds=3600)
    flow.rows("select pgwf.extend_lease(%s, %s, 'w', 60)", job_id, lease_id)
    assert flow.value("select wake_at <= lease_expires_at from pgwf.jobs")
    flow.rows("select pgwf.extend_lease(%s, %s, 'w', 90)", job_id, lease_id)
    assert flow.value("select wake_at < lease_expires_at from pgwf.jobs"), (
        "an extension moves nothing in indexes"
    )


def test_an_extended_job_is_rescheduled_for_another_capability(flow: Flow) -> None:
    flow.submit("a")
    job_id, lease_id = flow.take()
    flow.rows("select pgwf.extend_lease(%s, %s, 'w', 120)", job_id, lease_id)
    row = flow.row(
        "select job_id, next_need, wait_for from pgwf.reschedule_job(%s, %s, 'w', 'next', null, %s)",
        *(job_id, lease_id, "2001-01-01 00:00:00+00"),
    )
    assert row == ("a", "next", [])
    assert flow.lease() == []
    assert flow.row("select lease_id, lease_expires_at::text from pgwf.jobs") == (None, "-infinity")
    assert flow.take("next")[0] == "a"


def test_rescheduling_replaces_the_payload_only_when_one_is_given(flow: Flow) -> None:
    flow.submit("a", payload='{"step": 1}')
    job_id, lease_id = flow.take()
    flow.rows("select pgwf.reschedule_job(%s, %s, 'w', 'cap')", job_id, lease_id)
    assert flow.value("select payload from pgwf.jobs") == {"step": 1}
    job_id, lease_id = flow.take()
    flow.rows(
        "select pgwf.reschedule_job(p_job_id => %s, p_lease_id => %s, p_worker_id => 'w', p_next_need => 'cap',"
        " p_payload => %s)",
        *(job_id, lease_id, '{"step": 2}'),
    )
    flow.rows("select pgwf.reschedule_unheld_job('a', 'w', 'last', null, null, '{\"step\": 3}')")
    job_id, lease_id = flow.take("last")
    flow.complete(job_id, lease_id)
    assert flow.value("select payload from pgwf.jobs_archive") == {"step": 3}
    assert flow.value("select count(*) from pgwf.jobs_trace where input_data::text ~ 'step'") == 0


def test_rescheduling_refuses_bad_payloads(flow: Flow) -> None:
    flow.submit("a")
    job_id, lease_id = flow.take()
    with pytest.raises(errors.RaiseException, match="payload must be a JSON object"):
        flow.rows(
            "select pgwf.reschedule_job(%s, %s, 'w', 'cap', null, null::timestamptz, %s)",
            job_id,
            lease_id,
            "[1]",
        )
    flow.lapse("a")
    big = '{"data": "%s"}' % ("x" * 520)
    with pytest.raises(errors.RaiseException, match="payload exceeds 512 bytes"):
        flow.rows("select pgwf.reschedule_unheld_job('a', 'w', 'cap', null, null, %s)", big)


def test_a_child_waits_for_its_parents(flow: Flow) -> None:
    flow.submit("a", "parents")
    flow.submit("b", "parents")
    flow.submit("child", "children", wait_for=["a", "b"])
    (first, second) = flow.lease("parents", "children", limit=5)
    flow.complete(*first)
    assert flow.wait_for("child") == ["b"]
    assert flow.status("child") == "PENDING_JOBS"
    assert flow.lease("children") == []
    flow.complete(*second)
    assert flow.wait_for("child") == []
    assert flow.take("children")[0] == "child"


def test_a_leased_job_can_wait_for_others(flow: Flow) -> None:
    flow.submit("done")
    flow.finish("done")
    flow.submit("parent", "parents")
    flow.submit("child")
    job_id, lease_id = flow.take()
    with pytest.raises(errors.RaiseException, match="wait_for references unknown jobs"):
        flow.rows("select pgwf.reschedule_job(%s, %s, 'w', 'cap', array['nobody'])", job_id, lease_id)
    assert flow.status("child") == "ACTIVE"
    flow.rows("select pgwf.reschedule_job(%s, %s, 'w', 'cap', array['done', 'parent'])", job_id, lease_id)
    assert flow.wait_for("child") == ["parent"]
    assert flow.lease() == []
    flow.complete(*flow.take("parents"))
    assert flow.take()[0] == "child"


def test_a_job_may_wait_for_itself_for_ever(flow: Flow) -> None:
    flow.submit("a")
    flow.rows("select pgwf.reschedule_unheld_job('a', 'w', 'cap', array['a'])")
    assert flow.status("a") == "PENDING_JOBS"
    flow.cancel("a")
    assert flow.sweep() == 1
    assert flow.archived() == ["a"]


def test_a_need_cannot_be_taken_away(flow: Flow) -> None:
    flow.submit("a")
    with pytest.raises(errors.NotNullViolation):
        flow.rows("select pgwf.reschedule_unheld_job('a', 'w', null)")


def test_only_the_lease_opens_a_leased_job(flow: Flow) -> None:
    flow.submit("leased")
    flow.take()
    flow.submit("ready")
    stored = "select lease_id, lease_expires_at::text, next_need from pgwf.jobs order by job_id"
    before = flow.rows(stored)
    for call, message in (
        ("extend_lease(%s, %s, 'w', 10)", "active lease not found"),
        ("reschedule_job(%s, %s, 'w', 'next')", "is not currently leased"),
        ("complete_job(%s, %s, 'w')", "is not actively leased"),
    ):
        for job_id, wrong in itertools.product(("leased", "ready", "nobody"), ("bogus", None)):
            with pytest.raises(errors.RaiseException, match=message) as refused:
                flow.rows(f"select pgwf.{call}", job_id, wrong)
            assert refused.value.diag.constraint_name == "ms_lease_mismatch"
    assert flow.rows(stored) == before


def test_a_lapsed_lease_opens_nothing(flow: Flow) -> None:
    flow.submit("a")
    job_id, lease_id = flow.take()
    flow.lapse("a")
    for call in (
        "extend_lease(%s, %s, 'w', 10)",
        "reschedule_job(%s, %s, 'w', 'n')",
        "complete_job(%s, %s, 'w')",
    ):
        with pytest.raises(errors.RaiseException):
            flow.rows(f"select pgwf.{call}", job_id, lease_id)


def test_completion_archives_the_row_with_its_lease(flow: Flow) -> None:
    flow.submit("a", singleton_key="key")
    job_id, lease_id = flow.take()
    flow.complete(job_id, lease_id)
    assert flow.live() == []
    assert flow.row("select job_id, lease_id, singleton_key, expires_at::text from pgwf.jobs_archive") == (
        *("a", lease_id, "key", "infinity"),
    )
    assert flow.events("a")[-1] == "job_finished"


def test_jobs_without_a_lease_are_completed_and_rescheduled_only_when_they_could_run(flow: Flow) -> None:
    flow.submit("ready")
    flow.submit("future", available_at="2100-01-01Z")
    flow.submit("leased", "other")
    flow.submit("blocked", wait_for=["future"])
    flow.take("other")
    for call in ("complete_unheld_job(%s, 'w')", "reschedule_unheld_job(%s, 'w', 'next')"):
        for job_id, code in (
            *(("nobody", "ms_job_missing"), ("future", "ms_job_unavailable")),
            *(("leased", "ms_job_unavailable"), ("blocked", "ms_job_unavailable")),
        ):
            with pytest.raises(errors.RaiseException, match="is not available") as refused:
                flow.rows(f"select pgwf.{call}", job_id)
            assert refused.value.diag.constraint_name == code
    flow.finish("ready")
    assert flow.archived() == ["ready"]


def test_a_job_that_expired_is_left_but_can_be_settled(flow: Flow) -> None:
    flow.submit("a", expires_at="2001-01-01Z")
    assert flow.lease() == []
    assert flow.status("a") == "EXPIRED"
    flow.rows("select pgwf.reschedule_unheld_job('a', 'w', 'next')")
    assert flow.status("a") == "EXPIRED"
    assert flow.lease("next") == []
    # It was set aside; whoever moves the date brings it back.
    flow.rows("update pgwf.jobs set expires_at = 'infinity'")
    assert flow.take("next")[0] == "a"


def test_a_running_lease_outlives_the_job_s_expiry(flow: Flow) -> None:
    flow.submit("a")
    job_id, lease_id = flow.take()
    flow.rows("update pgwf.jobs set expires_at = clock_timestamp() - interval '1 hour'")
    flow.rows("select pgwf.extend_lease(%s, %s, 'w', 120)", job_id, lease_id)
    assert flow.status("a") == "ACTIVE"
    flow.complete(job_id, lease_id)


def test_hundreds_of_dead_jobs_do_not_hide_the_living(flow: Flow) -> None:
    flow.rows(
        "insert into pgwf.jobs (job_id, next_need, expires_at)"
        " select i::text, 'cap', '2001-01-01Z' from generate_series(1, 1200) i"
    )
    flow.submit("alive")
    assert flow.take()[0] == "alive"
    assert flow.value("select count(*) from pgwf.jobs where wake_at = 'infinity'") == 1000
    assert flow.lease() == []
    assert flow.value("select count(*) from pgwf.jobs where wake_at = 'infinity'") == 1200
