"""The order of the checks of a settlement. Contract: spooled-jobs 3.15."""

from uuid import UUID

import pytest

from millstream.domain.errors import Conflict, LeaseExpired, MillstreamError, NotFound
from millstream.domain.job import Holder, JobState, Lease, refusal

MINE = UUID("0190a5d2-e4b0-4c1a-8f3e-5d6c7b8a9f00")
OTHER = UUID("0190a5d2-e4b0-4c1a-8f3e-5d6c7b8a9f01")
FINISHED = [JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD]
WAITING = [JobState.READY, JobState.SCHEDULED, JobState.RETRYING, JobState.BLOCKED]


def lease(
    lease_id: UUID | None, *, worker: str = "w", check_end: bool = False, mismatch: bool = False
) -> Lease:
    return Lease(job_id=MINE, worker_id=worker, lease_id=lease_id, check_end=check_end, mismatch=mismatch)


def holder(state: JobState, *, lease_ended: bool = False, worker: str = "w") -> Holder:
    running = state is JobState.RUNNING
    return Holder(
        state=state,
        worker_id=worker if running else None,
        lease_id=MINE if running else None,
        lease_ended=lease_ended,
    )


PRESENTED = {
    "the lease": lease(MINE),
    "another lease": lease(OTHER),
    "text that is no lease": lease(None, mismatch=True),
    "no lease": lease(None),
    "no lease and the end": lease(None, check_end=True),
    "another worker": lease(None, worker="x"),
}


@pytest.mark.parametrize("presented", PRESENTED)
def test_a_job_that_is_unknown_is_not_found_whatever_is_presented(presented: str) -> None:
    assert isinstance(refusal(PRESENTED[presented], None), NotFound)


@pytest.mark.parametrize("presented", PRESENTED)
@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_job_was_not_stolen(state: JobState, presented: str) -> None:
    reason = refusal(PRESENTED[presented], holder(state))
    assert type(reason) is Conflict


def test_the_words_about_a_finished_job_name_its_status() -> None:
    words = {state: str(refusal(lease(MINE), holder(state))) for state in FINISHED}
    # Clients count a replayed completion as done by exactly these two words.
    assert "already completed" in words[JobState.COMPLETED]
    assert "cancelled" in words[JobState.CANCELLED]
    assert "deadletter" in words[JobState.DEAD]


@pytest.mark.parametrize(
    ("presented", "expected"),
    [
        ("the lease", LeaseExpired),
        ("another lease", LeaseExpired),
        ("text that is no lease", LeaseExpired),
        ("no lease", Conflict),
        ("no lease and the end", Conflict),
        ("another worker", Conflict),
    ],
)
@pytest.mark.parametrize("state", WAITING)
def test_a_job_that_nobody_works_on_is_refused(
    state: JobState, presented: str, expected: type[MillstreamError]
) -> None:
    assert type(refusal(PRESENTED[presented], holder(state))) is expected


@pytest.mark.parametrize(
    ("presented", "lease_ended", "expected"),
    [
        (lease(MINE), False, None),
        (lease(MINE), True, LeaseExpired),
        (lease(OTHER), False, LeaseExpired),
        (lease(None, mismatch=True), False, LeaseExpired),
        (lease(MINE, worker="x"), False, Conflict),
        (lease(OTHER, worker="x"), False, LeaseExpired),
        (lease(MINE, worker="x"), True, LeaseExpired),
        (lease(None), False, None),
        (lease(None), True, None),
        (lease(None, worker="x"), False, Conflict),
        (lease(None, check_end=True), False, None),
        (lease(None, check_end=True), True, LeaseExpired),
        (lease(None, worker="x", check_end=True), True, Conflict),
    ],
)
def test_a_running_job_is_fenced_by_lease_then_worker(
    presented: Lease, lease_ended: bool, expected: type[MillstreamError] | None
) -> None:
    reason = refusal(presented, holder(JobState.RUNNING, lease_ended=lease_ended))
    assert (None if reason is None else type(reason)) is expected
