"""The demo's first act: a job for each file, many at once, some of which fail once."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.progress import Progress

from millstream.cli.demo.files import FileFacts, facts_of
from millstream.cli.failure import CommandFailed
from millstream.client import AsyncClient, Job, JobStatus, NewJob, RetryLater, RunningJob, Worker

_QUEUE = "demo-files"
_CONCURRENCY = 50
_FAILING_ONE_IN = 50
_RETRY_SECONDS = 1
_WORK_SECONDS_MAX = 120


class _FileJob(msgspec.Struct, frozen=True):
    path: str
    fails_once: bool


class JobsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the first act saw. `latency_*` is from a job's creation to its completion, by the database's clock."""

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


async def run_jobs(client: AsyncClient, facts: Mapping[Path, FileFacts], progress: Progress) -> JobsReport:
    """Put a job for each file through a worker and check every result. Raises CommandFailed, also in an ExceptionGroup."""
    files = list(facts)
    began_at = time.perf_counter()
    paths_by_id = await _work_through(client, files, progress)
    seconds = time.perf_counter() - began_at
    return await _check(client, paths_by_id, facts, seconds, progress)


async def _work_through(client: AsyncClient, files: Sequence[Path], progress: Progress) -> dict[str, Path]:
    """Enqueue everything while a worker is at work; returns the path of each job id."""
    working = progress.add_task("jobs done", total=len(files))
    done: set[str] = set()

    async def handle(job: RunningJob) -> FileFacts:
        order = job.payload_as(_FileJob)
        if order.fails_once and job.attempt == 1:
            raise RetryLater(_RETRY_SECONDS, "the demo's one in fifty")
        found = facts_of(Path(order.path))
        done.add(job.id)
        progress.update(working, completed=len(done))
        if len(done) == len(files):
            worker.stop()
        return found

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
    client: AsyncClient,
    paths_by_id: Mapping[str, Path],
    facts: Mapping[Path, FileFacts],
    seconds: float,
    progress: Progress,
) -> JobsReport:
    expected = len(facts)
    checking = progress.add_task("checked", total=expected)
    turn = asyncio.Semaphore(_CONCURRENCY)
    problems: list[str] = []

    async def check(job_id: str, path: Path) -> Job:
        async with turn:
            job = await client.jobs.get(job_id)
        problems.extend(_problems(job, path, facts[path]))
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
    return JobsReport(
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


def _problems(job: Job, path: Path, facts: FileFacts) -> Iterator[str]:
    if job.status is not JobStatus.COMPLETED:
        yield f"{path}: {job.status.value} ({job.last_error})"
    elif job.result != msgspec.to_builtins(facts):
        yield f"{path}: the result is {job.result}"
