"""`millstream workflow`."""

import asyncio
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from millstream.cli.failure import CommandFailed
from millstream.cli.output import Json, console, print_json, print_table
from millstream.cli.target import Target, ask
from millstream.client import AsyncClient
from millstream.client.types import (
    JobStatus,
    NewStep,
    Workflow,
    WorkflowStatus,
    WorkflowStep,
    WorkflowSummary,
)

commands = App(name="workflow", help="Create, list, show, cancel and retry workflows.")

StatusName = Literal["pending", "running", "completed", "failed", "cancelled"]
_STYLES = {
    JobStatus.COMPLETED: "green",
    JobStatus.PROCESSING: "bold yellow",
    JobStatus.DEAD_LETTER: "bold red",
    JobStatus.FAILED: "bold red",
    JobStatus.CANCELLED: "dim",
}
_ENDED = (WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)
_LOOK_SECONDS = 0.5


class _Definition(msgspec.Struct, kw_only=True):
    # What a file says, in the words of the API.
    name: str
    jobs: list[NewStep]
    description: str | None = None
    metadata: object = None


@commands.command
def create(file: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Create a workflow from a JSON FILE (name and jobs, as POST /workflows takes them), or - for standard input."""
    wanted = _definition(file)
    created = ask(
        server,
        lambda client: client.workflows.create(
            wanted.name, wanted.jobs, description=wanted.description, metadata=wanted.metadata
        ),
    )
    if json:
        print_json(created)
        return
    console.print(created.id)
    print_table(["key", "job"], [(step.key, step.job_id) for step in created.jobs], empty="No jobs.")


@commands.command(name="list")
def list_workflows(
    *,
    status: Annotated[StatusName | None, Parameter(help="Only in this state.")] = None,
    limit: Annotated[int, Parameter(help="Rows, up to 100.")] = 50,
    offset: Annotated[int, Parameter(help="Rows to leave out first.")] = 0,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """List workflows, newest first."""
    rows = ask(
        server,
        lambda client: client.workflows.list(
            status=None if status is None else WorkflowStatus(status), limit=limit, offset=offset
        ),
    )
    if json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "status", "jobs", "failed", "created"],
        [
            (
                row.id,
                row.name,
                row.status.value,
                f"{row.completed_jobs}/{row.total_jobs}",
                row.failed_jobs,
                row.created_at,
            )
            for row in rows
        ],
        empty="No workflows.",
    )


@commands.command
def show(
    workflow_id: str,
    /,
    *,
    follow: Annotated[
        bool, Parameter(name="--follow", negative=(), help="Go on showing it until it has ended.")
    ] = False,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Show a workflow and its jobs as a tree: below each job what waits for it."""
    if json or not follow:
        workflow = ask(server, lambda client: client.workflows.get(workflow_id))
        if json:
            print_json(workflow)
        else:
            console.print(tree_of(workflow))
        return
    ask(server, lambda client: _follow(client, workflow_id))


@commands.command
def cancel(workflow_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Cancel a workflow and those of its jobs that nobody works on."""
    _tell(ask(server, lambda client: client.workflows.cancel(workflow_id)), json=json)


@commands.command
def retry(workflow_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Retry the failed jobs of a failed workflow."""
    _tell(ask(server, lambda client: client.workflows.retry(workflow_id)), json=json)


def tree_of(workflow: Workflow) -> Tree:
    """Return a workflow as a tree. A job that waits for several stands below the last of them; the others are named with it."""
    keys = {step.id: step.key for step in workflow.jobs}
    tree = Tree(
        Text.assemble(
            (workflow.name, "bold"),
            f"  {workflow.status.value}  {workflow.completed_jobs}/{workflow.total_jobs} completed",
            f", {workflow.failed_jobs} failed" if workflow.failed_jobs else "",
        )
    )
    branches: dict[str, Tree] = {}
    for step in _parents_first(workflow.jobs):
        known = [other for other in step.depends_on if other in keys]
        others = [keys[other] for other in known[:-1]]
        above = branches[known[-1]] if known else tree
        branches[step.id] = above.add(_line(step, others))
    return tree


def _parents_first(steps: Iterable[WorkflowStep]) -> list[WorkflowStep]:
    """Return `steps` so that what is waited for comes before what waits."""
    by_id = {step.id: step for step in steps}
    waits = {step.id: [other for other in step.depends_on if other in by_id] for step in by_id.values()}
    return [by_id[step_id] for step_id in TopologicalSorter(waits).static_order()]


def _line(step: WorkflowStep, others: list[str]) -> Text:
    line = Text.assemble(
        (step.key, "bold"), "  ", (step.status.value, _STYLES.get(step.status, "")), f"  {step.queue}"
    )
    if others:
        line.append(f"  ({'or' if step.mode == 'any' else 'and'} after {', '.join(others)})", "dim")
    if step.retry_count:
        line.append(f"  retries {step.retry_count}/{step.max_retries}")
    if step.error is not None and step.status is not JobStatus.COMPLETED:
        line.append(f"  {step.error.message.splitlines()[0] if step.error.message else ''}", "red")
    return line


async def _follow(client: AsyncClient, workflow_id: str) -> None:

    workflow = await client.workflows.get(workflow_id)
    with Live(tree_of(workflow), console=console, auto_refresh=False) as live:
        while workflow.status not in _ENDED:
            await asyncio.sleep(_LOOK_SECONDS)
            workflow = await client.workflows.get(workflow_id)
            live.update(tree_of(workflow), refresh=True)


def _tell(workflow: WorkflowSummary, *, json: bool) -> None:
    if json:
        print_json(workflow)
    else:
        console.print(f"{workflow.id} is {workflow.status.value}")


def _definition(file: str) -> _Definition:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise CommandFailed(f"{file} cannot be read: {error}") from error
    try:
        return msgspec.json.decode(text, type=_Definition)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CommandFailed(
            f"{file} is no workflow: {error}",
            'It needs a name and jobs: {"name": "n", "jobs": [{"key": "a", "queue_name": "q", "payload": {}}]}',
        ) from error
