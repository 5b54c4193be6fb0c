import json
from dataclasses import replace

import pytest

from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.machine import Machine, describe_machine
from millstream.cli.bench.measurement import Cost
from millstream.cli.bench.report import CpuPerItem, LatencyMs, build_report, median_report
from millstream.cli.bench.scenario import Measurement, Run, Scenario, Target
from millstream.cli.output import print_json

MACHINE = Machine(
    cores=2, processor="a processor", memory_bytes=2**32, system="Linux 6", python="CPython 3.11"
)


async def _never_measured(run: Run) -> Measurement:
    raise AssertionError("only reported here")


def scenario(target: Target) -> Scenario:
    return Scenario("jobs-sample", "a sample", "job", _never_measured, target)


def measurement(*, items: int = 10_000, cost: Cost | None = None) -> Measurement:
    create, claim = LatencyHistogram(), LatencyHistogram()
    for _ in range(98):
        create.record(0.001)
    claim.record(0.004)
    claim.record(0.004)
    return Measurement(
        items=items,
        seconds=2.0,
        latencies={"create": create, "claim": claim},
        cost=cost or Cost(),
        parameters={"connections": 64},
    )


def test_the_json_line_has_the_promised_keys_and_figures(capsys: pytest.CaptureFixture[str]):
    cost = Cost(
        server_cpu_seconds=1.0, postgres_cpu_seconds=0.5, generator_cpu_seconds=0.25, wal_bytes=5_000_000
    )
    found = measurement(cost=cost)
    print_json(build_report(scenario(Target()), found, 10_000.0, MACHINE))
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    report = json.loads(line)
    assert report["scenario"] == "jobs-sample"
    assert report["rate_per_second"] == 5_000
    assert report["yardstick_per_second"] == 10_000
    assert report["latency_ms"] == {"p50": 1.0, "p95": 1.0, "p99": pytest.approx(4.0, rel=0.002)}
    assert report["parameters"] == {"connections": 64}
    assert report["machine"]["cores"] == 2
    assert report["cpu_us_per_item"] == {"server": 100.0, "postgres": 50.0, "generator": 25.0}
    assert report["wal_bytes_per_item"] == 500.0


def test_what_could_not_be_seen_is_null_and_never_zero():
    report = build_report(scenario(Target()), measurement(), None, MACHINE)
    assert report.yardstick_per_second is None
    assert report.wal_bytes_per_item is None
    assert report.cpu_us_per_item == CpuPerItem(server=None, postgres=None, generator=None)


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(rate_per_second=5_000), [True]),
        (Target(rate_per_second=5_001), [False]),
        (Target(yardstick_ratio=0.5), [True]),
        (Target(yardstick_ratio=0.51), [False]),
        (Target(baseline_ratio=0.9), [False]),
        (Target(p50_ms=1.5, p99_ms=3.0), [True, False]),
        (Target(seconds_max=3.0), [True]),
        (Target(), []),
    ],
)
def test_targets_are_judged_by_what_was_reached(target: Target, met: list[bool]):
    found = replace(measurement(), baseline_per_second=10_000.0, duration_seconds=2.9)
    report = build_report(scenario(target), found, 10_000.0, MACHINE)
    assert [verdict.met for verdict in report.targets] == met


def test_a_target_without_a_yardstick_is_not_judged():
    assert build_report(scenario(Target(yardstick_ratio=0.5)), measurement(), None, MACHINE).targets == []


def test_a_run_without_latencies_has_none():
    report = build_report(scenario(Target(p50_ms=5)), replace(measurement(), latencies={}), None, MACHINE)
    assert report.latency_ms == LatencyMs(None, None, None)
    assert report.targets == []


def test_a_run_without_items_is_reported():
    report = build_report(scenario(Target()), measurement(items=0, cost=Cost(wal_bytes=10)), 1.0, MACHINE)
    assert report.rate_per_second == 0
    assert report.wal_bytes_per_item is None


def test_several_runs_are_reported_by_the_one_with_the_median_rate():
    reports = [
        build_report(scenario(Target()), measurement(items=items), None, MACHINE)
        for items in (9_000, 2_000, 4_000)
    ]
    chosen = median_report(reports)
    assert chosen.items == 4_000
    assert chosen.runs == [4_500.0, 1_000.0, 2_000.0]


def test_this_machine_can_be_described():
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 0
    assert machine.processor
