"""Every endpoint in scope, with a body that it accepts and the type of each field of that body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pytest

from tests.api.spooled.wire import UNKNOWN_ID

FieldType: TypeAlias = Literal["text", "integer", "number", "boolean", "time", "texts", "objects", "any"]


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    required: dict[str, FieldType] = field(default_factory=dict[str, FieldType])
    optional: dict[str, FieldType] = field(default_factory=dict[str, FieldType])
    # A body that passes every rule; `None` where the endpoint reads none.
    body: dict[str, object] | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


QUEUE = "table-queue"

WITH_BODY = [
    Endpoint(
        "POST",
        "/jobs",
        {"queue_name": "text", "payload": "any"},
        {
            "priority": "integer",
            "max_retries": "integer",
            "timeout_seconds": "integer",
            "scheduled_at": "time",
            "expires_at": "time",
            "idempotency_key": "text",
            "tags": "any",
            "parent_job_id": "text",
            "completion_webhook": "text",
            "completion_webhook_secret": "text",
        },
        {"queue_name": QUEUE, "payload": {}},
    ),
    Endpoint(
        "POST",
        "/jobs/bulk",
        {"queue_name": "text", "jobs": "objects"},
        {
            "default_priority": "integer",
            "default_max_retries": "integer",
            "default_timeout_seconds": "integer",
        },
        {"queue_name": QUEUE, "jobs": [{"payload": {}}]},
    ),
    Endpoint(
        "POST",
        "/jobs/claim",
        {"queue_name": "text", "worker_id": "text"},
        {"limit": "integer", "lease_duration_secs": "integer", "wait_seconds": "integer"},
        {"queue_name": "table-queue-without-jobs", "worker_id": "w"},
    ),
    Endpoint(
        "POST",
        f"/jobs/{UNKNOWN_ID}/complete",
        {"worker_id": "text"},
        {"lease_id": "text", "result": "any"},
        {"worker_id": "w"},
    ),
    Endpoint(
        "POST",
        f"/jobs/{UNKNOWN_ID}/fail",
        {"worker_id": "text", "error": "text"},
        {"lease_id": "text", "retry_in_seconds": "integer"},
        {"worker_id": "w", "error": "e"},
    ),
    Endpoint(
        "POST",
        f"/jobs/{UNKNOWN_ID}/heartbeat",
        {"worker_id": "text"},
        {"lease_id": "text", "lease_duration_secs": "integer"},
        {"worker_id": "w"},
    ),
    Endpoint("PUT", f"/jobs/{UNKNOWN_ID}/priority", {"priority": "integer"}, {}, {"priority": 1}),
    Endpoint(
        "POST",
        "/jobs/settle",
        {"items": "objects"},
        {"worker_id": "text"},
        {"worker_id": "w", "items": [{"job_id": UNKNOWN_ID, "action": "complete"}]},
    ),
    Endpoint(
        "POST",
        "/jobs/dlq/retry",
        {},
        {"job_ids": "texts", "queue_name": "text", "limit": "integer"},
        {"queue_name": "table-queue-without-jobs"},
    ),
    Endpoint(
        "POST",
        "/jobs/dlq/purge",
        {"confirm": "boolean"},
        {"queue_name": "text", "older_than": "time", "limit": "integer"},
        {"confirm": True, "queue_name": "table-queue-without-jobs"},
    ),
    Endpoint(
        "PUT",
        "/queues/table-queue/config",
        {},
        {
            "max_retries": "integer",
            "default_timeout": "integer",
            "rate_limit": "integer",
            "enabled": "boolean",
            "settings": "any",
            "retry_initial_seconds": "number",
            "retry_factor": "number",
            "retry_max_seconds": "number",
        },
        {"max_retries": 3},
    ),
    Endpoint("POST", "/queues/table-queue-paused/pause", {}, {"reason": "text"}, {"reason": "r"}),
    Endpoint(
        "POST",
        "/workers/register",
        {"queue_name": "text", "hostname": "text"},
        {
            "worker_id": "text",
            "worker_type": "text",
            "max_concurrency": "integer",
            "metadata": "any",
            "version": "text",
        },
        {"queue_name": QUEUE, "hostname": "h", "worker_id": "table-worker"},
    ),
    Endpoint(
        "POST",
        "/workers/table-worker-unknown/heartbeat",
        {"current_jobs": "integer"},
        {"status": "text", "metadata": "any"},
        {"current_jobs": 0},
    ),
    Endpoint(
        "POST",
        "/schedules",
        {
            "name": "text",
            "cron_expression": "text",
            "queue_name": "text",
            "payload_template": "any",
        },
        {
            "timezone": "text",
            "description": "text",
            "priority": "integer",
            "max_retries": "integer",
            "timeout_seconds": "integer",
            "tags": "any",
            "metadata": "any",
        },
        {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": QUEUE, "payload_template": {}},
    ),
    Endpoint(
        "PUT",
        f"/schedules/{UNKNOWN_ID}",
        {},
        {
            "name": "text",
            "cron_expression": "text",
            "timezone": "text",
            "description": "text",
            "payload_template": "any",
            "priority": "integer",
            "max_retries": "integer",
            "timeout_seconds": "integer",
            "tags": "any",
            "metadata": "any",
            "is_active": "boolean",
        },
        {"name": "s"},
    ),
    Endpoint(
        "POST",
        "/workflows",
        {"name": "text", "jobs": "objects"},
        {"description": "text", "metadata": "any"},
        {"name": "w", "jobs": [{"key": "k", "queue_name": QUEUE, "payload": {}}]},
    ),
    Endpoint(
        "POST",
        f"/jobs/{UNKNOWN_ID}/dependencies",
        {"depends_on": "texts"},
        # The mode is one of two words, and any other is 422.
        {},
        {"depends_on": [UNKNOWN_ID]},
    ),
    Endpoint(
        "POST", "/billing/portal", {"return_url": "text"}, {}, {"return_url": "https://example.com/account"}
    ),
    Endpoint(
        "POST",
        "/outgoing-webhooks",
        {"name": "text", "url": "text", "events": "texts"},
        {"secret": "text", "enabled": "boolean", "format": "text"},
        # Nothing fires this event here, so that nothing is sent.
        {"name": "w", "url": "https://hooks.invalid/x", "events": ["schedule.triggered"]},
    ),
    Endpoint(
        "PUT",
        f"/outgoing-webhooks/{UNKNOWN_ID}",
        {},
        {
            "name": "text",
            "url": "text",
            "events": "texts",
            "secret": "text",
            "enabled": "boolean",
            "format": "text",
        },
        {"name": "w"},
    ),
]

WITHOUT_BODY = [
    Endpoint("GET", "/jobs"),
    Endpoint("GET", f"/jobs/{UNKNOWN_ID}"),
    Endpoint("DELETE", f"/jobs/{UNKNOWN_ID}"),
    Endpoint("POST", f"/jobs/{UNKNOWN_ID}/retry"),
    Endpoint("POST", f"/jobs/{UNKNOWN_ID}/progress"),
    Endpoint("GET", f"/jobs/{UNKNOWN_ID}/history"),
    Endpoint("GET", "/jobs/stats"),
    Endpoint("GET", f"/jobs/status?ids={UNKNOWN_ID}"),
    Endpoint("GET", "/jobs/dlq"),
    Endpoint("GET", f"/jobs/{UNKNOWN_ID}/dependencies"),
    Endpoint("GET", "/workflows"),
    Endpoint("GET", f"/workflows/{UNKNOWN_ID}"),
    Endpoint("POST", f"/workflows/{UNKNOWN_ID}/cancel"),
    Endpoint("POST", f"/workflows/{UNKNOWN_ID}/retry"),
    Endpoint("GET", f"/workflows/{UNKNOWN_ID}/jobs"),
    Endpoint("GET", f"/workflows/{UNKNOWN_ID}/jobs/status"),
    Endpoint("GET", f"/workflows/{UNKNOWN_ID}/jobs/{UNKNOWN_ID}"),
    Endpoint("GET", "/dashboard"),
    Endpoint("GET", "/queues"),
    Endpoint("GET", "/queues/table-queue-unknown"),
    Endpoint("GET", "/queues/table-queue-unknown/stats"),
    Endpoint("POST", "/queues/table-queue-unknown/resume"),
    Endpoint("DELETE", "/queues/table-queue-unknown"),
    Endpoint("GET", "/api-keys"),
    Endpoint("GET", f"/api-keys/{UNKNOWN_ID}"),
    Endpoint("DELETE", f"/api-keys/{UNKNOWN_ID}"),
    Endpoint("GET", f"/organizations/{UNKNOWN_ID}/members"),
    Endpoint("GET", "/auth/me"),
    Endpoint("GET", "/schedules"),
    Endpoint("GET", f"/schedules/{UNKNOWN_ID}"),
    Endpoint("DELETE", f"/schedules/{UNKNOWN_ID}"),
    Endpoint("POST", f"/schedules/{UNKNOWN_ID}/pause"),
    Endpoint("POST", f"/schedules/{UNKNOWN_ID}/resume"),
    Endpoint("POST", f"/schedules/{UNKNOWN_ID}/trigger"),
    Endpoint("GET", f"/schedules/{UNKNOWN_ID}/history"),
    Endpoint("GET", "/workers"),
    Endpoint("GET", "/workers/table-worker-unknown"),
    Endpoint("GET", "/organizations/usage"),
    Endpoint("GET", f"/organizations/{UNKNOWN_ID}/usage"),
    Endpoint("POST", "/workers/table-worker-unknown/deregister"),
    Endpoint("DELETE", "/workers/table-worker-unknown"),
    Endpoint("GET", "/organizations"),
    Endpoint("GET", f"/organizations/{UNKNOWN_ID}"),
    Endpoint("DELETE", f"/organizations/{UNKNOWN_ID}"),
    Endpoint("GET", "/organizations/webhook-token"),
    Endpoint("POST", "/organizations/webhook-token/regenerate"),
    Endpoint("POST", "/organizations/webhook-token/clear"),
    Endpoint("GET", f"/organizations/{UNKNOWN_ID}/webhook-token"),
    Endpoint("POST", f"/organizations/{UNKNOWN_ID}/webhook-token/regenerate"),
    Endpoint("DELETE", f"/organizations/{UNKNOWN_ID}/webhook-token"),
    Endpoint("GET", "/billing/status"),
    Endpoint("GET", "/webhooks/deliveries"),
    Endpoint("GET", "/outgoing-webhooks"),
    Endpoint("GET", f"/outgoing-webhooks/{UNKNOWN_ID}"),
    Endpoint("DELETE", f"/outgoing-webhooks/{UNKNOWN_ID}"),
    Endpoint("POST", f"/outgoing-webhooks/{UNKNOWN_ID}/test"),
    Endpoint("GET", f"/outgoing-webhooks/{UNKNOWN_ID}/deliveries"),
    Endpoint("POST", f"/outgoing-webhooks/{UNKNOWN_ID}/retry/{UNKNOWN_ID}"),
    Endpoint("POST", f"/outgoing-webhooks/{UNKNOWN_ID}/deliveries/{UNKNOWN_ID}/retry"),
]

ALL = WITH_BODY + WITHOUT_BODY


def each(endpoints: list[Endpoint], *, fast_one_in: int = 1) -> pytest.MarkDecorator:
    """Run a test once for each endpoint; all but one in so many are slow tests."""
    return pytest.mark.parametrize(
        "endpoint",
        [
            pytest.param(endpoint, id=endpoint.name, marks=[pytest.mark.slow] if number % fast_one_in else [])
            for number, endpoint in enumerate(endpoints)
        ],
    )
