"""Workflows: what can be one, what is blocked for good, and how they stand."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.errors import BadRequest, InvalidField
from millstream.domain.job import DependencyMode, JobState, NewJob
from millstream.domain.workflow import (
    NewStep,
    StepCounts,
    Wait,
    WorkflowStatus,
    blocked_for_good,
    check_steps,
    find_circle,
    next_status,
)

ALL, ANY = DependencyMode.ALL, DependencyMode.ANY
BAD = (JobState.DEAD, JobState.CANCELLED)


def steps(**depends_on: str) -> list[NewStep]:
    job = NewJob(queue="q", payload="{}")
    return [NewStep(key=key, job=job, depends_on=tuple(others)) for key, others in depends_on.items()]


@pytest.mark.parametrize(
    ("depends_on", "named"),
    [
        ({"a": "a"}, "a -> a"),
        ({"a": "b", "b": "a"}, "a -> b -> a"),
        ({"x": "a", "a": "b", "b": "c", "c": "a"}, "a -> b -> c -> a"),
    ],
)
def test_a_circle_is_refused_by_its_jobs(depends_on: dict[str, str], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        check_steps(steps(**depends_on), jobs_max=10)


def test_a_long_circle_is_found_without_recursion_and_named_in_part() -> None:
    size = 10_000
    circle = {f"k{place}": [f"k{(place + 1) % size}"] for place in range(size)}
    assert len(find_circle(circle)) == size
    job = NewJob(queue="q", payload="{}")
    with pytest.raises(BadRequest) as caught:
        check_steps(
            [NewStep(key=key, job=job, depends_on=tuple(others)) for key, others in circle.items()],
            jobs_max=size,
        )
    assert caught.value.message.endswith("k9 -> … -> k0")


def test_what_can_be_no_workflow_is_refused() -> None:
    with pytest.raises(BadRequest, match="'a' depends on 'b'"):
        check_steps(steps(a="b"), jobs_max=10)
    with pytest.raises(InvalidField, match="1 to 10"):
        check_steps([], jobs_max=10)
    with pytest.raises(InvalidField, match="1 to 1 "):
        check_steps(steps(a="", b=""), jobs_max=1)
    with pytest.raises(InvalidField, match="used twice") as caught:
        check_steps([*steps(a="", b=""), *steps(a="")], jobs_max=10)
    assert caught.value.problems[0].field == "jobs[2].key"
    lost = NewStep(key="a", job=NewJob(queue="q", payload="{}"), depends_on=("b" * 100_000,))
    with pytest.raises(BadRequest, match="'a' depends on 'bbb") as caught_long:
        check_steps([lost], jobs_max=10)
    assert len(caught_long.value.message) < 200
    # Forward references, repeated keys and diamonds are fine.
    check_steps(steps(d="bccb", a="", b="a", c="a"), jobs_max=4)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.frozensets(st.sampled_from("abcdefgh"), max_size=3)))
def test_circles_are_found_exactly_where_there_are_some(graph: dict[str, frozenset[str]]) -> None:
    depends_on: dict[str, list[str]] = {
        key: sorted(other for other in others if other in graph) for key, others in graph.items()
    }

    def leads_to(start: str, end: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(
            other == end or (other not in seen and leads_to(other, end, seen | {other}))
            for other in depends_on[start]
        )

    circle = find_circle(depends_on)
    assert bool(circle) == any(leads_to(key, key) for key in depends_on)
    for key, following in zip(circle, [*circle[1:], *circle[:1]], strict=True):
        assert following in depends_on[key]


@st.composite
def waits(draw: st.DrawFn) -> dict[UUID, Wait]:
    ids = [UUID(int=number) for number in range(8)]
    states = draw(
        st.lists(st.sampled_from([*JobState, *[JobState.BLOCKED] * 8]), min_size=len(ids), max_size=len(ids))
    )
    found: dict[UUID, Wait] = {}
    for place, job_id in enumerate(ids):
        others = draw(st.lists(st.sampled_from(ids[:place]), unique=True, max_size=3)) if place else []
        if states[place] is JobState.BLOCKED:
            of = {other: states[ids.index(other)] for other in others}
            found[job_id] = Wait(draw(st.sampled_from([ALL, ANY])), of)
    return found


@given(waits())
def test_blocked_for_good_is_what_the_definition_says(given_waits: Mapping[UUID, Wait]) -> None:
    def is_bad(job_id: UUID, state: JobState) -> bool:
        return state in BAD or (state is JobState.BLOCKED and job_id in given_waits and for_good(job_id))

    def for_good(job_id: UUID) -> bool:
        wait = given_waits[job_id]
        bad = [is_bad(other, state) for other, state in wait.states.items()]
        return bool(bad) and (any(bad) if wait.mode is ALL else all(bad))

    assert blocked_for_good(given_waits) == {job_id for job_id in given_waits if for_good(job_id)}


P, R, C, F, X = WorkflowStatus


@pytest.mark.parametrize(
    ("before", "able", "blocked", "for_good", "dead", "started", "after"),
    [
        (P, 1, 0, 0, 0, False, P),
        (P, 1, 2, 0, 0, True, R),
        (R, 0, 1, 0, 0, True, R),
        (R, 0, 0, 0, 0, True, C),
        # Every job was cancelled by itself.
        (P, 0, 0, 0, 0, False, C),
        # Other branches finish first.
        (R, 1, 1, 1, 1, True, R),
        (R, 0, 2, 1, 1, True, R),
        (R, 0, 1, 1, 1, True, F),
        (R, 0, 0, 0, 1, True, F),
        # Blocked for good by a job that is not its own.
        (R, 0, 1, 1, 0, True, R),
        # A step came back; the dead letter was deleted.
        (F, 1, 1, 0, 0, True, R),
        (F, 0, 1, 1, 1, True, F),
        (F, 0, 0, 0, 0, True, F),
        (C, 0, 0, 0, 0, True, C),
        (X, 1, 0, 0, 1, True, X),
        (X, 0, 0, 0, 0, True, X),
    ],
)
def test_a_workflow_stands_as_its_jobs_let_it(
    before: WorkflowStatus,
    able: int,
    blocked: int,
    for_good: int,
    dead: int,
    started: bool,
    after: WorkflowStatus,
) -> None:
    counts = StepCounts(able=able, blocked=blocked, blocked_for_good=for_good, dead=dead, started=started)
    assert next_status(before, counts) is after
