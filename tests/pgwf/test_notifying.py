from psycopg import Notify

from tests.pgwf.flow import Flow, Session

WAKES_WITHIN_SECONDS = 10


def _next(listener: Session) -> Notify | None:
    return next(listener.connection.notifies(timeout=WAKES_WITHIN_SECONDS, stop_after=1), None)


def _drain(flow: Flow, listener: Session) -> list[Notify]:
    """Return what has been sent so far: a notification of ours comes after all of them."""
    flow.rows("select pg_notify('pgwf.end', '')")
    found = []
    for notification in listener.connection.notifies(timeout=WAKES_WITHIN_SECONDS):
        if notification.channel.endswith(".end"):
            return found
        found.append(notification)
    raise AssertionError("the notification at the end did not come")


def _listen(flow: Flow, *needs: str) -> Session:
    listener = flow.other()
    for need in (f"{flow.schema}.need.{need}" for need in needs):
        listener.rows(f'listen "{need}"')
    listener.rows('listen "pgwf.end"')
    return listener


def test_submissions_are_announced_while_notifying_is_on(flow: Flow) -> None:
    listener = _listen(flow, "cap.Alpha")
    flow.submit("before", "cap.Alpha")
    assert flow.value("select pgwf.set_notify(true)") is True
    assert flow.value("select pgwf.is_notify_enabled()") is True
    flow.submit("a", "cap.Alpha")
    told = _next(listener)
    assert told is not None
    assert (told.channel, told.payload) == (f"{flow.schema}.need.cap.Alpha", "a")
    flow.rows("select pgwf.set_notify(false)")
    flow.submit("b", "cap.Alpha")
    assert _drain(flow, listener) == []


def test_what_is_submitted_or_rescheduled_is_announced_unless_it_expired(flow: Flow) -> None:
    listener = _listen(flow, "cap")
    flow.rows("select pgwf.set_notify(true)")
    flow.submit("future", available_at="2100-01-01Z")
    flow.submit("blocked", wait_for=["future"])
    flow.submit("expired", expires_at="2001-01-01Z")
    flow.submit("moved", "other")
    flow.rows("select pgwf.reschedule_unheld_job('moved', 'w', 'cap', array['future'])")
    flow.rows("select pgwf.reschedule_unheld_job('expired', 'w', 'cap')")
    assert [told.payload for told in _drain(flow, listener)] == ["future", "blocked", "moved"]


def test_dependents_are_announced_when_they_can_run(flow: Flow) -> None:
    for job_id in ("a", "b"):
        flow.submit(job_id, "parents")
    flow.submit("both", wait_for=["a", "b"])
    flow.submit("cancelled", wait_for=["a"])
    flow.cancel("cancelled")
    flow.submit("expired", wait_for=["a"], expires_at="2001-01-01Z")
    flow.submit("future", wait_for=["a"], available_at="2100-01-01Z")
    listener = _listen(flow, "cap")
    flow.rows("select pgwf.set_notify(true)")
    flow.finish("a")
    assert _drain(flow, listener) == []
    flow.cancel("b")
    assert flow.sweep() == 2
    assert [told.payload for told in _drain(flow, listener)] == ["both"]
    assert flow.live() == ["both", "expired", "future"]


def test_a_worker_that_finds_nothing_listens(flow: Flow) -> None:
    channels = "select pg_listening_channels() order by 1"
    assert flow.lease("a", "b") == []
    assert flow.values(channels) == []
    flow.rows("select pgwf.set_notify(true)")
    assert flow.rows("select * from pgwf.get_work('w', array['b', null, 'a'])") == []
    assert flow.values(channels) == [f"{flow.schema}.need.a", f"{flow.schema}.need.b"]
    flow.other().submit("job", "a")
    told = _next(flow)
    assert told is not None
    assert told.payload == "job"


def test_names_that_are_too_long_for_a_channel_are_announced_all_the_same(flow: Flow) -> None:
    flow.rows("select pgwf.set_notify(true)")
    for length in (54, 200):
        need = "\N{GREEK SMALL LETTER OMEGA}" * length
        assert flow.lease(need) == []
        flow.other().submit(f"job-{length}", need)
        told = _next(flow)
        assert told is not None
        assert told.payload == f"job-{length}"
        assert told.channel == flow.value("select pgwf.need_channel(%s)", need)
        assert len(told.channel.encode()) <= 63
    assert flow.value("select pgwf.need_channel('short')") == f"{flow.schema}.need.short"


def test_an_id_that_is_too_long_for_a_notification_does_not_fail_its_job(flow: Flow) -> None:
    flow.rows("select pgwf.set_notify(true)")
    assert flow.lease() == []
    # Shorter than it looks to the index of ids: it compresses.
    job_id = "\N{GREEK SMALL LETTER OMEGA}" * 5000
    flow.other().submit(job_id)
    told = _next(flow)
    assert told is not None
    assert job_id.startswith(told.payload)
