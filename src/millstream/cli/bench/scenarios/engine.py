"""The job lifecycle inside one process, over the engine: plain, and while somebody holds a transaction open."""

from dataclasses import replace

from millstream.cli.bench.load import start_generators
from millstream.cli.bench.measurement import run_measured
from millstream.cli.bench.plan import EngineLoad
from millstream.cli.bench.postgres import Postgres
from millstream.cli.bench.progress import timed
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import new_queue, to_measurement

# The rate to compare with needs no longer than it takes to settle.
_PLAIN_SECONDS_MAX = 15.0
_WARM_UP_SECONDS_MAX = 2.0


async def measure_engine(run: Run) -> Measurement:
    """Enqueue, claim, complete; the engine runs in the generator's process, whose CPU is therefore its own."""
    return await _measure(run, run.settings.seconds, "measuring")


async def measure_held_xmin(run: Run) -> Measurement:
    """The same, first plain and then while a transaction with a snapshot and an id is open all along."""
    postgres = _postgres(run)
    plain = await _measure(run, min(run.settings.seconds, _PLAIN_SECONDS_MAX), "measuring, plain")
    async with postgres.open_session() as session:
        await session.execute("begin isolation level repeatable read")
        await session.execute("select pg_current_xact_id()")
        held = await _measure(run, run.settings.seconds, "measuring, xmin held")
    return replace(
        held,
        baseline_per_second=plain.rate_per_second,
        errors=held.errors + plain.errors,
        error_examples=(*held.error_examples, *plain.error_examples),
    )


async def _measure(run: Run, seconds: float, step: str) -> Measurement:
    server, settings = run.require_server(), run.settings
    assert server.login_dsn is not None, "the scenario's `needs` asks for the database"
    load = EngineLoad(server.login_dsn, server.endpoint.api_key, new_queue("engine"), settings.connections)
    async with start_generators([load]) as generators:
        await generators.run(min(seconds / 10, _WARM_UP_SECONDS_MAX))
        outcome, cost = await run_measured(server, generators, seconds, timed(run.on_progress, step, seconds))
    return to_measurement(outcome, cost, connections=settings.connections)


def _postgres(run: Run) -> Postgres:
    postgres = run.require_server().postgres
    assert postgres is not None, "the scenario's `needs` asks for the database"
    return postgres
