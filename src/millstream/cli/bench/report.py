"""What a run found, as a table for people and as one JSON object for programs."""

from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.table import Table

from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.machine import Machine
from millstream.cli.bench.scenario import Measurement, Scenario


class LatencyMs(msgspec.Struct, frozen=True):
    """Percentiles in milliseconds; None when no single request was timed."""

    p50: float | None
    p95: float | None
    p99: float | None


class CpuPerItem(msgspec.Struct, frozen=True):
    """CPU microseconds per item; None where it could not be seen."""

    server: float | None
    postgres: float | None
    generator: float | None


class Verdict(msgspec.Struct, frozen=True):
    """One target and what was reached."""

    target: str
    reached: float
    met: bool


class Report(msgspec.Struct, frozen=True):
    """The JSON object of one run. Rates are items per second; `yardstick_per_second` is pgbench's."""

    scenario: str
    rate_per_second: float
    yardstick_per_second: float | None
    latency_ms: LatencyMs
    parameters: dict[str, str | int | float]
    machine: Machine
    cpu_us_per_item: CpuPerItem
    wal_bytes_per_item: float | None
    latency_ms_by_operation: dict[str, LatencyMs]
    baseline_per_second: float | None
    duration_seconds: float | None
    items: int
    seconds: float
    errors: int
    error_examples: list[str]
    targets: list[Verdict]
    # Rates of all runs when there were several; the report is the one with the median rate.
    runs: list[float] = []


def build_report(
    scenario: Scenario, measurement: Measurement, yardstick: float | None, machine: Machine
) -> Report:
    """Put together what was measured and judge it against the scenario's target."""
    overall = LatencyHistogram()
    for histogram in measurement.latencies.values():
        overall.merge(histogram)
    cost, items = measurement.cost, measurement.items
    latency = _percentiles(overall)
    return Report(
        scenario=scenario.name,
        rate_per_second=round(measurement.rate_per_second, 3),
        yardstick_per_second=None if yardstick is None else round(yardstick, 1),
        latency_ms=latency,
        parameters=measurement.parameters,
        machine=machine,
        cpu_us_per_item=CpuPerItem(
            server=_per_item(cost.server_cpu_seconds, items, 1e6),
            postgres=_per_item(cost.postgres_cpu_seconds, items, 1e6),
            generator=_per_item(cost.generator_cpu_seconds, items, 1e6),
        ),
        wal_bytes_per_item=_per_item(cost.wal_bytes, items, 1),
        latency_ms_by_operation={
            operation: _percentiles(histogram) for operation, histogram in measurement.latencies.items()
        },
        baseline_per_second=_rounded(measurement.baseline_per_second),
        duration_seconds=_rounded(measurement.duration_seconds),
        items=items,
        seconds=round(measurement.seconds, 3),
        errors=measurement.errors,
        error_examples=list(measurement.error_examples),
        targets=list(_judge(scenario, measurement, yardstick, latency)),
    )


def median_report(reports: list[Report]) -> Report:
    """The report of the run with the median rate (the lower of two), with the rates of all runs."""
    by_rate = sorted(reports, key=lambda report: report.rate_per_second)
    middle = by_rate[(len(by_rate) - 1) // 2]
    if len(reports) == 1:
        return middle
    return msgspec.structs.replace(middle, runs=[report.rate_per_second for report in reports])


def print_report(report: Report, scenario: Scenario, console: Console) -> None:
    """Draw the report as a table."""
    table = Table(title=f"{scenario.name}: {scenario.summary}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for label, figure, remark in _lines(report, scenario.item):
        table.add_row(label, figure, remark)
    console.print(table)
    for example in report.error_examples:
        console.print(f"  error: {example}", style="red", markup=False, highlight=False)


def _lines(report: Report, item: str) -> Iterable[tuple[str, str, str]]:
    if report.duration_seconds is not None:
        yield "duration", f"{report.duration_seconds:.3f} s", f"median of {report.items}"
    else:
        yield (
            "rate",
            f"{report.rate_per_second:,.0f} /s",
            f"{report.items:,} {item}s in {report.seconds:.1f} s",
        )
    if report.runs:
        yield "all runs", ", ".join(f"{rate:,.0f}" for rate in report.runs), "this table is the median run"
    if report.yardstick_per_second:
        ratio = report.rate_per_second / report.yardstick_per_second
        yield "yardstick", f"{report.yardstick_per_second:,.0f} /s", f"pgbench; ratio {ratio:.2f}"
    if report.baseline_per_second:
        ratio = report.rate_per_second / report.baseline_per_second
        yield "baseline", f"{report.baseline_per_second:,.0f} /s", f"plain conditions; ratio {ratio:.2f}"
    for operation, latency in report.latency_ms_by_operation.items():
        figures = (latency.p50, latency.p95, latency.p99)
        text = " / ".join("-" if figure is None else f"{figure:.2f}" for figure in figures)
        yield f"latency, {operation}", f"{text} ms", "p50 / p95 / p99"
    cpu = report.cpu_us_per_item
    for who, microseconds in (
        ("server", cpu.server),
        ("PostgreSQL", cpu.postgres),
        ("load generator", cpu.generator),
    ):
        if microseconds is not None:
            yield f"CPU, {who}", f"{microseconds:,.1f} µs", f"per {item}"
    if report.wal_bytes_per_item is not None:
        yield "write-ahead log", f"{report.wal_bytes_per_item:,.0f} bytes", f"per {item}"
    for name, setting in report.parameters.items():
        yield name.replace("_", " "), f"{setting:,}" if isinstance(setting, int) else str(setting), ""
    yield "errors", f"{report.errors:,}", ""
    for verdict in report.targets:
        yield f"target {verdict.target}", f"{verdict.reached:,.2f}", "met" if verdict.met else "NOT met"


def _judge(
    scenario: Scenario, measurement: Measurement, yardstick: float | None, latency: LatencyMs
) -> Iterable[Verdict]:
    target, rate = scenario.target, measurement.rate_per_second
    to_yardstick = rate / yardstick if yardstick else None
    baseline = measurement.baseline_per_second
    to_baseline = rate / baseline if baseline else None
    goals = (
        ("rate per second", target.rate_per_second, rate, True),
        ("ratio to yardstick", target.yardstick_ratio, to_yardstick, True),
        ("ratio to baseline", target.baseline_ratio, to_baseline, True),
        ("p50 ms", target.p50_ms, latency.p50, False),
        ("p99 ms", target.p99_ms, latency.p99, False),
        ("seconds", target.seconds_max, measurement.duration_seconds, False),
    )
    for name, wanted, reached, at_least in goals:
        if wanted is not None and reached is not None:
            met = reached >= wanted if at_least else reached < wanted
            yield Verdict(f"{name} {'≥' if at_least else '<'} {wanted:,g}", round(reached, 3), met)


def _percentiles(histogram: LatencyHistogram) -> LatencyMs:
    if histogram.count == 0:
        return LatencyMs(None, None, None)
    return LatencyMs(*(round(histogram.percentile(percent) * 1000, 3) for percent in (50, 95, 99)))


def _per_item(amount: float | None, items: int, scale: float) -> float | None:
    return None if amount is None or not items else round(amount * scale / items, 1)


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)
