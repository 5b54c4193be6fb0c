"""The client's worker runtime: how fast it drains a queue, and how soon it wakes up on an idle one."""

from dataclasses import replace

from millstream.cli.bench.conversation import CreateJobsInBulk
from millstream.cli.bench.load import start_generators
from millstream.cli.bench.measurement import run_measured
from millstream.cli.bench.plan import WakeUpLoad, WorkerLoad
from millstream.cli.bench.progress import timed
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import http_plans, new_queue, to_measurement

_CONCURRENCY = 100
_PER_REQUEST = 100
# Enough for a worker at the target's rate to be busy for the run's time.
_JOBS_PER_SECOND = 10_000
_JOBS_PER_SECOND_SMOKE = 2_000


async def measure_worker(run: Run) -> Measurement:
    """Fill a queue in bulk, then let one worker drain it; the rate is that of the drain alone."""
    server, settings = run.require_server(), run.settings
    queue = new_queue("worker")
    per_second = _JOBS_PER_SECOND_SMOKE if settings.smoke else _JOBS_PER_SECOND
    requests = max(1, round(per_second * settings.seconds / _PER_REQUEST / settings.connections))
    fill = CreateJobsInBulk(queue, _PER_REQUEST, requests)
    async with start_generators(http_plans(server, settings, fill)) as generators:
        filled = await generators.run(
            settings.seconds * 10, timed(run.on_progress, "filling", settings.seconds)
        )

    url, api_key = server.endpoint.url, server.endpoint.api_key
    async with start_generators([WorkerLoad(url, api_key, queue, _CONCURRENCY, filled.items)]) as generators:
        on_progress = timed(run.on_progress, "draining", settings.seconds)
        outcome, cost = await run_measured(server, generators, settings.seconds * 10, on_progress)
    measured = to_measurement(outcome, cost, concurrency=_CONCURRENCY, jobs=filled.items)
    return replace(
        measured,
        errors=measured.errors + filled.errors,
        error_examples=(*measured.error_examples, *filled.error_examples),
    )


async def measure_latency(run: Run) -> Measurement:
    """One job at a time for a worker that waits: from just before the enqueue to the start of the handler."""
    server, settings = run.require_server(), run.settings
    host, port, api_key = server.endpoint
    async with start_generators([WakeUpLoad(host, port, api_key, new_queue("latency"))]) as generators:
        await generators.run(settings.seconds / 10)
        on_progress = timed(run.on_progress, "measuring", settings.seconds)
        outcome, cost = await run_measured(server, generators, settings.seconds, on_progress)
    return to_measurement(outcome, cost)
