"""Consumer groups over HTTP: how fast members settle what was published before."""

from dataclasses import replace

from millstream.cli.bench.group_plans import SettleMessages
from millstream.cli.bench.load import start_generators
from millstream.cli.bench.log_plans import PublishMessages
from millstream.cli.bench.measurement import run_measured
from millstream.cli.bench.progress import timed
from millstream.cli.bench.scenario import Measurement, Run
from millstream.cli.bench.scenarios.jobs import http_plans, to_measurement
from millstream.cli.bench.scenarios.topic_log import new_topic

_PER_PUBLISH = 1_000
_PER_POLL = 500
_PER_POLL_SINGLY = 100
# Members have to join before anything can be measured: theirs is the time that the joins are gathered.
_WARM_UP_SECONDS = 1.0


async def measure_group(run: Run) -> Measurement:
    """Members poll 500 messages at a time and acknowledge them together, two partitions each."""
    return await _measure(run, per_second=100_000, singly=False)


async def measure_single_acks(run: Run) -> Measurement:
    """Members acknowledge every message by a request of its own, a partition each."""
    return await _measure(run, per_second=1_000 if run.settings.smoke else 12_000, singly=True)


async def _measure(run: Run, *, per_second: int, singly: bool) -> Measurement:
    server, settings = run.require_server(), run.settings
    topic = await new_topic(run, settings.connections * (1 if singly else 2))
    messages = per_second * (settings.seconds + _WARM_UP_SECONDS)
    requests = max(1, round(messages / _PER_PUBLISH / settings.connections))
    fill = PublishMessages(topic, _PER_PUBLISH, requests)
    async with start_generators(http_plans(server, settings, fill)) as generators:
        filled = await generators.run(
            settings.seconds * 10, timed(run.on_progress, "filling", settings.seconds)
        )
    consume = SettleMessages(topic, f"{topic}-group", _PER_POLL_SINGLY if singly else _PER_POLL, singly)
    async with start_generators(http_plans(server, settings, consume)) as generators:
        warm_up = await generators.run(min(_WARM_UP_SECONDS, settings.seconds / 2))
        on_progress = timed(run.on_progress, "measuring", settings.seconds)
        outcome, cost = await run_measured(server, generators, settings.seconds, on_progress)
    measured = to_measurement(outcome, cost, members=settings.connections, messages=filled.items)
    return replace(
        measured,
        errors=measured.errors + filled.errors + warm_up.errors,
        error_examples=(*measured.error_examples, *filled.error_examples, *warm_up.error_examples),
    )
