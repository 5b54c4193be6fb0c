"""What a scenario is: a name, a target, and a function from a run's surroundings to a measurement."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.measurement import Cost
from millstream.cli.bench.progress import ProgressCallback
from millstream.cli.bench.server import Server


@dataclass(frozen=True)
class Target:
    """What PERFORMANCE asks of a quiet machine with two cores. None: nothing is asked."""

    rate_per_second: float | None = None
    yardstick_ratio: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    # Against the rate measured beside it in the same run (an empty table, no held transaction).
    baseline_ratio: float | None = None
    seconds_max: float | None = None

    def describe(self) -> str:
        """All of it in a line."""
        wanted = (
            ("≥ {:,g} /s", self.rate_per_second),
            ("≥ {:g} × yardstick", self.yardstick_ratio),
            ("≥ {:g} × baseline", self.baseline_ratio),
            ("p50 < {:g} ms", self.p50_ms),
            ("p99 < {:g} ms", self.p99_ms),
            ("< {:g} s", self.seconds_max),
        )
        return ", ".join(text.format(figure) for text, figure in wanted if figure is not None)


class Needs(Enum):
    """What has to run before a scenario can."""

    SERVER = auto()
    # The server's database too: scenarios that fill tables, hold transactions or use the engine directly.
    DATABASE = auto()
    NOTHING = auto()


@dataclass(frozen=True)
class Settings:
    """How a run was asked for. `seconds` is the length of the measured phase."""

    seconds: float
    connections: int
    processes: int
    server_processes: int | None
    smoke: bool


@dataclass(frozen=True)
class Measurement:
    """What one run of a scenario found."""

    items: int
    seconds: float
    # By operation; the first one named is the one the scenario is about.
    latencies: dict[str, LatencyHistogram]
    errors: int = 0
    error_examples: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    # Rate of the same work under plain conditions in the same run.
    baseline_per_second: float | None = None
    # For scenarios that measure a duration (`start`), not a rate.
    duration_seconds: float | None = None
    # What else was seen, and the sizes that were used.
    parameters: dict[str, str | int | float] = field(default_factory=dict[str, "str | int | float"])

    @property
    def rate_per_second(self) -> float:
        return self.items / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Run:
    """Surroundings of one run. `server` is None for scenarios that need nothing."""

    settings: Settings
    server: Server | None
    # Called with a step's name, the part of it that is done (0 to 1) and a figure to show.
    on_progress: ProgressCallback

    def require_server(self) -> Server:
        """The server. Raises AssertionError for a scenario that did not say it needs one."""
        assert self.server is not None, "the scenario's `needs` does not name a server"
        return self.server


@dataclass(frozen=True)
class Scenario:
    """One line of the table that `millstream bench --list` shows."""

    name: str
    summary: str
    item: str
    measure: Callable[[Run], Awaitable[Measurement]]
    target: Target
    needs: Needs = Needs.SERVER
    # Length of the measured phase when the caller names none.
    seconds: float = 10.0
    # Connections that make sense for it when the caller names none.
    connections: int = 64
