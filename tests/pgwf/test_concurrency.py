"""Sessions that meet: what they do to each other is forced by open transactions, and seen in the server's own views."""

import random
from concurrent.futures import Future
from typing import Any

import pytest
from psycopg import errors

from tests.pgwf.flow import Flow, Session, eventually


def test_an_open_transaction_with_a_lease_holds_that_job_alone(flow: Flow) -> None:
    other = flow.other()
    other.rows("set lock_timeout = '5s'")
    for job_id in "abc":
        flow.submit(job_id)
    with flow.connection.transaction():
        assert flow.take()[0] == "a"
        assert other.take()[0] == "b"
        other.cancel("c")
        assert other.lease() == []
    assert other.status("a") == "ACTIVE"


def test_jobs_that_woke_up_are_not_held_by_who_leases_one_of_them(flow: Flow) -> None:
    other = flow.other()
    other.rows("set lock_timeout = '5s'")
    for job_id in "abc":
        flow.submit(job_id)
    flow.rows("update pgwf.jobs set wake_at = clock_timestamp() - interval '1 s'")
    with flow.connection.transaction():
        assert flow.take()[0] == "a"
        assert other.take()[0] == "b"
        other.cancel("c")


def test_many_open_leases_never_hide_the_next_job(flow: Flow) -> None:
    sessions = [flow.other() for _ in range(5)]
    for number in range(60):
        flow.submit(f"{number:02}")
    for session in sessions:
        session.rows("begin")
    taken = [job_id for _ in range(2) for session in sessions for job_id, _ in session.lease(limit=5)]
    assert taken == [f"{number:02}" for number in range(50)]
    # More are held than a first look finds.
    assert [job_id for job_id, _ in flow.lease(limit=1)] == ["50"]
    for session in sessions:
        session.rows("rollback")
    assert len(flow.lease(limit=100)) == 59


def test_one_key_is_active_once_across_capabilities(flow: Flow) -> None:
    other = flow.other()
    other.rows("set lock_timeout = '5s'")
    flow.submit("a", "first", singleton_key="key")
    flow.submit("b", "second", singleton_key="key")
    flow.submit("c", "second")
    with flow.connection.transaction():
        assert flow.take("first")[0] == "a"
        assert [job_id for job_id, _ in other.lease("second", limit=10)] == ["c"]
        # It was let go again.
        other.rows("select pgwf.reschedule_unheld_job('b', 'w', 'third')")
    assert other.lease("third") == []
    flow.lapse("a")
    assert other.take("third")[0] == "b"


def test_a_lease_that_is_being_extended_keeps_its_key(flow: Flow) -> None:
    worker, other = flow.other(), flow.other()
    other.rows("set lock_timeout = '5s'")
    flow.submit("a", "first", singleton_key="key")
    flow.submit("b", "second", singleton_key="key")
    ((_, lease_id),) = worker.lease("first", seconds=1)
    with worker.connection.transaction():
        worker.rows("select pgwf.extend_lease('a', %s, 'w', 60)", lease_id)
        # The old expiry is all that others can see, and it passes.
        eventually(lambda: flow.status("a") == "READY")
        assert other.lease("second") == []
    assert flow.status("a") == "ACTIVE"
    assert other.lease("second") == []


def test_a_lapsed_lease_cannot_be_extended_once_its_key_is_taken(flow: Flow) -> None:
    worker, other = flow.other(), flow.other()
    flow.submit("a", "first", singleton_key="key")
    flow.submit("b", "second", singleton_key="key")
    _, lease_id = worker.take("first")
    flow.lapse("a")
    with other.connection.transaction():
        assert other.take("second")[0] == "b"
        extended = flow.start(worker.rows, "select pgwf.extend_lease('a', %s, 'w', 60)", lease_id)
        flow.wait_until_blocked(worker)
    with pytest.raises(errors.RaiseException, match="active lease not found"):
        extended.result()


def test_workers_on_many_keys_and_capabilities_never_share_a_key(flow: Flow) -> None:
    keys = [f"key-{number}" for number in range(3)]
    for number in range(60):
        flow.submit(f"{number:02}", f"need-{number % 2}", singleton_key=keys[number % 3])
    running = [flow.start(_work_off, flow.other(), f"worker-{number}") for number in range(4)]
    doubled = (
        "select singleton_key from pgwf.jobs where lease_expires_at > clock_timestamp()"
        " group by singleton_key having count(*) > 1"
    )
    while not all(each.done() for each in running):
        assert flow.values(doubled) == []
    for each in running:
        each.result()
    assert len(flow.archived()) == 60


def _work_off(session: Session, worker: str) -> None:
    while session.live():
        for job_id, lease_id in session.lease("need-0", "need-1", worker=worker, limit=3):
            session.complete(job_id, lease_id)


@pytest.mark.parametrize("held", [False, True])
def test_a_job_that_begins_to_wait_is_seen_by_the_completion_it_waits_for(flow: Flow, held: bool) -> None:
    completer = flow.other()
    flow.submit("parent")
    with flow.connection.transaction():
        _begin_to_wait(flow, held)
        completed = flow.start(completer.finish, "parent")
        flow.wait_until_blocked(completer)
    completed.result()
    assert flow.wait_for("child") == []


