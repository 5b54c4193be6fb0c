"""`millstream schedule`."""

from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from millstream.cli.json_argument import json_argument
from millstream.cli.output import Json, console, print_fields, print_json, print_table, shown
from millstream.cli.target import Target, ask
from millstream.client.types import Schedule

commands = App(name="schedule", help="Create, list, pause, resume, trigger and delete schedules.")


@commands.command
def create(
    name: str,
    cron: str,
    queue: str,
    payload: str,
    /,
    *,
    timezone: Annotated[str | None, Parameter(help="Whose clock counts, as Europe/Berlin; UTC.")] = None,
    description: Annotated[str | None, Parameter(help="Up to 1000 characters.")] = None,
    priority: Annotated[int | None, Parameter(help="-100 to 100, higher first.")] = None,
    max_retries: Annotated[int | None, Parameter(help="0 to 100; 3.")] = None,
    timeout_seconds: Annotated[int | None, Parameter(help="1 to 86400; 300.")] = None,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Have a job created at every time that CRON matches.

    CRON has five fields, or six with the seconds first. PAYLOAD is JSON, or - for standard input.
    """
    value = json_argument(payload)
    schedule = ask(
        server,
        lambda client: client.schedules.create(
            name,
            cron,
            queue,
            value,
            timezone=timezone,
            description=description,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
        ),
    )
    if json:
        print_json(schedule)
    else:
        console.print(f"{schedule.id} runs next at {shown(schedule.next_run_at)}")


@commands.command(name="list")
def list_schedules(
    *,
    queue: Annotated[str | None, Parameter(help="Only this queue.")] = None,
    active: Annotated[
        bool | None, Parameter(negative="--paused", help="Only those that run, or only paused ones.")
    ] = None,
    limit: Annotated[int, Parameter(help="Rows, up to 500.")] = 100,
    offset: Annotated[int, Parameter(help="Rows to leave out first.")] = 0,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """List schedules, newest first."""
    schedules = ask(
        server,
        lambda client: client.schedules.list(queue=queue, is_active=active, limit=limit, offset=offset),
    )
    if json:
        print_json(schedules)
        return
    print_table(
        ["id", "name", "cron", "zone", "queue", "active", "runs", "next run", "last run"],
        [
            (
                schedule.id,
                schedule.name,
                schedule.cron,
                schedule.timezone,
                schedule.queue,
                schedule.is_active,
                schedule.run_count,
                schedule.next_run_at,
                schedule.last_run_at,
            )
            for schedule in schedules
        ],
        empty="No schedules.",
    )


@commands.command
def show(schedule_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show everything about one schedule."""
    schedule = ask(server, lambda client: client.schedules.get(schedule_id))
    if json:
        print_json(schedule)
        return
    fields = msgspec.structs.asdict(schedule).items()
    print_fields([(name, value) for name, value in fields if value is not None])


@commands.command
def pause(schedule_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Let a schedule run no more by the clock."""
    _tell(ask(server, lambda client: client.schedules.pause(schedule_id)), json=json)


@commands.command
def resume(schedule_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Let a paused schedule go on from now; what it missed stays missed."""
    _tell(ask(server, lambda client: client.schedules.resume(schedule_id)), json=json)


@commands.command
def trigger(schedule_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Create the job of a schedule now, paused or not."""
    triggered = ask(server, lambda client: client.schedules.trigger(schedule_id))
    if json:
        print_json(triggered)
    else:
        console.print(triggered.job_id)


@commands.command
def delete(schedule_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Delete a schedule and its runs; its jobs stay."""
    ask(server, lambda client: client.schedules.delete(schedule_id))
    if json:
        print_json({"id": schedule_id, "deleted": True})
    else:
        console.print(f"{schedule_id} is deleted")


@commands.command
def history(
    schedule_id: str,
    /,
    *,
    limit: Annotated[int, Parameter(help="Runs, up to 500.")] = 50,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Show the runs of a schedule, newest first."""
    runs = ask(server, lambda client: client.schedules.history(schedule_id, limit=limit))
    if json:
        print_json(runs)
        return
    print_table(
        ["time", "outcome", "job", "error"],
        [(run.started_at, run.status.value, run.job_id, run.error) for run in runs],
        empty="No runs.",
    )


def _tell(schedule: Schedule, *, json: bool) -> None:
    if json:
        print_json(schedule)
    elif schedule.is_active:
        console.print(f"{schedule.id} runs next at {shown(schedule.next_run_at)}")
    else:
        console.print(f"{schedule.id} is paused")
