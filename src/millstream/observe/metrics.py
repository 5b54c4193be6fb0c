"""Every metric of the server, declared once. Contract: spooled-tenancy 13.4.

Names of the contract carry no labels, as existing dashboards sum and alert on them as they are. Labels of our own
metrics take values from the code only, never from a tenant.

With several processes each counts into memory-mapped files of one directory (the library's own multi-process mode,
turned on by `config.load.share_metrics`), and whichever process is scraped adds them up. That way the main port's
`/metrics`, which any child may answer, is as complete as the metrics port's, no count is lost with a child that dies,
and nothing has to ask another process. It costs about a microsecond more an increment than counting in memory.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import Final

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,  # pyright: ignore[reportUnknownVariableType]  # the library does not annotate it
)

from millstream.config.load import shared_metrics_directory

METRICS_BYTES_MAX: Final = 10 * 1024 * 1024
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# The library's creation times would double the number of series, and are left out with several processes anyway.
disable_created_metrics()

_REGISTRY: Final = CollectorRegistry()


class MetricsTooLarge(Exception):
    """The metrics exceed 10 MiB"""


def render_metrics() -> bytes:
    """Return all metrics in the text format (`CONTENT_TYPE`), those of all processes when they are shared.

    `process_*` and `python_*` describe the process that answers. Raises MetricsTooLarge above 10 MiB.
    Contract: spooled-tenancy 12.1, 13.3.
    """
    directory = shared_metrics_directory()
    if directory is None:
        registry = _REGISTRY
    else:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(directory))
    text = generate_latest(registry) + generate_latest(_PROCESS_REGISTRY)
    if len(text) > METRICS_BYTES_MAX:
        raise MetricsTooLarge
    return text


def forget_process(pid: int) -> None:
    """Stop reporting what a process that ended has in use; what it counted stays counted."""
    directory = shared_metrics_directory()
    if directory is not None:
        mark_process_dead(pid, path=str(directory))


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once, for what is observed of every row of a batch."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Count each of `amounts`."""
        if not amounts:
            return
        counts: dict[int, int] = {}
        for amount in amounts:
            place = bisect_left(self._upper_bounds, amount)
            counts[place] = counts.get(place, 0) + 1
        # The library does not annotate its values.
        self._sum.inc(sum(amounts))  # pyright: ignore[reportUnknownMemberType]
        for place, count in counts.items():
            self._buckets[place].inc(count)  # pyright: ignore[reportUnknownMemberType]


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(name, meaning, labels, registry=_REGISTRY)


def _gauge_of_the_database(name: str, meaning: str) -> Gauge:
    """Declare a gauge that one process reads from the database for all: the newest reading is the true one."""
    return Gauge(name, meaning, registry=_REGISTRY, multiprocess_mode="mostrecent")


def _gauge_of_each_process(name: str, meaning: str, *labels: str) -> Gauge:
    """Declare a gauge to which every living process adds its own."""
    return Gauge(name, meaning, labels, registry=_REGISTRY, multiprocess_mode="livesum")


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> BulkHistogram:
    return BulkHistogram(name, meaning, labels, buckets=buckets, registry=_REGISTRY)