@pytest.mark.parametrize("held", [False, True])
def test_a_completion_is_seen_by_the_job_that_begins_to_wait(flow: Flow, held: bool) -> None:
    submitter = flow.other()
    flow.submit("parent")
    with flow.connection.transaction():
        flow.finish("parent")
        waiting = flow.start(_begin_to_wait, submitter, held)
        flow.wait_until_blocked(submitter)
    waiting.result()
    assert flow.wait_for("child") == []


def _begin_to_wait(session: Session, held: bool) -> None:
    if not held:
        session.submit("child", wait_for=["parent"])
        return
    session.submit("child", "children")
    lease = session.take("children")
    session.rows("select pgwf.reschedule_job(%s, %s, 'w', 'cap', array['parent'])", *lease)


def test_a_completion_that_is_taken_back_leaves_its_dependents_waiting(flow: Flow) -> None:
    submitter = flow.other()
    flow.submit("parent")
    with flow.connection.transaction(force_rollback=True):
        flow.finish("parent")
        waiting = flow.start(submitter.submit, "child", wait_for=["parent"])
        flow.wait_until_blocked(submitter)
    waiting.result()
    assert flow.wait_for("child") == ["parent"]


def test_an_id_cannot_slip_past_the_completion_of_its_job(flow: Flow) -> None:
    submitter = flow.other()
    flow.submit("a")
    with flow.connection.transaction():
        flow.finish("a")
        submitted = flow.start(submitter.submit, "a")
        flow.wait_until_blocked(submitter)
    with pytest.raises(errors.RaiseException, match="already completed"):
        submitted.result()
    assert (flow.live(), flow.archived()) == ([], ["a"])


def test_cancelling_waits_for_a_completion_and_tells_how_it_ended(flow: Flow) -> None:
    canceller = flow.other()
    flow.submit("a")
    with flow.connection.transaction():
        flow.finish("a")
        cancelled = flow.start(canceller.cancel, "a")
        flow.wait_until_blocked(canceller)
    with pytest.raises(errors.RaiseException, match="already completed"):
        cancelled.result()


def test_two_completions_share_a_dependent(flow: Flow) -> None:
    second = flow.other()
    flow.submit("a")
    flow.submit("b")
    flow.submit("child", "children", wait_for=["a", "b"])
    flow.rows("select pgwf.set_notify(true)")
    listener = flow.other()
    listener.rows(f'listen "{flow.schema}.need.children"')
    with flow.connection.transaction():
        flow.finish("a")
        completed = flow.start(second.finish, "b")
        flow.wait_until_blocked(second)
    completed.result()
    assert flow.wait_for("child") == []
    flow.rows(f"select pg_notify('{flow.schema}.need.children', 'end')")
    told = [each.payload for each in listener.connection.notifies(timeout=10, stop_after=2)]
    assert told == ["child", "end"]


def test_the_sweep_waits_for_nobody(flow: Flow) -> None:
    sweeper = flow.other()
    sweeper.rows("set lock_timeout = '5s'")
    for job_id in ("a", "b", "c", "parent"):
        flow.submit(job_id)
    flow.submit("child-of-b", wait_for=["b", "parent"])
    flow.submit("child-of-c", wait_for=["c"])
    for job_id in ("a", "b", "c"):
        flow.cancel(job_id)
    with flow.connection.transaction():
        # Holds a dependent of b, and a itself.
        flow.finish("parent")
        flow.rows("select pgwf.cancel_job('a', 'again')")
        flow.rows("select 1 from pgwf.jobs where job_id = 'a' for update")
        assert sweeper.sweep() == 1
        assert sweeper.archived() == ["c"]
    assert sweeper.sweep() == 2
    assert flow.wait_for("child-of-b") == []


def test_completions_and_sweeps_lose_no_release(flow: Flow) -> None:
    dice = random.Random(20)
    parents = [f"parent-{number:02}" for number in range(40)]
    for parent in parents:
        flow.submit(parent, "parents")
    for number in range(40):
        flow.submit(f"child-{number:02}", "children", wait_for=dice.sample(parents, 5))
    for parent in parents[::3]:
        flow.cancel(parent)
    running: list[Future[Any]] = [flow.start(_work_off_parents, flow.other()) for _ in range(3)]
    running.append(flow.start(_sweep_until_gone, flow.other()))
    for each in running:
        each.result()
    assert flow.value("select count(*) from pgwf.jobs where wait_for <> '{}'") == 0
    assert len(flow.lease("children", limit=100)) == 40


def _work_off_parents(session: Session) -> None:
    remaining = "select count(*) from pgwf.jobs where next_need = 'parents' and not cancel_requested"
    while session.value(remaining):
        for job_id, lease_id in session.lease("parents", limit=2):
            session.complete(job_id, lease_id)


def _sweep_until_gone(session: Session) -> None:
    while session.value("select count(*) from pgwf.jobs where cancel_requested"):
        session.sweep(3)


def test_every_ready_job_is_found_by_one_of_many_workers(flow: Flow) -> None:
    for number in range(200):
        flow.submit(f"{number:03}")
    sessions = [flow.other() for _ in range(6)]
    running = [flow.start(_lease_until_empty, session) for session in sessions]
    taken = [job_id for each in running for job_id in each.result()]
    assert sorted(taken) == [f"{number:03}" for number in range(200)]


def _lease_until_empty(session: Session) -> list[str]:
    session.rows("set lock_timeout = '5s'")
    taken: list[str] = []
    while leased := session.lease(limit=3):
        taken += [job_id for job_id, _ in leased]
    return taken
