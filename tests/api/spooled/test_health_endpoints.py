"""Contract: spooled-jobs 9; spooled-tenancy 13.1, 13.3; ruling R12, R13."""

from __future__ import annotations

import pytest

from tests.api.spooled.wire import UTC_MICROSECONDS, Api, LiveServer, a_queue, answered, refused

METRICS = [
    "spooled_jobs_enqueued_total",
    "spooled_jobs_completed_total",
    "spooled_jobs_failed_total",
    "spooled_jobs_retried_total",
    "spooled_jobs_deadlettered_total",
    "spooled_jobs_pending",
    "spooled_jobs_processing",
    "spooled_job_duration_seconds",
    "spooled_job_max_age_seconds",
    "spooled_api_requests_total",
    "spooled_api_request_duration_seconds",
    "spooled_workers_active",
    "spooled_workers_healthy",
    "spooled_database_connections_active",
]


def test_a_healthy_server_says_so(anonymous: Api) -> None:
    body = answered(anonymous.call("GET", "/health"))
    assert (body["status"], body["database"], body["cache"]) == ("healthy", True, True)
    assert UTC_MICROSECONDS.fullmatch(body["timestamp"])
    assert body.get("version") is None
    assert body.get("uptime_seconds") is None or type(body["uptime_seconds"]) is int


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_live_and_ready_answer_json(anonymous: Api, path: str) -> None:
    assert isinstance(answered(anonymous.call("GET", path)), dict)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_health_is_only_read(anonymous: Api, path: str) -> None:
    refused(anonymous.call("POST", path, {}), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_a_bad_credential_does_not_matter_to_health(anonymous: Api, path: str) -> None:
    answered(anonymous.call("GET", path, headers={"Authorization": "Bearer sk_test_nonsense"}))


def test_metrics_are_prometheus_text_with_the_names_of_the_dashboards(api: Api, server: LiveServer) -> None:
    api.complete(api.running())
    api.dead()
    api.enqueue(a_queue())
    url = server.metrics_url if server.metrics_url.endswith("/metrics") else f"{server.metrics_url}/metrics"
    response = api.http.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    announced = {line.split()[2] for line in response.text.splitlines() if line.startswith("# TYPE ")}
    assert announced >= set(METRICS)


def test_the_metrics_of_no_server_are_404(api: Api) -> None:
    refused(api.get("/metrics"), 404, "NOT_FOUND")
    refused(api.get("/metrics/prometheus"), 404, "NOT_FOUND")
