"""Workflows: jobs that wait for one another, and how a set of them stands as a whole. Contract: spooled-jobs 7, 10.8."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import BadRequest, FieldProblem, InvalidField
from millstream.domain.job import DependencyMode, Job, JobState, NewJob

JOBS_MAX_DEFAULT: Final = 100
# Of a long circle a message names this many jobs.
_NAMED_JOBS_MAX = 10


class WorkflowStatus(IntEnum):
    """How a workflow stands; the numbers are stored."""

    PENDING = 1
    """None of its jobs was claimed yet."""
    RUNNING = 2
    COMPLETED = 3
    """Every job is completed or cancelled, and none failed."""
    FAILED = 4
    """A job is a dead letter, and nothing can go on before that is retried."""
    CANCELLED = 5


ACTIVE: Final = (WorkflowStatus.PENDING, WorkflowStatus.RUNNING)
"""What counts against a plan."""


class NewStep(Struct, frozen=True, kw_only=True):
    """A job of a workflow to be created: `depends_on` names the keys of what it waits for."""

    key: str
    job: NewJob
    depends_on: tuple[str, ...] = ()
    mode: DependencyMode = DependencyMode.ALL


class NewWorkflow(Struct, frozen=True, kw_only=True):
    """A workflow to be created. `metadata` is a JSON text."""

    name: str
    steps: tuple[NewStep, ...]
    description: str | None = None
    metadata: str | None = None


class CreatedWorkflow(Struct, frozen=True):
    """A workflow that was created, and the ids of its jobs in the order of its definition."""

    id: UUID
    job_ids: list[UUID]


class Workflow(Struct, frozen=True, kw_only=True):
    """A workflow as it stands. `failed_jobs` are dead letters, `metadata` is a JSON text."""

    id: UUID
    name: str
    description: str | None
    metadata: str | None
    status: WorkflowStatus
    total_jobs: int
    completed_jobs: int
    failed_jobs: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class Step(Struct, frozen=True):
    """A job of a workflow under the key that its definition has for it."""

    key: str
    job: Job


class Edge(Struct, frozen=True):
    """That `job_id` waits, or has waited, for `depends_on`."""

    job_id: UUID
    depends_on: UUID


class WorkflowDetail(Struct, frozen=True):
    """A workflow with those of its jobs that still exist, in the order of its definition, and what they wait for."""

    workflow: Workflow
    steps: list[Step]
    edges: list[Edge]


class Neighbour(Struct, frozen=True):
    """A job at the other end of a dependency, as it stands."""

    id: UUID
    queue: str
    state: JobState


class Dependencies(Struct, frozen=True):
    """What a job waits, or has waited, for, and what waits for it."""

    job: Job
    depends_on: list[Neighbour]
    dependents: list[Neighbour]


class DependenciesAdded(Struct, frozen=True):
    """How many dependencies are new, and whether the job may start now for all that it waits for."""

    added: int
    is_met: bool


def check_steps(steps: Sequence[NewStep], *, jobs_max: int) -> None:
    """Check that jobs can be a workflow: their number, keys and dependencies.

    Raises InvalidField for the number and for keys that are used twice, BadRequest for unknown keys and circles, which it names.
    Contract: spooled-jobs 7.1, ruling R21.
    """
    if not 1 <= len(steps) <= jobs_max:
        raise InvalidField([FieldProblem("jobs", f"must have 1 to {jobs_max} items", "INVALID_LENGTH")])
    keys: set[str] = set()
    problems: list[FieldProblem] = []
    for place, step in enumerate(steps):
        if step.key in keys:
            problems.append(FieldProblem(f"jobs[{place}].key", f"{step.key!r} is used twice", "DUPLICATE"))
        keys.add(step.key)
    if problems:
        raise InvalidField(problems[: limits.PROBLEMS_MAX])
    edges = 0
    for step in steps:
        for key in step.depends_on:
            if key not in keys:
                shown = key[: limits.WORKFLOW_KEY_CHARS_MAX]
                raise BadRequest(
                    f"job {step.key!r} depends on {shown!r}, which is not a job of this workflow"
                )
        edges += len(set(step.depends_on))
    if edges > limits.WORKFLOW_EDGES_MAX:
        raise BadRequest(f"a workflow has at most {limits.WORKFLOW_EDGES_MAX} dependencies")
    circle = find_circle({step.key: step.depends_on for step in steps})
    if circle:
        shown = circle[:_NAMED_JOBS_MAX]
        dots = [] if len(shown) == len(circle) else ["…"]
        raise BadRequest(
            "the jobs depend on each other in a circle: " + " -> ".join([*shown, *dots, circle[0]])
        )


def find_circle(depends_on: Mapping[str, Iterable[str]]) -> list[str]:
    """Return keys each of which depends on the next one, and the last one on the first; empty if there are none such."""
    done: set[str] = set()
    for start in depends_on:
        if start in done:
            continue
        # A walk without recursion: chains may be as long as a workflow is large.
        path: list[str] = [start]
        on_path: dict[str, int] = {start: 0}
        ways = [iter(depends_on[start])]
        while ways:
            following = next(ways[-1], None)
            if following is None:
                done.add(path.pop())
                del on_path[next(reversed(on_path))]
                ways.pop()
            elif following in on_path:
                return path[on_path[following] :]
            elif following not in done:
                on_path[following] = len(path)
                path.append(following)
                ways.append(iter(depends_on[following]))
    return []


class Wait(Struct, frozen=True):
    """What a blocked job waits for: all of these, or any one. `states` are theirs by their ids."""

    mode: DependencyMode
    states: Mapping[UUID, JobState]


def blocked_for_good(waits: Mapping[UUID, Wait]) -> set[UUID]:
    """Return those of the blocked jobs `waits` that cannot start unless a dead letter is retried.

    With mode ALL that is one of whose dependencies some is dead, cancelled or blocked for good itself; with mode ANY
    all are. Contract: spooled-jobs 10.8.
    """
    dependents: dict[UUID, list[UUID]] = {}
    # How many dependencies must be hopeless before the job is.
    needed: dict[UUID, int] = {}
    hopeless: list[UUID] = []
    for job_id, wait in waits.items():
        bad = sum(state in (JobState.DEAD, JobState.CANCELLED) for state in wait.states.values())
        needed[job_id] = (1 if wait.mode is DependencyMode.ALL else len(wait.states)) - bad
        for dependency in wait.states:
            dependents.setdefault(dependency, []).append(job_id)
        # What waits for nothing is let go by what it was blocked by.
        if wait.states and needed[job_id] <= 0:
            hopeless.append(job_id)
    found = set(hopeless)
    while hopeless:
        for job_id in dependents.get(hopeless.pop(), ()):
            needed[job_id] -= 1
            if needed[job_id] <= 0 and job_id not in found:
                found.add(job_id)
                hopeless.append(job_id)
    return found


class StepCounts(Struct, frozen=True, kw_only=True):
    """How the jobs of a workflow stand: `able` ones are ready, waiting for a time, or running. `started` once any was claimed."""

    able: int
    blocked: int
    blocked_for_good: int
    dead: int
    started: bool


def next_status(status: WorkflowStatus, counts: StepCounts) -> WorkflowStatus:
    """Return the status that follows `status` when the jobs stand as `counts` says. Contract: spooled-jobs 10.8.

    Completed and cancelled are final. What failed runs again once one of its jobs came back.
    """
    can_go_on = counts.able > 0 or counts.blocked > counts.blocked_for_good
    match status:
        case WorkflowStatus.COMPLETED | WorkflowStatus.CANCELLED:
            return status
        case WorkflowStatus.FAILED:
            return WorkflowStatus.RUNNING if can_go_on else status
        case WorkflowStatus.PENDING | WorkflowStatus.RUNNING:
            if not can_go_on and counts.dead:
                return WorkflowStatus.FAILED
            if not can_go_on and not counts.blocked:
                return WorkflowStatus.COMPLETED
            return WorkflowStatus.RUNNING if counts.started else status
