"""`millstream queue`."""

from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from millstream.cli.failure import CommandFailed
from millstream.cli.output import Json, console, print_fields, print_json, print_table
from millstream.cli.target import Target, ask

commands = App(name="queue", help="Configure, pause, resume and inspect queues.")


@commands.command(name="list")
def list_queues(*, server: Target | None = None, json: Json = False) -> None:
    """List configured queues by name."""
    queues = ask(server, lambda client: client.queues.list())
    if json:
        print_json(queues)
        return
    print_table(
        ["queue", "max retries", "timeout (s)", "rate limit", "enabled"],
        [(row.name, row.max_retries, row.timeout_seconds, row.rate_limit, row.enabled) for row in queues],
        empty="No configured queues. A queue needs none: millstream job enqueue NAME '{}'",
    )


@commands.command
def get(name: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show a queue's configuration."""
    _print_one(ask(server, lambda client: client.queues.get(name)), as_json=json)


@commands.command
def configure(
    name: str,
    /,
    *,
    max_retries: Annotated[int | None, Parameter(help="0 to 100.")] = None,
    timeout_seconds: Annotated[int | None, Parameter(help="1 to 86400.")] = None,
    rate_limit: Annotated[
        int | None, Parameter(help="Jobs a second, 1 to 100000; stored, not enforced.")
    ] = None,
    enabled: Annotated[
        bool | None, Parameter(negative="--disabled", help="Whether jobs are handed out.")
    ] = None,
    retry_initial_seconds: Annotated[int | None, Parameter(help="Pause before the first retry.")] = None,
    retry_factor: Annotated[float | None, Parameter(help="Each pause is this times the one before.")] = None,
    retry_max_seconds: Annotated[int | None, Parameter(help="Longest pause.")] = None,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Create a queue's configuration, or change what is given of it."""
    queue = ask(
        server,
        lambda client: client.queues.configure(
            name,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            rate_limit=rate_limit,
            enabled=enabled,
            retry_initial_seconds=retry_initial_seconds,
            retry_factor=retry_factor,
            retry_max_seconds=retry_max_seconds,
        ),
    )
    _print_one(queue, as_json=json)


@commands.command
def pause(
    name: str,
    /,
    *,
    reason: Annotated[str | None, Parameter(help="Shown to whoever asks, up to 500 characters.")] = None,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Stop handing out jobs of a queue."""
    paused = ask(server, lambda client: client.queues.pause(name, reason=reason))
    if json:
        print_json(paused)
    else:
        console.print(f"{name} is paused")


@commands.command
def resume(name: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Hand out jobs again."""
    resumed = ask(server, lambda client: client.queues.resume(name))
    if json:
        print_json(resumed)
    else:
        console.print(f"{name} hands out jobs (was paused for {resumed.paused_seconds} s)")


@commands.command
def stats(name: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show what a queue holds and did in the last 24 hours."""
    _print_one(ask(server, lambda client: client.queues.stats(name)), as_json=json)


@commands.command
def delete(
    name: str,
    /,
    *,
    delete_jobs: Annotated[
        bool, Parameter(negative=(), help="Delete its jobs too, whatever their status.")
    ] = False,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Delete a queue's configuration."""
    if delete_jobs and not yes:
        raise CommandFailed(
            f"this deletes every job of {name} for good", "Give --yes as well if that is what you want."
        )
    ask(server, lambda client: client.queues.delete(name, delete_jobs=delete_jobs))
    if json:
        print_json({"queue_name": name, "deleted": True})
    else:
        console.print(f"{name} is deleted")


def _print_one(value: msgspec.Struct, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print_fields(msgspec.structs.asdict(value).items())
