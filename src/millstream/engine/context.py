"""What every use case works with."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from msgspec import Struct

from millstream.domain.clock import Clock
from millstream.domain.errors import AccessDenied
from millstream.domain.ids import IdSource
from millstream.domain.tenant import Principal
from millstream.engine.events import Event, EventKind, Hub
from millstream.engine.invalidations import Invalidations
from millstream.engine.outbox import Outbox
from millstream.engine.wakeups import Wakeups
from millstream.store.database import Database

BatchObserver = Callable[[int, float, int], None]
"""Is told of each statement of group commit: its rows, its seconds, and the rows that wait behind it."""


def _count_nothing(_: int = 1) -> None:
    return None


def _observe_nothing(_: Sequence[float]) -> None:
    return None


class JobMeters(Struct, frozen=True, kw_only=True):
    """Where the engine counts what it does; each counts nothing unless given."""

    enqueued: Callable[[int], None] = _count_nothing
    completed: Callable[[int], None] = _count_nothing
    failed: Callable[[int], None] = _count_nothing
    retried: Callable[[int], None] = _count_nothing
    dead: Callable[[int], None] = _count_nothing
    durations_seconds: Callable[[Sequence[float]], None] = _observe_nothing


def _observe_no_batch(_operation: str) -> BatchObserver | None:
    return None


class Context:
    """The database, the clock and the in-process fellows of one engine."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        meters: JobMeters | None = None,
        observe_batch: Callable[[str], BatchObserver | None] = _observe_no_batch,
    ) -> None:
        self.database = database
        self.clock = clock or Clock()
        self.ids = IdSource(self.clock)
        self.hub = Hub()
        self.wakeups = Wakeups()
        self.invalidations = Invalidations()
        self.outbox = Outbox(self.clock, self.invalidations)
        self.meters = meters or JobMeters()
        self.observe_batch = observe_batch
        self.process_id = uuid4()
        self.delayed_hint = asyncio.Event()
        self.workflows_changed = asyncio.Event()
        self._nothing_due_before = 0.0

    def now(self) -> datetime | None:
        """Return the steered time, or None for the database's own."""
        return self.clock.now()

    def delayed(self) -> None:
        """Hint that a job was given a time to wait for, maybe an earlier one than the timer knows."""
        self._nothing_due_before = 0.0
        self.delayed_hint.set()

    def note_next_due(self, seconds: float) -> None:
        """Note that the timer has looked, and that nothing becomes due for `seconds`."""
        self._nothing_due_before = time.monotonic() + seconds

    def may_be_due(self) -> bool:
        """Tell whether a waiting job may have become due since the timer looked; always so on a steered clock.

        What another process delays meanwhile is that process's timer's to promote.
        """
        return self.clock.now() is not None or time.monotonic() >= self._nothing_due_before

    def tell(self, kind: EventKind, tenant_id: int, queue: str, job_id: UUID | None = None) -> None:
        """Publish an event, if anybody listens for the tenant."""
        if self.hub.listens(tenant_id):
            self.hub.publish(Event(kind, tenant_id, queue, job_id))


def check_queue(principal: Principal, queue: str) -> None:
    """Raise AccessDenied unless the credential reaches `queue`."""
    if not principal.permits(queue):
        raise AccessDenied


def check_unrestricted(principal: Principal) -> None:
    """Raise AccessDenied unless the credential reaches all queues. Contract: spooled-tenancy 4.2."""
    if principal.queues is not None:
        raise AccessDenied
