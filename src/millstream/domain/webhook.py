"""Outgoing webhooks: who is told of what, how it is signed, and when it is tried again."""

import hashlib
import hmac
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from millstream.domain.job import JobState

ATTEMPTS_DEFAULT = 5
# Consecutive failed deliveries after which a webhook is switched off. Contract: spooled-tenancy 10.7.
FAILURES_MAX = 20

REFUSED_URL = "Invalid webhook URL"
REQUEST_FAILED = "Request failed"
WEBHOOK_DISABLED = "Webhook disabled"


class WebhookEvent(IntEnum):
    """What webhooks can be told of; the numbers are stored."""

    JOB_CREATED = 1
    JOB_STARTED = 2
    JOB_COMPLETED = 3
    JOB_FAILED = 4
    JOB_CANCELLED = 5
    JOB_DEADLETTERED = 6
    JOB_RETRIED = 7
    QUEUE_PAUSED = 8
    QUEUE_RESUMED = 9
    WORKER_REGISTERED = 10
    WORKER_DEREGISTERED = 11
    SCHEDULE_TRIGGERED = 12
    WORKFLOW_COMPLETED = 13
    WORKFLOW_FAILED = 14
    TEST = 15
    """Sent on request only; nobody can subscribe to it."""

    @property
    def bit(self) -> int:
        """The event's place in a set of events."""
        return 1 << self.value


EVENT_NAMES: dict[WebhookEvent, str] = {
    WebhookEvent.JOB_CREATED: "job.created",
    WebhookEvent.JOB_STARTED: "job.started",
    WebhookEvent.JOB_COMPLETED: "job.completed",
    WebhookEvent.JOB_FAILED: "job.failed",
    WebhookEvent.JOB_CANCELLED: "job.cancelled",
    WebhookEvent.JOB_DEADLETTERED: "job.deadlettered",
    WebhookEvent.JOB_RETRIED: "job.retried",
    WebhookEvent.QUEUE_PAUSED: "queue.paused",
    WebhookEvent.QUEUE_RESUMED: "queue.resumed",
    WebhookEvent.WORKER_REGISTERED: "worker.registered",
    WebhookEvent.WORKER_DEREGISTERED: "worker.deregistered",
    WebhookEvent.SCHEDULE_TRIGGERED: "schedule.triggered",
    WebhookEvent.WORKFLOW_COMPLETED: "workflow.completed",
    WebhookEvent.WORKFLOW_FAILED: "workflow.failed",
    WebhookEvent.TEST: "webhook.test",
}
SUBSCRIBABLE = {name: event for event, name in EVENT_NAMES.items() if event is not WebhookEvent.TEST}


def events_set(*events: WebhookEvent) -> int:
    """Return a set of events as one number, which is quick to intersect."""
    mask = 0
    for event in events:
        mask |= event.bit
    return mask


class WebhookFormat(IntEnum):
    """What a delivery's body looks like; the numbers are stored."""

    JSON = 1
    SLACK = 2
    DISCORD = 3
    TEAMS = 4


class WebhookStatus(IntEnum):
    """How the last delivery of a webhook went; the numbers are stored."""

    SUCCESS = 1
    FAILED = 2
    AUTO_DISABLED = 3


class DeliveryStatus(IntEnum):
    """How a delivery stands; the numbers are stored."""

    PENDING = 1
    SUCCESS = 2
    FAILED = 3


class Webhook(Struct, frozen=True, kw_only=True):
    """A webhook without its secret, which is never shown. `failure_count` counts deliveries, not attempts."""

    id: UUID
    name: str
    url: str
    events: tuple[WebhookEvent, ...]
    format: WebhookFormat
    enabled: bool
    failure_count: int
    last_status: WebhookStatus | None
    last_triggered_at: datetime | None
    created_at: datetime
    updated_at: datetime


class NewWebhook(Struct, frozen=True, kw_only=True):
    """A webhook to be created, already validated but for its address."""

    name: str
    url: str
    events: tuple[WebhookEvent, ...]
    secret: str | None = None
    enabled: bool = True
    format: WebhookFormat = WebhookFormat.JSON


class WebhookChange(Struct, frozen=True, kw_only=True):
    """What to change of a webhook; None keeps. A `secret` of None clears it, UNSET keeps it."""

    name: str | None = None
    url: str | None = None
    events: tuple[WebhookEvent, ...] | None = None
    secret: str | None | UnsetType = UNSET
    enabled: bool | None = None
    format: WebhookFormat | None = None


class Delivery(Struct, frozen=True, kw_only=True):
    """What a webhook was, or is to be, told. `data` is a JSON text, `response_body` the cleaned head of the answer."""

    id: UUID
    webhook_id: UUID
    event: WebhookEvent
    data: str
    status: DeliveryStatus
    status_code: int | None
    response_body: str | None
    error: str | None
    attempts: int
    created_at: datetime
    delivered_at: datetime | None


class WebhookTrial(Struct, frozen=True, kw_only=True):
    """How the one attempt of a test went. `status_code` is None when nobody answered."""

    success: bool
    status_code: int | None
    response_time_ms: int
    error: str | None


class Retried(Struct, frozen=True, kw_only=True):
    """How an attempt out of turn went, and how its delivery stands now."""

    delivery_id: UUID
    success: bool
    status: DeliveryStatus
    error: str | None


STATUS_WORDS = {
    JobState.READY: "pending",
    JobState.SCHEDULED: "scheduled",
    JobState.RETRYING: "pending",
    JobState.BLOCKED: "pending",
    JobState.RUNNING: "processing",
    JobState.DEAD: "deadletter",
    JobState.COMPLETED: "completed",
    JobState.CANCELLED: "cancelled",
}
"""How receivers are told the state of a job."""


class JobNote(Struct, frozen=True, gc=False):
    """Something that just happened to a job, to be told to whom it interests.

    `state` is the job's after it. `worker_id` is given where the job's row no longer tells it.
    """

    tenant_id: int
    job_id: UUID
    event: WebhookEvent
    state: JobState
    worker_id: str | None = None


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return the value of `X-Spooled-Signature`. Contract: spooled-tenancy 10.7."""
    message = b"%d." % timestamp + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def retry_delay_seconds(attempts: int) -> int:
    """Return the pause after `attempts` failed attempts: 1, 2, 4, 8 … seconds. Contract: spooled-tenancy 10.7."""
    return 2 ** (attempts - 1)
