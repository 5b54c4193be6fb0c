"""What happened, told to whoever listens, here or in another process. Nothing depends on being told."""

import asyncio
from collections.abc import Callable, Generator, Iterable
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
        self._elsewhere: frozenset[int] = frozenset()
        self._forward: Callable[[Event], None] | None = None
        self._subscribed: Callable[[int], None] | None = None

    def tell_others(
        self, *, forward: Callable[[Event], None] | None, subscribed: Callable[[int], None] | None
    ) -> None:
        """Have other processes told: `forward` of events that they listen to, `subscribed` of new listeners here."""
        self._forward = forward
        self._subscribed = subscribed

    def listened_elsewhere(self, tenant_ids: Iterable[int]) -> None:
        """Note which tenants' events other processes listen to."""
        self._elsewhere = frozenset(tenant_ids)

    def tenants(self) -> list[int]:
        """Return the tenants that somebody in this process listens to."""
        return list(self._subscribers)

    def listens(self, tenant_id: int) -> bool:
        """Tell whether anybody listens for the tenant, so that nobody makes events in vain."""
        return tenant_id in self._subscribers or tenant_id in self._elsewhere

    def publish(self, event: Event) -> None:
        """Hand `event` to every subscriber of its tenant that keeps up, in this process and in others."""
        self.publish_here(event)
        if self._forward is not None and event.tenant_id in self._elsewhere:
            self._forward(event)

    def publish_here(self, event: Event) -> None:
        """Hand `event` to the subscribers in this process."""
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
        if self._subscribed is not None:
            self._subscribed(tenant_id)
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
