"""The objects of the wire, field by field. Contract: spooled-jobs 1.5, 2."""

from __future__ import annotations

from typing import Literal, TypeAlias

from tests.api.spooled.wire import UTC_MICROSECONDS, JsonObject

Kind: TypeAlias = Literal["text", "integer", "boolean", "time", "number", "texts", "any"]
# Each field with its type and whether it may be null.
Shape: TypeAlias = dict[str, tuple[Kind, bool]]


def shape(**fields: str) -> Shape:
    """`name="time?"` is a nullable time; without the question mark null is a defect."""
    found: Shape = {}
    for name, kind in fields.items():
        bare: Kind = kind.rstrip("?")  # pyright: ignore[reportAssignmentType] - the tables below hold kinds only
        found[name] = (bare, kind.endswith("?"))
    return found


JOB = shape(
    id="text",
    organization_id="text",
    queue_name="text",
    status="text",
    payload="any",
    result="any?",
    retry_count="integer",
    max_retries="integer",
    last_error="text?",
    created_at="time",
    updated_at="time",
    scheduled_at="time?",
    started_at="time?",
    completed_at="time?",
    expires_at="time?",
    priority="integer",
    tags="any?",
    timeout_seconds="integer",
    parent_job_id="text?",
    completion_webhook="text?",
    idempotency_key="text?",
    workflow_id="text?",
    assigned_worker_id="text?",
    lease_id="text?",
    lease_expires_at="time?",
    dependency_mode="text?",
    dependencies_met="boolean?",
)
JOB_SUMMARY = shape(
    id="text",
    queue_name="text",
    status="text",
    priority="integer",
    created_at="time",
    retry_count="integer",
    attempt="integer",
    max_retries="integer",
    job_type="text",
    last_error="text?",
    scheduled_at="time?",
    started_at="time?",
    completed_at="time?",
)
CLAIMED_JOB = shape(
    id="text",
    queue_name="text",
    payload="any",
    retry_count="integer",
    max_retries="integer",
    timeout_seconds="integer",
    lease_expires_at="time",
    lease_id="text",
)
HISTORY_EVENT = shape(
    id="text", job_id="text", event_type="text", worker_id="text?", details="any", created_at="time"
)
QUEUE_SUMMARY = shape(
    queue_name="text",
    max_retries="integer",
    default_timeout="integer",
    rate_limit="integer?",
    enabled="boolean",
)
QUEUE_CONFIG = QUEUE_SUMMARY | shape(
    id="text", organization_id="text", settings="any", created_at="time", updated_at="time"
)
QUEUE_STATS = shape(
    queue_name="text",
    pending_jobs="integer",
    processing_jobs="integer",
    completed_jobs_24h="integer",
    failed_jobs_24h="integer",
    avg_processing_time_ms="number?",
    max_job_age_seconds="integer?",
    active_workers="integer",
)
WORKER = shape(
    id="text",
    queue_name="text",
    hostname="text",
    queue_names="texts",
    organization_id="text",
    worker_type="text?",
    version="text?",
    max_concurrency="integer",
    max_concurrent_jobs="integer",
    current_jobs="integer",
    current_job_count="integer",
    status="text",
    last_heartbeat="time",
    metadata="any",
    registered_at="time",
    created_at="time",
    updated_at="time",
    jobs_processed="integer",
    jobs_failed="integer",
)
BATCH_STATUS = shape(
    id="text",
    status="text",
    queue_name="text",
    retry_count="integer",
    created_at="time",
    completed_at="time?",
)
WEBHOOK = shape(
    id="text",
    organization_id="text",
    name="text",
    url="text",
    events="texts",
    format="text",
    enabled="boolean",
    failure_count="integer",
    last_triggered_at="time?",
    last_status="text?",
    created_at="time",
    updated_at="time",
)
DELIVERY = shape(
    id="text",
    webhook_id="text",
    event="text",
    payload="any",
    status="text",
    status_code="integer?",
    response_body="text?",
    error="text?",
    attempts="integer",
    created_at="time",
    delivered_at="time?",
)
JOB_STATS = shape(
    pending="integer",
    scheduled="integer",
    processing="integer",
    completed="integer",
    failed="integer",
    deadletter="integer",
    cancelled="integer",
    total="integer",
)


def is_kind(value: object, kind: Kind) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "integer":
            return type(value) is int
        case "number":
            return type(value) in (int, float)
        case "boolean":
            return isinstance(value, bool)
        case "time":
            return isinstance(value, str) and UTC_MICROSECONDS.fullmatch(value) is not None
        case "texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "any":
            return True


def conforms(value: JsonObject, expected: Shape) -> JsonObject:
    """Every field there, of its type, and null only where null is allowed; other fields may be beside them."""
    assert expected.keys() <= value.keys(), f"missing: {expected.keys() - value.keys()}"
    wrong = {
        name: value[name]
        for name, (kind, nullable) in expected.items()
        if not (is_kind(value[name], kind) or (nullable and value[name] is None))
    }
    assert not wrong
    return value
