"""What the parent tells a generator process and what it gets back: one JSON object a line."""

import msgspec

from millstream.cli.bench.conversation import ConversationPlan
from millstream.cli.bench.histogram import HistogramWire, LatencyHistogram


class HttpLoad(msgspec.Struct, frozen=True, tag="http"):
    """`connections` closed loops over HTTP, one request in flight on each."""

    host: str
    port: int
    api_key: str
    connections: int
    conversation: ConversationPlan


class WorkerLoad(msgspec.Struct, frozen=True, tag="worker"):
    """The client's worker runtime with no-op handlers, until the queue is drained; an item is a handled job.

    `jobs` is how many there are: fewer or more handled ones are errors.
    """

    url: str
    api_key: str
    queue: str
    concurrency: int
    jobs: int


class WakeUpLoad(msgspec.Struct, frozen=True, tag="wake_up"):
    """One waiting worker and one producer on an idle queue; the latency is from enqueue to the handler's start."""

    host: str
    port: int
    api_key: str
    queue: str


class EngineLoad(msgspec.Struct, frozen=True, tag="engine"):
    """The job lifecycle through the engine inside this process, on the database `dsn`."""

    dsn: str
    api_key: str
    queue: str
    concurrency: int


class FloodLoad(msgspec.Struct, frozen=True, tag="flood"):
    """`per_second` requests, each with another invented API key."""

    host: str
    port: int
    per_second: int
    connections: int


class WebhookLoad(msgspec.Struct, frozen=True, tag="webhook"):
    """An organization of its own that is told of each of its jobs; an item is a delivery that was received.

    `per_second` jobs are made; None: as many as are delivered.
    """

    host: str
    port: int
    admin_key: str
    per_second: int | None


LoadPlan = FloodLoad | HttpLoad | WorkerLoad | WakeUpLoad | EngineLoad | WebhookLoad


class Go(msgspec.Struct, frozen=True):
    """Order to run one phase of at most `seconds`."""

    seconds: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Everything is connected; a phase can begin."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Items finished since the phase began."""

    items: int


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """What one process saw in one phase. `seconds` and `cpu_seconds` are the phase's own."""

    items: int
    seconds: float
    cpu_seconds: float
    errors: int
    error_examples: list[str]
    latencies: dict[str, HistogramWire]


Message = Ready | Progress | Outcome


def merge(outcomes: list[Outcome]) -> Outcome:
    """One outcome for processes that ran side by side: the longest time, the sum of everything else."""
    latencies: dict[str, LatencyHistogram] = {}
    for outcome in outcomes:
        for operation, wire in outcome.latencies.items():
            latencies.setdefault(operation, LatencyHistogram()).merge(LatencyHistogram.from_wire(wire))
    return Outcome(
        items=sum(outcome.items for outcome in outcomes),
        seconds=max((outcome.seconds for outcome in outcomes), default=0.0),
        cpu_seconds=sum(outcome.cpu_seconds for outcome in outcomes),
        errors=sum(outcome.errors for outcome in outcomes),
        error_examples=[example for outcome in outcomes for example in outcome.error_examples][:5],
        latencies={operation: histogram.to_wire() for operation, histogram in latencies.items()},
    )
