"""Workflows in SQL: pgbench calls the functions, without a server of ours."""

from dataclasses import replace

from millstream.cli.bench.measurement import with_cost
from millstream.cli.bench.postgres import Postgres, sql_file
from millstream.cli.bench.scenario import Measurement, Run
from millstream.pgwf.installer import AsyncInstaller

# Dropped before and after, like that of the yardstick; the scripts name it.
_SCHEMA = "millstream_bench_flow"
_WAITING = 100_000
_SLEEPING = 1_000_000
_SMOKE_ROWS = 5_000
_WARM_UP_SECONDS = 1


async def measure_cycle(run: Run) -> Measurement:
    """Submit ten in a transaction, lease ten, complete them in a transaction; an item is a completed job."""
    waiting = _SMOKE_ROWS if run.settings.smoke else _WAITING
    postgres = _postgres(run)
    await _install(postgres)
    try:
        await _fill(run, postgres, waiting=waiting)
        return replace(await _cycle(run, postgres, "measuring"), parameters=_parameters(run, waiting=waiting))
    finally:
        await postgres.run_file("flow_drop.sql")


async def measure_sleepers(run: Run) -> Measurement:
    """The same twice: without and with jobs of the same capability that are older and whose time has not come."""
    waiting, sleeping = (_SMOKE_ROWS, _SMOKE_ROWS) if run.settings.smoke else (_WAITING, _SLEEPING)
    postgres = _postgres(run)
    await _install(postgres)
    try:
        await _fill(run, postgres, waiting=waiting)
        plain = await _cycle(run, postgres, "measuring, plain")
        await _fill(run, postgres, sleeping=sleeping)
        measured = await _cycle(run, postgres, "measuring, sleepers")
    finally:
        await postgres.run_file("flow_drop.sql")
    return replace(
        measured,
        baseline_per_second=plain.rate_per_second,
        parameters=_parameters(run, waiting=waiting, sleeping=sleeping),
    )


async def _install(postgres: Postgres) -> None:
    await postgres.run_file("flow_drop.sql")
    await AsyncInstaller(postgres.dsn, schema=_SCHEMA).apply()


async def _fill(run: Run, postgres: Postgres, *, waiting: int = 0, sleeping: int = 0) -> None:
    run.on_progress("filling", 0.0, "")
    await postgres.run_file("flow_fill.sql", waiting=waiting, sleeping=sleeping)
    run.on_progress("filling", 1.0, "")


async def _cycle(run: Run, postgres: Postgres, step: str) -> Measurement:
    seconds = max(1, round(run.settings.seconds))
    await _pgbench(run, postgres, _WARM_UP_SECONDS)
    run.on_progress(step, 0.0, f"{seconds} s")
    before = await _completed(postgres)
    _, cost = await with_cost(run.require_server(), _pgbench(run, postgres, seconds))
    after = await _completed(postgres)
    run.on_progress(step, 1.0, f"{(after - before) / seconds:,.0f} /s")
    return Measurement(items=after - before, seconds=seconds, latencies={}, cost=cost)


async def _pgbench(run: Run, postgres: Postgres, seconds: int) -> float:
    clients = run.settings.connections
    threads = min(clients, run.settings.processes)
    return await postgres.pgbench(
        sql_file("flow_cycle.sql"), clients=clients, threads=threads, seconds=seconds
    )


async def _completed(postgres: Postgres) -> int:
    return int(await postgres.query(f"select count(*) from {_SCHEMA}.jobs_archive"))  # noqa: S608 - our own name


def _parameters(run: Run, **sizes: int) -> dict[str, str | int | float]:
    return {"connections": run.settings.connections, **sizes}


def _postgres(run: Run) -> Postgres:
    postgres = run.require_server().postgres
    assert postgres is not None, "the scenario's `needs` asks for the database"
    return postgres