# Contract: spooled-tenancy 13.4.
JOBS_ENQUEUED: Final = _counter("spooled_jobs_enqueued_total", "Jobs accepted by any route.")
JOBS_COMPLETED: Final = _counter("spooled_jobs_completed_total", "Jobs completed.")
JOBS_FAILED: Final = _counter("spooled_jobs_failed_total", "Failed attempts of jobs.")
JOBS_RETRIED: Final = _counter(
    "spooled_jobs_retried_total", "Jobs put back for another attempt, after a lease ran out too."
)
JOBS_DEADLETTERED: Final = _counter("spooled_jobs_deadlettered_total", "Jobs that became dead letters.")
JOBS_PENDING: Final = _gauge_of_the_database("spooled_jobs_pending", "Jobs that wait to be claimed.")
JOBS_PROCESSING: Final = _gauge_of_the_database("spooled_jobs_processing", "Jobs that a worker holds.")
JOB_DURATION: Final = _histogram(
    "spooled_job_duration_seconds",
    "Time from claim to completion.",
    (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
JOB_MAX_AGE: Final = _gauge_of_the_database(
    "spooled_job_max_age_seconds", "Age of the oldest pending or scheduled job; 0 without any."
)
API_REQUESTS: Final = _counter("spooled_api_requests_total", "API requests answered.")
API_REQUEST_DURATION: Final = _histogram(
    "spooled_api_request_duration_seconds",
    "Time from an API request to its answer.",
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
WORKERS_ACTIVE: Final = _gauge_of_the_database(
    "spooled_workers_active", "Workers with a heartbeat in the last two minutes."
)
WORKERS_HEALTHY: Final = _gauge_of_the_database(
    "spooled_workers_healthy", "Active workers that call themselves healthy."
)
DATABASE_CONNECTIONS_ACTIVE: Final = _gauge_of_each_process(
    "spooled_database_connections_active", "Pool connections in use."
)
REDIS_OPERATIONS: Final = _counter("spooled_redis_operations_total", "Cache operations.")

# Ours.
EVENTS_DROPPED: Final = _counter(
    "millstream_events_dropped_total", "Events not delivered to a subscriber that was too slow."
)
_LOOP_RUNS: Final = _counter(
    "millstream_loop_runs_total", "Runs of a background loop, by how they ended.", "loop", "outcome"
)
_BATCH_ROWS: Final = _histogram(
    "millstream_batch_rows",
    "Rows that one statement of group commit changed.",
    (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    "operation",
)
_BATCH_SECONDS: Final = _histogram(
    "millstream_batch_seconds",
    "Time of one statement of group commit, commit included.",
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    "operation",
)
_BATCH_QUEUE_ROWS: Final = _gauge_of_each_process(
    "millstream_batch_queue_rows", "Rows that wait for the next statement of group commit.", "operation"
)


class BatchMeter:
    """The batch metrics of one operation of group commit, looked up once."""

    __slots__ = ("_queue_rows", "_rows", "_seconds")

    def __init__(self, operation: str) -> None:
        self._rows = _BATCH_ROWS.labels(operation)
        self._seconds = _BATCH_SECONDS.labels(operation)
        self._queue_rows = _BATCH_QUEUE_ROWS.labels(operation)

    def observe(self, *, rows: int, seconds: float, queue_rows: int) -> None:
        """Count one statement: the rows in it, its time, and the rows that queued up behind it."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)
        self._queue_rows.set(queue_rows)


class LoopMeter:
    """The run counters of one background loop, looked up once."""

    __slots__ = ("_failed", "_idle", "_worked")

    def __init__(self, loop: str) -> None:
        self._worked = _LOOP_RUNS.labels(loop, "worked")
        self._idle = _LOOP_RUNS.labels(loop, "idle")
        self._failed = _LOOP_RUNS.labels(loop, "failed")

    def worked(self) -> None:
        """Count a run that changed something."""
        self._worked.inc()

    def idle(self) -> None:
        """Count a run that found nothing to do."""
        self._idle.inc()

    def failed(self) -> None:
        """Count a run that raised."""
        self._failed.inc()


@cache
def batch_meter(operation: str) -> BatchMeter:
    """Return the meter of an operation. Its name becomes a label: a fixed word of ours."""
    return BatchMeter(operation)


@cache
def loop_meter(loop: str) -> LoopMeter:
    """Return the meter of a loop. Its name becomes a label: a fixed word of ours."""
    return LoopMeter(loop)


def count_api_request(seconds: float) -> None:
    """Count one answered API request and its time."""
    API_REQUESTS.inc()
    API_REQUEST_DURATION.observe(seconds)


# A registry of their own: the multi-process collector replaces the other one, and these describe one process anyway.
_PROCESS_REGISTRY: Final = CollectorRegistry()
for _collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    _PROCESS_REGISTRY.register(_collector)
