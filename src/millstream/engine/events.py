"""What happened, told to whoever listens within this process. Nothing depends on being told."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import Overloaded


class EventKind(StrEnum):
    """Kinds of events."""

    JOB_CREATED = "job_created"
    JOB_READY = "job_ready"
    JOB_CLAIMED = "job_claimed"
    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    JOB_DEAD = "job_dead"
    JOB_CANCELLED = "job_cancelled"
    JOB_RETRIED = "job_retried"
    QUEUE_PAUSED = "queue_paused"
    QUEUE_RESUMED = "queue_resumed"
    WORKER_REGISTERED = "worker_registered"
    WORKER_BEAT = "worker_beat"
    WORKER_DEREGISTERED = "worker_deregistered"


class Event(Struct, frozen=True, gc=False):
    """One thing that happened to a job, a queue or a worker of a tenant."""

    kind: EventKind
    tenant_id: int
    queue: str
    job_id: UUID | None = None
    worker_id: str | None = None


class Subscriber:
    """A bounded queue of events; one that falls behind is dropped and told so by `lagged`."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue(limits.SUBSCRIBER_EVENTS_MAX)
        self.lagged = False


class Hub:
    """Hands events to the subscribers of their tenant."""

    def __init__(self) -> None:
        self._subscribers: dict[int, set[Subscriber]] = {}
        self._count = 0

    def listens(self, tenant_id: int) -> bool:
        """Tell whether anybody listens for the tenant, so that nobody makes events in vain."""
        return tenant_id in self._subscribers

    def publish(self, event: Event) -> None:
        """Hand `event` to every subscriber of its tenant that keeps up."""
        for subscriber in tuple(self._subscribers.get(event.tenant_id, ())):
            try:
                subscriber.events.put_nowait(event)
            except asyncio.QueueFull:
                subscriber.lagged = True
                self._remove(event.tenant_id, subscriber)

    @contextmanager
    def subscribe(self, tenant_id: int) -> Generator[Subscriber]:
        """Listen to a tenant's events; raises Overloaded when too many do."""
        if self._count >= limits.SUBSCRIBERS_MAX:
            raise Overloaded
        subscriber = Subscriber()
        self._subscribers.setdefault(tenant_id, set()).add(subscriber)
        self._count += 1
        try:
            yield subscriber
        finally:
            self._remove(tenant_id, subscriber)

    def _remove(self, tenant_id: int, subscriber: Subscriber) -> None:
        found = self._subscribers.get(tenant_id)
        if found is None or subscriber not in found:
            return
        found.discard(subscriber)
        self._count -= 1
        if not found:
            del self._subscribers[tenant_id]
