"""Cost of a measured phase: CPU seconds of everyone who takes part, and bytes of write-ahead log."""

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from millstream.cli.bench.load import Generators, ProgressCallback
from millstream.cli.bench.plan import Outcome
from millstream.cli.bench.process_cpu import tree_cpu_seconds
from millstream.cli.bench.server import Server

_T = TypeVar("_T")


@dataclass(frozen=True)
class Cost:
    """What a phase used. None where it cannot be seen from here."""

    server_cpu_seconds: float | None = None
    postgres_cpu_seconds: float | None = None
    generator_cpu_seconds: float | None = None
    wal_bytes: int | None = None


async def run_measured(
    server: Server, generators: Generators, seconds: float, on_progress: ProgressCallback | None = None
) -> tuple[Outcome, Cost]:
    """Run one phase and measure what it cost."""
    outcome, cost = await with_cost(server, generators.run(seconds, on_progress))
    return outcome, replace(cost, generator_cpu_seconds=outcome.cpu_seconds)


async def with_cost(server: Server, work: Awaitable[_T]) -> tuple[_T, Cost]:
    """Await `work` and measure what it cost, whoever generates the load."""
    before = await _read_meters(server)
    outcome = await work
    after = await _read_meters(server)
    return outcome, Cost(
        server_cpu_seconds=_difference(before.server_cpu_seconds, after.server_cpu_seconds),
        postgres_cpu_seconds=_difference(before.postgres_cpu_seconds, after.postgres_cpu_seconds),
        wal_bytes=None
        if before.wal_bytes is None or after.wal_bytes is None
        else after.wal_bytes - before.wal_bytes,
    )


class _Meters(NamedTuple):
    server_cpu_seconds: float | None
    postgres_cpu_seconds: float | None
    wal_bytes: int | None


async def _read_meters(server: Server) -> _Meters:
    wal_bytes = None if server.postgres is None else await server.postgres.wal_bytes()
    return _Meters(
        server_cpu_seconds=None
        if server.pid is None
        else tree_cpu_seconds(server.pid, without=server.postmaster_pid),
        postgres_cpu_seconds=None
        if server.postmaster_pid is None
        else tree_cpu_seconds(server.postmaster_pid),
        wal_bytes=wal_bytes,
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
