"""The table of scenarios. Adding one: write its function in a module here and add a line to `SCENARIOS`."""

from typing import Final

from millstream.cli.bench.scenario import Needs, Scenario, Target
from millstream.cli.bench.scenarios.backlog import measure_backlog
from millstream.cli.bench.scenarios.engine import measure_engine, measure_held_xmin
from millstream.cli.bench.scenarios.flood import measure_flood
from millstream.cli.bench.scenarios.jobs import (
    measure_bulk,
    measure_create,
    measure_lifecycle,
)
from millstream.cli.bench.scenarios.pgwf import measure_cycle, measure_sleepers
from millstream.cli.bench.scenarios.start import measure_start
from millstream.cli.bench.scenarios.worker import measure_latency, measure_worker

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="jobs-create",
        summary="single-job POST /jobs, authenticated, everything on",
        item="job",
        measure=measure_create,
        target=Target(rate_per_second=12_000, yardstick_ratio=0.6, p99_ms=20),
    ),
    Scenario(
        name="jobs-bulk",
        summary="POST /jobs/bulk, 100 jobs a request",
        item="job",
        measure=measure_bulk,
        target=Target(rate_per_second=50_000, yardstick_ratio=2.5),
        # A bulk request is worth a hundred single ones: more of them only wait for each other.
        connections=16,
    ),
    Scenario(
        name="jobs-lifecycle",
        summary="create one by one, claim 10, complete one by one, over HTTP",
        item="job",
        measure=measure_lifecycle,
        target=Target(rate_per_second=5_000, yardstick_ratio=0.25),
    ),
    Scenario(
        name="jobs-worker",
        summary="the client's worker runtime, 100 concurrent no-op handlers, until the queue is drained",
        item="job",
        measure=measure_worker,
        target=Target(rate_per_second=10_000, yardstick_ratio=0.5),
        connections=4,
    ),
    Scenario(
        name="jobs-latency",
        summary="idle queue, one waiting worker: from enqueue to the start of the handler",
        item="job",
        measure=measure_latency,
        target=Target(p50_ms=5, p99_ms=25),
        connections=1,
    ),
    Scenario(
        name="jobs-engine",
        summary="the job lifecycle inside the process, no HTTP",
        item="job",
        measure=measure_engine,
        target=Target(rate_per_second=30_000, yardstick_ratio=1.5),
        needs=Needs.DATABASE,
        connections=512,
    ),
    Scenario(
        name="jobs-held-xmin",
        summary="jobs-engine while another session holds a transaction open",
        item="job",
        measure=measure_held_xmin,
        target=Target(baseline_ratio=0.6),
        needs=Needs.DATABASE,
        # Dead rows pile up as long as the transaction is held: a short run would show nothing.
        seconds=60,
        connections=512,
    ),
    Scenario(
        name="jobs-backlog",
        summary="claim 10 and complete, with 1,000,000 ready, 1,000,000 scheduled and 200,000 jobs in retry",
        item="job",
        measure=measure_backlog,
        target=Target(baseline_ratio=0.9),
        needs=Needs.DATABASE,
    ),
    Scenario(
        name="auth-flood",
        summary="jobs-create on few connections, while another process sends 2,000 invented API keys a second",
        item="job",
        measure=measure_flood,
        target=Target(p99_ms=100),
        # An honest user beside the flood, not a second flood.
        connections=8,
    ),
    Scenario(
        name="pgwf-cycle",
        summary="submit 10, get_work(10), complete them through the SQL functions, 100,000 waiting jobs in the table",
        item="job",
        measure=measure_cycle,
        target=Target(rate_per_second=2_000, yardstick_ratio=0.1),
        needs=Needs.DATABASE,
        connections=4,
    ),
    Scenario(
        name="pgwf-sleepers",
        summary="pgwf-cycle with 1,000,000 sleeping jobs of the same capability",
        item="job",
        measure=measure_sleepers,
        target=Target(baseline_ratio=0.8),
        needs=Needs.DATABASE,
        connections=4,
    ),
    Scenario(
        name="start",
        summary="fresh data directory to first request answered; what an idle server costs",
        item="start",
        measure=measure_start,
        target=Target(seconds_max=3),
        needs=Needs.NOTHING,
        seconds=5,
        connections=1,
    ),
)


def find_scenario(name: str) -> Scenario | None:
    """The scenario called `name`."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
