"""`webhooks`: how fast deliveries go out, and what creates feel of them."""

import asyncio
from dataclasses import dataclass, field

from millstream.cli.bench.conversation import CreateJobs
from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.load import Generators, start_generators
from millstream.cli.bench.measurement import Cost, run_measured
from millstream.cli.bench.plan import Outcome, WebhookLoad
from millstream.cli.bench.progress import timed
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import http_plans, new_queue
from millstream.cli.bench.server import Server, ServerFailed

DELIVERIES_PER_SECOND = 300
# Plain and accompanied creates take turns: what a machine does besides meets both alike.
_ROUNDS = 4
_WARM_UP_SECONDS = 1.0


async def measure_webhooks(run: Run) -> Measurement:
    """Deliveries alone, as fast as they go; then single-job creates plain and beside deliveries, in turn."""
    server = run.require_server()
    alone = await _measure_alone(run, server)
    plain, beside, delivered = await _measure_creates(run, server)
    others_cpu = beside.server_cpu_seconds - plain.server_cpu_seconds * beside.items / max(plain.items, 1)
    return Measurement(
        items=beside.items,
        seconds=beside.seconds,
        latencies={"create": beside.latencies},
        errors=sum(total.errors for total in (alone, plain, beside, delivered)),
        error_examples=(*alone.examples, *plain.examples, *beside.examples, *delivered.examples)[:5],
        cost=Cost(beside.server_cpu_seconds, beside.postgres_cpu_seconds),
        baseline_per_second=plain.rate,
        parameters={
            "connections": run.settings.connections,
            "processes": run.settings.processes,
            "deliveries_per_second": round(delivered.rate),
            "deliveries_per_second_alone": round(alone.rate),
            "server_cpu_us_per_delivery": round(others_cpu * 1e6 / max(delivered.items, 1)),
            "server_cpu_us_per_delivery_alone": round(alone.server_cpu_seconds * 1e6 / max(alone.items, 1)),
            "postgres_cpu_us_per_delivery_alone": round(
                alone.postgres_cpu_seconds * 1e6 / max(alone.items, 1)
            ),
        },
    )


@dataclass
class _Total:
    """Phases of one kind together."""

    items: int = 0
    seconds: float = 0.0
    server_cpu_seconds: float = 0.0
    postgres_cpu_seconds: float = 0.0
    errors: int = 0
    examples: list[str] = field(default_factory=list[str])
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)

    @property
    def rate(self) -> float:
        return self.items / self.seconds if self.seconds else 0.0

    def add(self, outcome: Outcome, cost: Cost | None = None) -> None:
        self.items += outcome.items
        self.seconds += outcome.seconds
        self.errors += outcome.errors
        self.examples += outcome.error_examples
        for wire in outcome.latencies.values():
            self.latencies.merge(LatencyHistogram.from_wire(wire))
        if cost is not None:
            self.server_cpu_seconds += cost.server_cpu_seconds or 0.0
            self.postgres_cpu_seconds += cost.postgres_cpu_seconds or 0.0


async def _measure_alone(run: Run, server: Server) -> _Total:
    seconds = run.settings.seconds
    alone = _Total()
    async with start_generators([_webhook_load(server, None)]) as webhooks:
        await webhooks.run(min(_WARM_UP_SECONDS, seconds))
        alone.add(*await run_measured(server, webhooks, seconds, timed(run.on_progress, "alone", seconds)))
    return alone


async def _measure_creates(run: Run, server: Server) -> tuple[_Total, _Total, _Total]:
    settings = run.settings
    rounds = 1 if settings.smoke else _ROUNDS
    seconds = settings.seconds / rounds
    plain, beside, delivered = _Total(), _Total(), _Total()
    creating = http_plans(server, settings, CreateJobs(new_queue("webhooks")))
    telling = _webhook_load(server, DELIVERIES_PER_SECOND)
    async with start_generators(creating) as creates, start_generators([telling]) as webhooks:
        await _both(server, creates, webhooks, min(_WARM_UP_SECONDS, seconds))
        for number in range(1, rounds + 1):
            plain.add(*await run_measured(server, creates, seconds))
            created, cost, told = await _both(server, creates, webhooks, seconds)
            beside.add(created, cost)
            delivered.add(told)
            run.on_progress("creates", number / rounds, f"{beside.rate:,.0f} of {plain.rate:,.0f} /s")
    return plain, beside, delivered


async def _both(
    server: Server, creates: Generators, webhooks: Generators, seconds: float
) -> tuple[Outcome, Cost, Outcome]:
    (created, cost), told = await asyncio.gather(
        run_measured(server, creates, seconds), webhooks.run(seconds)
    )
    return created, cost, told


def _webhook_load(server: Server, per_second: int | None) -> WebhookLoad:
    if server.admin_key is None:
        raise ServerFailed("webhooks needs a second organization: leave out --url, for a server of its own")
    return WebhookLoad(server.endpoint.host, server.endpoint.port, server.admin_key, per_second)
