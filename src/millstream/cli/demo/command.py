"""The command: both acts on one server, and what they saw."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.cli.demo.files import FileFacts, facts_of, list_files
from millstream.cli.demo.jobs import JobsReport, run_jobs
from millstream.cli.demo.topic import TopicReport, run_topic
from millstream.cli.failure import CommandFailed
from millstream.cli.local_server import run_local_server
from millstream.cli.output import Json, console, print_json
from millstream.cli.quiet import log_warnings_only
from millstream.client import AsyncClient, MillstreamError

_PROBLEMS_SHOWN = 10


def demo(
    *,
    limit: Annotated[int | None, Parameter(help="Only so many files.", show_default=False)] = None,
    json: Json = False,
) -> int:
    """Start a server, put every file of Python's standard library through it twice, check every result.

    First as jobs: one in fifty fails once and is retried after a second. Then as messages of a topic, for a
    group of three processes, one of which is killed half way. Leaves nothing behind.
    """
    files = sorted(list_files())[:limit]
    if not files:
        raise CommandFailed("no files of the standard library were found", "Run it with another Python.")
    log_warnings_only()
    jobs, topic = _run({path: facts_of(path) for path in files}, quiet=json)
    is_accounted_for = jobs.is_accounted_for and topic.is_accounted_for
    if json:
        print_json({**msgspec.structs.asdict(jobs), "topic": topic})
    else:
        _print_jobs(jobs)
        _print_topic(topic)
        verdict = "All accounted for." if is_accounted_for else "Not everything is accounted for."
        console.print(verdict, style="bold green" if is_accounted_for else "bold red")
    return 0 if is_accounted_for else 1


def _run(facts: Mapping[Path, FileFacts], *, quiet: bool) -> tuple[JobsReport, TopicReport]:
    try:
        return asyncio.run(_acts(facts, quiet=quiet))
    except (MillstreamError, ExceptionGroup) as error:
        # Tasks that run together fail together; the first one's reason is the reason.
        first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        if isinstance(first, MillstreamError):
            raise CommandFailed(str(first)) from error
        raise first from error


async def _acts(facts: Mapping[Path, FileFacts], *, quiet: bool) -> tuple[JobsReport, TopicReport]:
    progress = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=quiet,
    )
    with progress:
        starting = progress.add_task("server", total=1)
        async with run_local_server() as server:
            progress.advance(starting)
            async with AsyncClient(server.url, server.first_keys.api_key) as client:
                jobs = await run_jobs(client, facts, progress)
            return jobs, await run_topic(server, facts, progress)


def _print_jobs(report: JobsReport) -> None:
    _print_act(
        [
            ("jobs", f"{report.jobs}, {report.correct} with the right result"),
            ("retries", f"{report.retries} of {report.retries_expected} expected"),
            ("rate", f"{report.rate_per_second:,.0f} jobs/s ({report.seconds:.1f} s)"),
            ("latency", f"p50 {report.latency_p50_ms:,.0f} ms, p99 {report.latency_p99_ms:,.0f} ms"),
        ],
        report.problems,
    )


def _print_topic(report: TopicReport) -> None:
    _print_act(
        [
            ("messages", f"{report.messages}, {report.correct} with the right result"),
            ("members", f"{report.members}, {report.members_killed} of them killed half way"),
            ("handed out again", str(report.handed_out_again)),
            ("not acknowledged", str(report.lag)),
            ("published", f"{report.publish_rate_per_second:,.0f} messages/s"),
            ("seconds", f"{report.seconds:.1f}"),
        ],
        report.problems,
    )


def _print_act(rows: Iterable[tuple[str, str]], problems: list[str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=len("handed out again"))
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    for problem in problems[:_PROBLEMS_SHOWN]:
        console.print(f"wrong: {problem}", style="red")
