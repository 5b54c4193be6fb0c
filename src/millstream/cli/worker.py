"""`millstream worker`."""

import msgspec
from cyclopts import App

from millstream.cli.output import Json, print_fields, print_json, print_table
from millstream.cli.target import Target, ask

commands = App(name="worker", help="See who works.")


@commands.command(name="list")
def list_workers(*, server: Target | None = None, json: Json = False) -> None:
    """List the workers heard of last."""
    workers = ask(server, lambda client: client.workers.list())
    if json:
        print_json(workers)
        return
    print_table(
        ["id", "queue", "host", "status", "jobs", "done", "failed", "last heartbeat"],
        [
            (
                row.id,
                row.queue,
                row.hostname,
                row.status.value,
                f"{row.current_jobs}/{row.concurrency}",
                row.jobs_processed,
                row.jobs_failed,
                row.last_heartbeat_at,
            )
            for row in workers
        ],
        empty="No workers.",
    )


@commands.command
def get(worker_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show one worker."""
    worker = ask(server, lambda client: client.workers.get(worker_id))
    if json:
        print_json(worker)
    else:
        print_fields(msgspec.structs.asdict(worker).items())
