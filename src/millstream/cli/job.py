"""`millstream job`."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from millstream.cli.json_argument import json_argument
from millstream.cli.output import Json, console, print_fields, print_json, print_table
from millstream.cli.target import Target, ask
from millstream.client.types import JobStatus, JobSummary

commands = App(name="job", help="Enqueue, list, inspect, retry and cancel jobs.")

StatusName = Literal["pending", "scheduled", "processing", "completed", "failed", "deadletter", "cancelled"]
OrderName = Literal[
    "created_at",
    "updated_at",
    "scheduled_at",
    "completed_at",
    "priority",
    "status",
    "queue_name",
    "retry_count",
]


@commands.command(name="list")
def list_jobs(
    *,
    queue: Annotated[str | None, Parameter(help="Only this queue.")] = None,
    status: Annotated[
        list[StatusName] | None, Parameter(help="Only these states; repeat it.", negative=())
    ] = None,
    search: Annotated[str | None, Parameter(help="Start of the id, or part of queue or type.")] = None,
    job_type: Annotated[str | None, Parameter(help="Only this type.")] = None,
    tag: Annotated[str | None, Parameter(help="Only with this tag.")] = None,
    order_by: Annotated[OrderName, Parameter(help="What to sort by.")] = "created_at",
    ascending: Annotated[bool, Parameter(help="Smallest or oldest first.", negative=())] = False,
    limit: Annotated[int, Parameter(help="Rows, up to 100.")] = 50,
    offset: Annotated[int, Parameter(help="Rows to leave out first.")] = 0,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    page = ask(
        server,
        lambda client: client.jobs.list(
            queue=queue,
            status=None if status is None else [JobStatus(name) for name in status],
            search=search,
            job_type=job_type,
            tag=tag,
            order_by=order_by,
            descending=not ascending,
            limit=limit,
            offset=offset,
        ),
    )
    if json:
        print_json(page.items)
        return
    print_table(
        ["id", "queue", "status", "type", "priority", "retries", "created", "error"],
        [_row(job) for job in page],
        empty="No jobs.",
    )
    if page.has_more:
        console.print(f"More: --offset {offset + len(page)}")


@commands.command
def get(job_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show everything about one job."""
    job = ask(server, lambda client: client.jobs.get(job_id))
    if json:
        print_json(job)
        return
    print_fields([(name, value) for name, value in msgspec.structs.asdict(job).items() if value is not None])


@commands.command
def enqueue(
    queue: str,
    payload: str,
    /,
    *,
    priority: Annotated[int | None, Parameter(help="-100 to 100, higher first.")] = None,
    max_retries: Annotated[int | None, Parameter(help="0 to 100.")] = None,
    timeout_seconds: Annotated[int | None, Parameter(help="1 to 86400.")] = None,
    run_at: Annotated[datetime | None, Parameter(help="Not before this time.")] = None,
    idempotency_key: Annotated[
        str | None, Parameter(help="A second job with this key is not created.")
    ] = None,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Enqueue one job. PAYLOAD is JSON, or - for standard input."""
    value = json_argument(payload)
    enqueued = ask(
        server,
        lambda client: client.jobs.enqueue(
            queue,
            value,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            # A time without a zone is the caller's own.
            run_at=None if run_at is None else run_at.astimezone(),
            idempotency_key=idempotency_key,
        ),
    )
    if json:
        print_json(enqueued)
    else:
        console.print(enqueued.id if enqueued.created else f"{enqueued.id} (the key was used before)")


@commands.command
def retry(job_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Put a failed job or a dead letter back into its queue."""
    job = ask(server, lambda client: client.jobs.retry(job_id))
    if json:
        print_json(job)
    else:
        console.print(f"{job.id} is {job.status.value} again")


@commands.command
def cancel(job_id: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Cancel a job that waits."""
    ask(server, lambda client: client.jobs.cancel(job_id))
    if json:
        print_json({"id": job_id, "status": JobStatus.CANCELLED})
    else:
        console.print(f"{job_id} is cancelled")


@commands.command
def stats(*, server: Target | None = None, json: Json = False) -> None:
    """Count jobs by status."""
    counts = ask(server, lambda client: client.jobs.stats())
    if json:
        print_json(counts)
    else:
        print_fields(msgspec.structs.asdict(counts).items())


@commands.command
def history(
    job_id: str,
    /,
    *,
    limit: Annotated[int, Parameter(help="Entries, up to 500.")] = 100,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Show what happened to a job, oldest first."""
    page = ask(server, lambda client: client.jobs.history(job_id, limit=limit))
    if json:
        print_json(page.items)
        return
    print_table(
        ["time", "event", "worker", "details"],
        [(event.created_at, event.event_type, event.worker_id, event.details) for event in page],
        empty="No history.",
    )


def _row(job: JobSummary) -> tuple[object, ...]:
    retries = f"{job.retry_count}/{job.max_retries}"
    error = (job.last_error or "").splitlines()
    return (
        job.id,
        job.queue,
        job.status.value,
        job.job_type,
        job.priority,
        retries,
        job.created_at,
        error[0] if error else None,
    )
