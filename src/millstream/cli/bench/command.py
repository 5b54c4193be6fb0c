"""The command `millstream bench`."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from cyclopts import App, Parameter, validators
from rich.console import Console

from millstream.cli.bench.load import GeneratorFailed
from millstream.cli.bench.machine import Machine, describe_machine
from millstream.cli.bench.postgres import PostgresToolFailed
from millstream.cli.bench.progress import ProgressBars
from millstream.cli.bench.report import Report, build_report, median_report, print_report
from millstream.cli.bench.scenario import Needs, Run, Scenario, Settings
from millstream.cli.bench.scenarios import SCENARIOS, find_scenario
from millstream.cli.bench.server import Server, ServerFailed, attach_server, start_server
from millstream.cli.bench.yardstick import measure_yardstick
from millstream.cli.failure import CommandFailed
from millstream.cli.output import Json, console, error_console, print_json, print_table

_YARDSTICK_SECONDS = 5
_SMOKE_SECONDS = 1.0
_SMOKE_CONNECTIONS = 8
_Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]

bench_app = App(
    name="bench",
    help="Measure a server under load, beside a yardstick of the same PostgreSQL.",
)


@dataclasses.dataclass(frozen=True)
class _Target:
    url: str | None
    api_key: str | None
    database_url: str | None
    server_processes: int | None


@bench_app.default
def bench(
    name: str | None = None,
    /,
    *,
    list_scenarios: Annotated[bool, Parameter(name="--list", negative=())] = False,
    seconds: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    connections: _Count | None = None,
    processes: _Count = 2,
    runs: _Count = 1,
    server_processes: _Count | None = None,
    url: str | None = None,
    api_key: str | None = None,
    database_url: str | None = None,
    json: Json = False,
    smoke: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run one scenario, or with --smoke all of them for about a second each.

    Without --url a server with an embedded PostgreSQL of its own is started in a temporary directory and
    removed afterwards. A server given with --url keeps the jobs that the run leaves behind: use one for tests.
    Exit status 0 means that everything ran and nothing was answered with an error; a missed target is
    reported, not punished, since it depends on the machine.

    Parameters
    ----------
    name
        The scenario; --list shows them.
    list_scenarios
        List the scenarios with their targets.
    seconds
        Length of the measured phase. Default: the scenario's own, 10 for most.
    connections
        Requests in flight. Default: the scenario's own, 64 for most.
    processes
        Load generator processes.
    runs
        Runs; the one with the median rate is reported.
    server_processes
        Processes of the server that is started. Default: the server's own.
    url
        A running server, http://host:port, instead of one of our own.
    api_key
        Its API key.
    database_url
        Its database, for the yardstick, PostgreSQL's CPU and the bytes of write-ahead log.
    json
        Print one JSON object per scenario, each on a line of its own, instead of tables.
    smoke
        Small sizes and about a second each: that it runs, not how fast.
    """
    if list_scenarios:
        print_table(
            ("scenario", "what it does", "targets on two quiet cores"),
            [(scenario.name, scenario.summary, scenario.target.describe()) for scenario in SCENARIOS],
            empty="",
        )
        return 0
    chosen = _choose(name, smoke=smoke)
    if (url is None) != (api_key is None):
        raise CommandFailed("--url and --api-key belong together")
    asked = [
        (
            scenario,
            Settings(
                seconds=seconds or (_SMOKE_SECONDS if smoke else scenario.seconds),
                connections=connections or (_SMOKE_CONNECTIONS if smoke else scenario.connections),
                processes=processes,
                server_processes=server_processes,
                smoke=smoke,
            ),
        )
        for scenario in chosen
    ]
    target = _Target(url, api_key, database_url, server_processes)
    try:
        return asyncio.run(_bench(asked, target, runs, json=json))
    except (ServerFailed, GeneratorFailed, PostgresToolFailed, OSError, ValueError) as error:
        message, _, details = str(error).partition("\n")
        raise CommandFailed(message or "a step took far longer than it was given", details or None) from error


def _choose(name: str | None, *, smoke: bool) -> Sequence[Scenario]:
    if name is None and smoke:
        return SCENARIOS
    remedy = "millstream bench --list shows them"
    if name is None:
        raise CommandFailed("which scenario?", remedy)
    scenario = find_scenario(name)
    if scenario is None:
        raise CommandFailed(f"there is no scenario {name!r}", remedy)
    return [scenario]


async def _bench(
    asked: Sequence[tuple[Scenario, Settings]], target: _Target, runs: int, *, json: bool
) -> int:
    clean = True
    machine = describe_machine()
    # With --json standard output belongs to programs.
    terminal = error_console if json else console
    async with _server_for([scenario for scenario, _ in asked], target, terminal) as server:
        for scenario, settings in asked:
            if scenario.needs is Needs.DATABASE and (server is None or server.postgres is None):
                raise ServerFailed(f"{scenario.name} needs the server's database: give --database-url")
            measured = [
                await _run_once(scenario, settings, server, terminal, machine=machine) for _ in range(runs)
            ]
            report = median_report(measured)
            clean = clean and all(run.errors == 0 and run.items > 0 for run in measured)
            if json:
                print_json(report)
            else:
                print_report(report, scenario, terminal)
    return 0 if clean else 1


async def _run_once(
    scenario: Scenario, settings: Settings, server: Server | None, terminal: Console, *, machine: Machine
) -> Report:
    with ProgressBars(terminal) as bars:
        yardstick = None
        if server is not None and server.postgres is not None and scenario.needs is not Needs.NOTHING:
            yardstick_seconds = 1 if settings.smoke else _YARDSTICK_SECONDS
            bars.note("yardstick", 0.0, f"pgbench, {yardstick_seconds} s")
            yardstick = await measure_yardstick(server.postgres, seconds=yardstick_seconds)
            bars.note("yardstick", 1.0, f"{yardstick:,.0f} /s")
        measurement = await scenario.measure(Run(settings, server, bars.note))
    return build_report(scenario, measurement, yardstick, machine)


@contextlib.asynccontextmanager
async def _server_for(
    scenarios: Sequence[Scenario], target: _Target, terminal: Console
) -> AsyncGenerator[Server | None]:
    """The server that all of `scenarios` share, or None when none of them needs one."""
    if all(scenario.needs is Needs.NOTHING for scenario in scenarios):
        yield None
    elif target.url is not None and target.api_key is not None:
        yield await attach_server(target.url, target.api_key, target.database_url)
    else:
        async with contextlib.AsyncExitStack() as stack:
            with terminal.status("starting a server"):
                server = await stack.enter_async_context(start_server(processes=target.server_processes))
            yield server
