"""Jobs over HTTP: single creates, bulk creates, the whole lifecycle."""

import uuid

from millstream.cli.bench.conversation import ConversationPlan, CreateJobs, CreateJobsInBulk, JobLifecycle
from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.load import start_generators
from millstream.cli.bench.measurement import Cost, run_measured
from millstream.cli.bench.plan import HttpLoad, Outcome
from millstream.cli.bench.progress import timed
from millstream.cli.bench.scenario import Measurement, Run, Settings
from millstream.cli.bench.server import Server

# The first requests pay for what later ones find ready: the check of the key's hash, prepared statements, caches.
_WARM_UP_PART = 0.1
_WARM_UP_SECONDS_MAX = 2.0


async def measure_create(run: Run) -> Measurement:
    """Single-job creates."""
    return await measure_conversation(run, CreateJobs(new_queue("create")))


async def measure_bulk(run: Run) -> Measurement:
    """Creates of a hundred jobs a request."""
    return await measure_conversation(run, CreateJobsInBulk(new_queue("bulk")))


async def measure_lifecycle(run: Run) -> Measurement:
    """Create, claim, complete; a job counts when its completion was answered."""
    return await measure_conversation(run, JobLifecycle(new_queue("lifecycle")))


async def measure_conversation(
    run: Run, conversation: ConversationPlan, step: str = "measuring"
) -> Measurement:
    """Run `conversation` on every connection for the run's time, after a short warm-up."""
    server, settings = run.require_server(), run.settings
    async with start_generators(http_plans(server, settings, conversation)) as generators:
        await generators.run(min(settings.seconds * _WARM_UP_PART, _WARM_UP_SECONDS_MAX))
        on_progress = timed(run.on_progress, step, settings.seconds)
        outcome, cost = await run_measured(server, generators, settings.seconds, on_progress)
    return to_measurement(outcome, cost, connections=settings.connections, processes=settings.processes)


def http_plans(server: Server, settings: Settings, conversation: ConversationPlan) -> list[HttpLoad]:
    """The connections dealt out to the generator processes as evenly as they go."""
    processes = min(settings.processes, settings.connections)
    share, rest = divmod(settings.connections, processes)
    host, port, api_key = server.endpoint
    return [
        HttpLoad(host, port, api_key, share + (1 if index < rest else 0), conversation)
        for index in range(processes)
    ]


def to_measurement(outcome: Outcome, cost: Cost, **parameters: str | int | float) -> Measurement:
    """What the generators saw as the measurement of a scenario."""
    return Measurement(
        items=outcome.items,
        seconds=outcome.seconds,
        latencies={name: LatencyHistogram.from_wire(wire) for name, wire in outcome.latencies.items()},
        errors=outcome.errors,
        error_examples=tuple(outcome.error_examples),
        cost=cost,
        parameters=parameters,
    )


def new_queue(purpose: str) -> str:
    """A queue name that no run before this one has used."""
    return f"bench-{purpose}-{uuid.uuid4().hex[:12]}"
