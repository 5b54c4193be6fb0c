"""Metrics as a scraper reads them, of one process and of several."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from millstream.observe import metrics

# Contract: spooled-tenancy 13.4.
CONTRACT = {
    "spooled_jobs_enqueued_total": "counter",
    "spooled_jobs_completed_total": "counter",
    "spooled_jobs_failed_total": "counter",
    "spooled_jobs_retried_total": "counter",
    "spooled_jobs_deadlettered_total": "counter",
    "spooled_jobs_pending": "gauge",
    "spooled_jobs_processing": "gauge",
    "spooled_job_duration_seconds": "histogram",
    "spooled_job_max_age_seconds": "gauge",
    "spooled_api_requests_total": "counter",
    "spooled_api_request_duration_seconds": "histogram",
    "spooled_workers_active": "gauge",
    "spooled_workers_healthy": "gauge",
    "spooled_database_connections_active": "gauge",
    "spooled_redis_operations_total": "counter",
}
OURS = {
    "millstream_batch_rows": "histogram",
    "millstream_batch_seconds": "histogram",
    "millstream_batch_queue_rows": "gauge",
    "millstream_loop_runs_total": "counter",
    "millstream_events_dropped_total": "counter",
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def scraped(name: str, **labels: str) -> float:
    return samples_of(metrics.render_metrics()).get((name, tuple(sorted(labels.items()))), 0.0)


def test_every_metric_has_the_name_and_type_that_dashboards_expect() -> None:
    lines = metrics.render_metrics().decode().splitlines()

    for name, kind in (CONTRACT | OURS).items():
        assert f"# TYPE {name} {kind}" in lines
    assert metrics.CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


def test_the_metrics_of_the_contract_have_no_labels() -> None:
    names = {
        name
        for name, labels in samples_of(metrics.render_metrics())
        if not labels or dict(labels).keys() == {"le"}
    }

    for name, kind in CONTRACT.items():
        assert (f"{name}_count" if kind == "histogram" else name) in names


def test_nothing_is_declared_twice_or_beside_the_table() -> None:
    text = metrics.render_metrics().decode()
    declared = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]

    ours = [name for name in declared if not name.startswith(("process_", "python_"))]
    assert sorted(ours) == sorted(CONTRACT | OURS)
    assert len(declared) == len(set(declared))


@pytest.mark.parametrize(
    ("name", "buckets"),
    [
        ("spooled_job_duration_seconds", [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]),
        (
            "spooled_api_request_duration_seconds",
            [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
        ),
    ],
)
def test_the_buckets_are_those_of_the_contract(name: str, buckets: list[float]) -> None:
    found = [
        dict(labels)["le"]
        for sample, labels in samples_of(metrics.render_metrics())
        if sample == f"{name}_bucket"
    ]

    assert [float(bound) for bound in found] == [*buckets, float("inf")]


def test_process_and_runtime_metrics_are_included() -> None:
    names = {name for name, _ in samples_of(metrics.render_metrics())}

    assert {"process_start_time_seconds", "python_info", "python_gc_collections_total"} <= names


def test_an_api_request_is_counted_and_timed() -> None:
    requests = scraped("spooled_api_requests_total")
    fast = scraped("spooled_api_request_duration_seconds_bucket", le="0.005")
    slower = scraped("spooled_api_request_duration_seconds_bucket", le="0.01")

    metrics.count_api_request(0.007)

    assert scraped("spooled_api_requests_total") == requests + 1
    assert scraped("spooled_api_request_duration_seconds_bucket", le="0.005") == fast
    assert scraped("spooled_api_request_duration_seconds_bucket", le="0.01") == slower + 1


def test_a_batch_meter_counts_rows_time_and_queue_of_its_operation() -> None:
    meter = metrics.batch_meter("test_enqueue")

    meter.observe(rows=30, seconds=0.002, queue_rows=4)
    meter.observe(rows=20, seconds=0.002, queue_rows=3)

    assert metrics.batch_meter("test_enqueue") is meter
    assert scraped("millstream_batch_rows_sum", operation="test_enqueue") == 50
    assert scraped("millstream_batch_seconds_count", operation="test_enqueue") == 2
    assert scraped("millstream_batch_queue_rows", operation="test_enqueue") == 3


def test_a_loop_meter_counts_runs_by_how_they_ended() -> None:
    meter = metrics.loop_meter("test_reaper")

    meter.worked()
    meter.idle()
    meter.idle()
    meter.failed()

    counts = [
        scraped("millstream_loop_runs_total", loop="test_reaper", outcome=o)
        for o in ("worked", "idle", "failed")
    ]
    assert counts == [1, 2, 1]
    assert metrics.loop_meter("test_reaper") is meter


def test_output_beyond_its_limit_is_an_error_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics.METRICS_BYTES_MAX == 10 * 1024 * 1024
    monkeypatch.setattr(metrics, "METRICS_BYTES_MAX", 100)

    with pytest.raises(metrics.MetricsTooLarge):
        metrics.render_metrics()


CHILD = """
import sys
from millstream.observe import metrics
metrics.JOBS_ENQUEUED.inc(int(sys.argv[1]))
metrics.JOB_DURATION.observe(0.2)
metrics.loop_meter("reaper").worked()
metrics.JOBS_PENDING.set(int(sys.argv[1]))
metrics.DATABASE_CONNECTIONS_ACTIVE.set(int(sys.argv[1]))
print("counted", flush=True)
sys.stdin.readline()
"""

PARENT = """
import sys
from pathlib import Path
from millstream.config.load import share_metrics, shared_metrics_directory
share_metrics(Path(sys.argv[1]))
assert shared_metrics_directory() == Path(sys.argv[1])

import subprocess
children = []
for amount in ("2", "3"):
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], amount], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    children.append(child)

from millstream.observe import metrics
def answer():
    text = metrics.render_metrics()
    print(len(text), flush=True)
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
answer()
children[0].kill()
children[0].wait()
metrics.forget_process(children[0].pid)
answer()
children[1].communicate(b"done")
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Samples, Samples]]:
    """What the parent of two children answers while both run, and after the first was killed."""
    arguments = [sys.executable, "-c", PARENT, str(tmp_path_factory.mktemp("metrics")), CHILD]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            first = parent.stdout.read(int(parent.stdout.readline()))
            second = parent.stdout.read(int(parent.stdout.readline()))
            assert parent.wait(30) == 0
            yield samples_of(first), samples_of(second)
        finally:
            if parent.poll() is None:
                os.killpg(parent.pid, signal.SIGKILL)


def test_counts_of_several_processes_are_one_and_survive_a_process(shared: tuple[Samples, Samples]) -> None:
    for answer in shared:
        assert answer["spooled_jobs_enqueued_total", ()] == 5
        assert answer["spooled_job_duration_seconds_count", ()] == 2
        assert answer["spooled_job_duration_seconds_bucket", (("le", "0.1"),)] == 0
        assert answer["spooled_job_duration_seconds_bucket", (("le", "0.25"),)] == 2
        assert answer["millstream_loop_runs_total", (("loop", "reaper"), ("outcome", "worked"))] == 2
        assert answer["spooled_api_requests_total", ()] == 0
        assert ("process_start_time_seconds", ()) in answer


def test_what_processes_hold_is_added_and_ends_with_them(shared: tuple[Samples, Samples]) -> None:
    name = ("spooled_database_connections_active", ())

    assert [answer[name] for answer in shared] == [5, 3]


def test_what_the_database_says_is_its_newest_reading(shared: tuple[Samples, Samples]) -> None:
    name = ("spooled_jobs_pending", ())

    assert [answer[name] for answer in shared] == [3, 3]
