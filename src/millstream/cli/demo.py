"""`millstream demo`: thousands of real jobs, each result checked."""

import asyncio
import hashlib
import os
import statistics
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.cli.failure import CommandFailed
from millstream.cli.local_server import run_local_server
from millstream.cli.output import Json, console, print_json
from millstream.cli.quiet import log_warnings_only
from millstream.client import AsyncClient, Job, JobStatus, NewJob, RetryLater, RunningJob, Worker

_QUEUE = "demo-files"
_CONCURRENCY = 50
_FAILING_ONE_IN = 50
_RETRY_SECONDS = 1
_WORK_SECONDS_MAX = 120
# Copies of other packages and derived files, which may change while the demo runs.
_FOREIGN_DIRECTORIES = frozenset({"site-packages", "dist-packages", "__pycache__"})


class FileFacts(msgspec.Struct, frozen=True):
    """What a job finds out about its file."""

    sha256: str
    lines: int
    words: int


class _FileJob(msgspec.Struct, frozen=True):
    path: str
    fails_once: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo saw. `latency_*` is from a job's creation to its completion, by the database's clock."""

    jobs: int
    correct: int
    retries: int
    retries_expected: int
    seconds: float
    rate_per_second: float
    latency_p50_ms: float
    latency_p99_ms: float
    problems: list[str]

    @property
    def is_accounted_for(self) -> bool:
        """Whether every job is completed with the right result and the right number of attempts."""
        return not self.problems and self.correct == self.jobs and self.retries == self.retries_expected


def demo(
    *,
    limit: Annotated[int | None, Parameter(help="Only so many files.", show_default=False)] = None,
    json: Json = False,
) -> int:
    """Start a server, put a job for every file of Python's standard library through it, check every result.

    One job in fifty fails once and is retried after a second. Leaves nothing behind.
    """
    files = sorted(_standard_library())[:limit]
    if not files:
        raise CommandFailed("no files of the standard library were found", "Run it with another Python.")
    log_warnings_only()
    report = asyncio.run(_run(files, quiet=json))
    if json:
        print_json(report)
    else:
        _print(report)
    return 0 if report.is_accounted_for else 1


def work(path: Path) -> FileFacts:
    """Do what each job is for."""
    content = path.read_bytes()
    return FileFacts(
        sha256=hashlib.sha256(content).hexdigest(), lines=content.count(b"\n"), words=len(content.split())
    )


def _standard_library() -> Iterator[Path]:
    for directory, names, files in os.walk(sysconfig.get_path("stdlib")):
        names[:] = [name for name in names if name not in _FOREIGN_DIRECTORIES]
        paths = (Path(directory, name) for name in files)
        yield from (path for path in paths if path.is_file() and os.access(path, os.R_OK))


async def _run(files: Sequence[Path], *, quiet: bool) -> Report:
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
                began_at = time.perf_counter()
                paths_by_id = await _work_through(client, files, progress)
                seconds = time.perf_counter() - began_at
                return await _check(client, paths_by_id, seconds, len(files), progress)


async def _work_through(client: AsyncClient, files: Sequence[Path], progress: Progress) -> dict[str, Path]:
    """Enqueue everything while a worker is at work; returns the path of each job id."""
    working = progress.add_task("jobs done", total=len(files))
    done: set[str] = set()

    async def handle(job: RunningJob) -> FileFacts:
        order = job.payload_as(_FileJob)
        if order.fails_once and job.attempt == 1:
            raise RetryLater(_RETRY_SECONDS, "the demo's one in fifty")
        facts = work(Path(order.path))
        done.add(job.id)
        progress.update(working, completed=len(done))
        if len(done) == len(files):
            worker.stop()
        return facts

    worker = Worker(client, _QUEUE, handle, concurrency=_CONCURRENCY)
    try:
        async with asyncio.timeout(_WORK_SECONDS_MAX), asyncio.TaskGroup() as both:
            enqueuing = both.create_task(_enqueue(client, files, progress))
            both.create_task(worker.run())
    except TimeoutError:
        raise CommandFailed(
            f"{len(files) - len(done)} of {len(files)} jobs were not done after {_WORK_SECONDS_MAX} s"
        ) from None
    return enqueuing.result()


async def _enqueue(client: AsyncClient, files: Sequence[Path], progress: Progress) -> dict[str, Path]:
    enqueued = progress.add_task("enqueued", total=len(files))
    jobs = [
        NewJob(_FileJob(str(path), fails_once=index % _FAILING_ONE_IN == 0), idempotency_key=str(path))
        for index, path in enumerate(files)
    ]
    stored = await client.jobs.enqueue_many(_QUEUE, jobs)
    if stored.failed:
        raise CommandFailed(f"{len(stored.failed)} jobs were refused: {stored.failed[0].error}")
    progress.update(enqueued, completed=len(stored.succeeded))
    return {item.id: files[item.index] for item in stored.succeeded}


async def _check(
    client: AsyncClient, paths_by_id: dict[str, Path], seconds: float, expected: int, progress: Progress
) -> Report:
    checking = progress.add_task("checked", total=expected)
    turn = asyncio.Semaphore(_CONCURRENCY)
    problems: list[str] = []

    async def check(job_id: str, path: Path) -> Job:
        async with turn:
            job = await client.jobs.get(job_id)
        problems.extend(_problems(job, path))
        progress.advance(checking)
        return job

    jobs = await asyncio.gather(*(check(job_id, path) for job_id, path in paths_by_id.items()))
    if len(jobs) != expected:
        problems.append(f"{expected} files, but {len(jobs)} jobs")
    latencies = [
        (job.completed_at - job.created_at).total_seconds() * 1000
        for job in jobs
        if job.completed_at is not None
    ]
    # Two points are needed at least; a single job is its own median.
    percentiles = statistics.quantiles([*latencies, *latencies] or [0, 0], n=100, method="inclusive")
    return Report(
        jobs=expected,
        correct=len(jobs) - len(problems),
        retries=sum(job.retry_count for job in jobs),
        retries_expected=-(-expected // _FAILING_ONE_IN),
        seconds=round(seconds, 3),
        rate_per_second=round(expected / seconds, 1),
        latency_p50_ms=round(percentiles[49], 1),
        latency_p99_ms=round(percentiles[98], 1),
        problems=problems,
    )


def _problems(job: Job, path: Path) -> Iterator[str]:
    if job.status is not JobStatus.COMPLETED:
        yield f"{path}: {job.status.value} ({job.last_error})"
    elif job.result != msgspec.to_builtins(work(path)):
        yield f"{path}: the result is {job.result}"


def _print(report: Report) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("jobs", f"{report.jobs}, {report.correct} with the right result"),
        ("retries", f"{report.retries} of {report.retries_expected} expected"),
        ("rate", f"{report.rate_per_second:,.0f} jobs/s ({report.seconds:.1f} s)"),
        ("latency", f"p50 {report.latency_p50_ms:,.0f} ms, p99 {report.latency_p99_ms:,.0f} ms"),
    ):
        table.add_row(name, value)
    console.print(table)
    for problem in report.problems[:10]:
        console.print(f"wrong: {problem}", style="red")
    verdict = "All accounted for." if report.is_accounted_for else "Not everything is accounted for."
    console.print(verdict, style="bold green" if report.is_accounted_for else "bold red")
