"""`start`: a fresh data directory to the first answered request, and what the idle server costs then."""

import asyncio
from statistics import median

from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.process_cpu import resident_bytes, tree_cpu_seconds
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.server import ServerProcess, start_process

_STARTS = 3
# Caches fill and PostgreSQL settles right after the start; idle begins afterwards.
_SETTLE_SECONDS = 2.0


async def measure_start(run: Run) -> Measurement:
    """Median of three starts (one in a smoke run); the last server is then left idle for the run's time."""
    starts = 1 if run.settings.smoke else _STARTS
    histogram = LatencyHistogram()
    durations: list[float] = []
    idle: dict[str, str | int | float] = {}
    for number in range(1, starts + 1):
        async with start_process(processes=run.settings.server_processes) as server:
            durations.append(await server.answered_after())
            histogram.record(durations[-1])
            run.on_progress("starting", number / starts, f"{durations[-1]:.2f} s")
            if number == starts:
                idle = await _idle_cost(server, run)
    return Measurement(
        items=starts,
        seconds=sum(durations),
        latencies={"start": histogram},
        duration_seconds=median(durations),
        parameters={"starts": starts} | idle,
    )


async def _idle_cost(server: ServerProcess, run: Run) -> dict[str, str | int | float]:
    postmaster = await server.postgres().find_postmaster()
    seconds = run.settings.seconds
    await asyncio.sleep(min(_SETTLE_SECONDS, seconds))
    before = tree_cpu_seconds(server.pid, without=postmaster)
    run.on_progress("idle", 0.0, f"{seconds:.0f} s")
    await asyncio.sleep(seconds)
    run.on_progress("idle", 1.0, "")
    after = tree_cpu_seconds(server.pid, without=postmaster)
    memory = resident_bytes(server.pid)
    cost: dict[str, str | int | float] = {"idle_seconds": seconds}
    if before is not None and after is not None:
        cost["idle_cpu_percent_of_a_core"] = round((after - before) / seconds * 100, 2)
    if memory is not None:
        cost["idle_resident_mib"] = round(memory / 2**20, 1)
    return cost
