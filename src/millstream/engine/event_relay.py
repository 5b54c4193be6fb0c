"""Events for subscribers in other processes: through a short-lived log, of which a hint tells the position.

Each process numbers what it writes and writes in that order, so that who has read up to a number has missed nothing
below it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog

from millstream.domain import limits
from millstream.domain.errors import MillstreamError
from millstream.engine.context import Context
from millstream.engine.events import Event
from millstream.engine.hints import Hint, Written
from millstream.observe.metrics import EVENTS_DROPPED
from millstream.store import relay

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode


class EventRelay:
    """Writes this process's events for others, and hands theirs to the subscribers here."""

    def __init__(self, context: Context, tell: Callable[[Hint], None]) -> None:
        self._context = context
        self._tell = tell
        self.written = 0
        self._to_write: deque[Event] = deque()
        self._has_events = asyncio.Event()
        # Of each other process: up to where its events were read, and up to where there are some.
        self._read_to: dict[UUID, int] = {}
        self._known_to: dict[UUID, int] = {}
        self._has_news = asyncio.Event()

    def forward(self, event: Event) -> None:
        """Have `event` written; dropped when too many wait already."""
        if len(self._to_write) >= limits.RELAY_EVENTS_MAX:
            EVENTS_DROPPED.inc()
            return
        self._to_write.append(event)
        self._has_events.set()

    def note_written(self, process_id: UUID, first: int, last: int) -> None:
        """Note that a process has written the events from `first` to `last`; one met anew is read from there."""
        self._read_to.setdefault(process_id, first - 1)
        known_to = self._known_to[process_id] = max(last, self._known_to.get(process_id, 0))
        if self._read_to[process_id] < known_to:
            self._has_news.set()

    def keep_only(self, processes: set[UUID]) -> None:
        """Forget the processes that are gone."""
        for process_id in self._read_to.keys() - processes:
            del self._read_to[process_id]
            self._known_to.pop(process_id, None)

    async def write(self) -> None:
        """Write events as they come, until cancelled. What cannot be written is dropped."""
        while True:
            await self._has_events.wait()
            self._has_events.clear()
            while self._to_write:
                count = min(len(self._to_write), limits.EVENT_LOG_ROWS_MAX)
                events = [self._to_write.popleft() for _ in range(count)]
                try:
                    await self._write(events)
                except MillstreamError as error:
                    EVENTS_DROPPED.inc(len(events))
                    _log.info("events not passed on", events=len(events), reason=error.message)

    async def _write(self, events: list[Event]) -> None:
        rows = [(event.tenant_id, _encode(event).decode()) for event in events]
        first = self.written + 1
        # Never twice, even when it is unknown whether they were written.
        self.written += len(rows)
        async with self._context.database.session() as session:
            await relay.write_events(
                session, self._context.process_id, rows, first_number=first, now=self._context.now()
            )
        self._tell(Written(first, self.written))

    async def read(self) -> None:
        """Hand on the events of others as they become known, until cancelled."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            for process_id in list(self._known_to):
                try:
                    await self._read(process_id)
                except MillstreamError as error:
                    # The next beat tells of them again.
                    _log.info("events of another process not read", reason=error.message)

    async def _read(self, process_id: UUID) -> None:
        while process_id in self._known_to and self._read_to[process_id] < self._known_to[process_id]:
            last = self._known_to[process_id]
            tenant_ids = self._context.hub.tenants()
            if not tenant_ids:
                self._read_to[process_id] = last
                return
            async with self._context.database.session() as session:
                found = await relay.read_events(
                    session,
                    process_id,
                    tenant_ids,
                    after=self._read_to[process_id],
                    last=last,
                    limit=limits.EVENT_LOG_ROWS_MAX,
                )
            for _, text in found:
                self._publish(text)
            is_full = len(found) == limits.EVENT_LOG_ROWS_MAX
            self._read_to[process_id] = found[-1][0] if is_full else last

    def _publish(self, text: str) -> None:
        try:
            event = _decode_event(text)
        except msgspec.MsgspecError:
            # A kind that only a newer version knows.
            return
        self._context.hub.publish_here(event)
