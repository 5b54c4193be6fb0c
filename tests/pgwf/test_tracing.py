from tests.pgwf.flow import Flow, Session

# The keys of the input and of the output of each event.
EVENTS = {
    "job_submitted": (
        "job_id worker_id next_need wait_for singleton_key available_at expires_at",
        "job_id next_need wait_for available_at expires_at",
    ),
    "lease_expiration_counter_incremented": (
        (
            "worker_id worker_caps previous_lease_id previous_lease_expires_at lease_expiration_count"
            " consecutive_expirations"
        ),
        None,
    ),
    "job_retrieved": ("worker_id worker_caps lease_seconds limit_jobs", "lease_id lease_expires_at"),
    "lease_extended": ("job_id lease_id additional_seconds", "previous_expires_at new_expires_at"),
    "reschedule_job held": (
        (
            "job_id worker_id previous_next_need previous_wait_for previous_available_at previous_expires_at"
            " next_need wait_for available_at expires_at lease_id"
        ),
        "job_id next_need wait_for available_at expires_at",
    ),
    "reschedule_job": (
        (
            "job_id worker_id previous_next_need previous_wait_for previous_available_at previous_expires_at"
            " next_need wait_for available_at expires_at rescheduled_without_lease"
        ),
        "job_id next_need wait_for available_at expires_at",
    ),
    "crash_concern_cleared": (
        "job_id worker_id previous_consecutive_expirations reason",
        "consecutive_expirations",
    ),
    "job_finished held": ("job_id worker_id lease_id", "archived_row"),
    "job_finished": ("job_id worker_id completed_without_lease", "archived_row"),
    "job_cancel_requested": ("job_id worker_id reason was_active", None),
    "job_cancel_archived": ("job_id worker_id cancel_requested_at", "archived_row"),
    "job_cancel_archived_run": ("worker_id limit archived_jobs", None),
}


def _live_through_everything(flow: Session) -> None:
    for job_id in "abc":
        flow.submit(job_id, job_id, payload='{"secret": 1}')
    flow.take("a")
    flow.lapse("a")
    job_id, lease_id = flow.take("a")
    flow.rows("select pgwf.extend_lease(%s, %s, 'w', 60)", job_id, lease_id)
    flow.rows(
        "select pgwf.reschedule_job(%s, %s, 'w', 'a', null, now(), '{\"secret\": 2}')", job_id, lease_id
    )
    flow.rows("select pgwf.reschedule_unheld_job('a', 'w', 'a')")
    flow.rows("select pgwf.clear_crash_concern('a', 'w')")
    flow.complete(*flow.take("a"))
    flow.finish("b")
    flow.cancel("c")
    flow.sweep()


def test_every_event_has_its_keys_and_never_a_payload(flow: Flow) -> None:
    _live_through_everything(flow)
    seen: dict[str, tuple[str, str | None]] = {}
    for event, given, output in flow.rows(
        "select event_type, input_data, output_data from pgwf.jobs_trace order by trace_id"
    ):
        held = event in {"reschedule_job", "job_finished"} and "lease_id" in given
        seen[f"{event} held" if held else event] = (
            " ".join(sorted(given)),
            None if output is None else " ".join(sorted(output)),
        )
    assert seen == {
        event: (_sorted(given), None if output is None else _sorted(output))
        for event, (given, output) in EVENTS.items()
    }
    assert (
        flow.value(
            "select count(*) from pgwf.jobs_trace where (input_data::text || coalesce(output_data::text, '')) ~ 'payload|secret'"
        )
        == 0
    )


def _sorted(names: str) -> str:
    return " ".join(sorted(names.split()))


def test_events_tell_who_and_when(flow: Flow) -> None:
    flow.submit("a", expires_at="infinity")
    _, lease_id = flow.take()
    submitted, retrieved = flow.rows(
        "select worker_id, input_data, output_data from pgwf.jobs_trace order by trace_id"
    )
    assert submitted[0] == "submitter"
    assert submitted[1]["expires_at"] == "infinity"
    assert retrieved[0] == "worker"
    assert retrieved[1] == {
        "worker_id": "worker",
        "worker_caps": ["cap"],
        "lease_seconds": 30,
        "limit_jobs": 1,
    }
    assert retrieved[2]["lease_id"] == lease_id


def test_nothing_is_traced_while_tracing_is_off(flow: Flow) -> None:
    assert flow.value("select pgwf.is_trace_enabled()") is True
    assert flow.value("select pgwf.set_trace(false)") is False
    other = flow.other()
    assert other.value("select pgwf.is_trace_enabled()") is False
    _live_through_everything(other)
    assert flow.value("select count(*) from pgwf.jobs_trace") == 0
    assert flow.value("select pgwf.set_trace(true)") is True
    flow.submit("d")
    flow.take()
    assert other.value("select count(*) from pgwf.jobs_trace") == 2


def test_tables_can_be_emptied_without_touching_the_switches(flow: Flow) -> None:
    flow.rows("select pgwf.set_trace(false), pgwf.set_notify(true), pgwf.set_crash_concern_threshold(3)")
    flow.submit("a")
    flow.finish("a")
    flow.rows("truncate pgwf.jobs, pgwf.jobs_archive, pgwf.jobs_trace restart identity")
    assert (flow.live(), flow.archived()) == ([], [])
    assert flow.row(
        "select pgwf.is_trace_enabled(), pgwf.is_notify_enabled(), pgwf.crash_concern_threshold()"
    ) == (False, True, 3)


def test_switches_can_be_set_by_many_at_once(flow: Flow) -> None:
    sessions = [flow.other() for _ in range(4)]
    both = "select pgwf.set_trace(i % 2 = 0), pgwf.set_notify(false) from generate_series(1, 50) as i"
    running = [flow.start(session.rows, both) for session in sessions]
    for each in running:
        each.result()
