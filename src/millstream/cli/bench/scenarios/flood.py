"""`auth-flood`: what honest requests feel of somebody who tries keys."""

import asyncio

from millstream.cli.bench.conversation import CreateJobs
from millstream.cli.bench.load import start_generators
from millstream.cli.bench.measurement import run_measured
from millstream.cli.bench.plan import FloodLoad
from millstream.cli.bench.progress import timed
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import http_plans, new_queue, to_measurement

FLOOD_PER_SECOND = 2_000
_FLOOD_CONNECTIONS = 64
_WARM_UP_SECONDS = 1.0


async def measure_flood(run: Run) -> Measurement:
    """Single-job creates while another process sends invented keys; latencies are those of the creates."""
    server, settings = run.require_server(), run.settings
    plans = http_plans(server, settings, CreateJobs(new_queue("flood")))
    host, port, _ = server.endpoint
    flood_plan = FloodLoad(host, port, per_second=FLOOD_PER_SECOND, connections=_FLOOD_CONNECTIONS)
    async with start_generators(plans) as honest, start_generators([flood_plan]) as flood:
        await honest.run(min(_WARM_UP_SECONDS, settings.seconds))
        on_progress = timed(run.on_progress, "measuring", settings.seconds)
        (outcome, cost), refused = await asyncio.gather(
            run_measured(server, honest, settings.seconds, on_progress), flood.run(settings.seconds)
        )
    measurement = to_measurement(
        outcome,
        cost,
        connections=settings.connections,
        processes=settings.processes,
        flood_per_second=round(refused.items / refused.seconds),
    )
    return Measurement(
        items=measurement.items,
        seconds=measurement.seconds,
        latencies=measurement.latencies,
        errors=outcome.errors + refused.errors,
        error_examples=(*outcome.error_examples, *refused.error_examples),
        cost=measurement.cost,
        parameters=measurement.parameters,
    )
