"""The relay between processes on one database: coalesced hints, and changes that reach every process.

Nothing depends on hints: claims look for themselves, beliefs end after a second, and each beat tells again who
listens and what was written. A process without fellows holds no line and sends nothing.
"""

import asyncio
import time
from itertools import count
from typing import TypeVar, assert_never
from uuid import UUID

import structlog

from millstream.domain import limits
from millstream.domain.errors import MillstreamError, Unavailable
from millstream.engine.context import Context
from millstream.engine.event_relay import EventRelay
from millstream.engine.hints import (
    Acknowledged,
    Changed,
    Hello,
    Hint,
    Listens,
    Outbox,
    Ping,
    Ready,
    Waits,
    Written,
    parse_message,
)
from millstream.store import relay
from millstream.store.relay import Line, OpenLine

BEAT_SECONDS = 1.0
# Several beats: one that comes late is no death.
LIVE_SECONDS = 5
FORGOTTEN_SECONDS = 60
# Between two sendings hints gather. Each is a transaction that other NOTIFYs of the database wait for.
GATHER_SECONDS = 0.003
SEND_SECONDS_MAX = 5.0
# Without a message of its own coming back for this long, a process sends one to see whether it does ...
PING_SECONDS = 3.0
# ... and without any for this long it opens another line.
SILENT_SECONDS = 8.0
RECONNECT_SECONDS_MIN = 0.1
RECONNECT_SECONDS_MAX = 5.0
# Ruling R25.
ACKNOWLEDGED_SECONDS_MAX = 1.0
# A queue is announced again while claims wait for it, and believed to be waited for a little longer.
WAITS_ANNOUNCED_SECONDS = 2.0
WAITS_BELIEVED_SECONDS = 5.0
LISTENS_BELIEVED_SECONDS = 5.0
EVENTS_KEPT_SECONDS = 60

K = TypeVar("K")
_Queue = tuple[int, str]
_log = structlog.get_logger(__name__)


class _Change:
    """A change of a tenant, and the processes that have not acknowledged it."""

    def __init__(self, tenant_id: int, missing: set[UUID]) -> None:
        self.tenant_id = tenant_id
        self.missing = missing
        self.done = asyncio.Event()


class Relay:
    """What one process tells its fellows and hears from them. `beat` does it all; take it every second."""

    def __init__(self, context: Context, open_line: OpenLine) -> None:
        self._context = context
        self._open_line = open_line
        self._me = context.process_id
        self._outbox = Outbox(self._me)
        self._events = EventRelay(context, self._outbox.put)
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = count(1)
        self._changes: dict[int, _Change] = {}
        self._heard_at = 0.0
        # Queues that other processes wait for and tenants that they listen to, each until when that is believed.
        self._waited_for: dict[_Queue, float] = {}
        self._listened_to: dict[int, float] = {}
        # Queues that this process has announced: when again, and those whose announcement has not come back yet.
        self._announced: dict[_Queue, float] = {}
        self._announcing: set[_Queue] = set()
        self.fellows: frozenset[UUID] = frozenset()
        self.is_connected = False
        context.invalidations.reach_others(self._reach_others)

    async def beat(self) -> None:
        """Note that this process lives and see which others do; with some, keep a line to them.

        Raises Unavailable; the fellows are then those of before.
        """
        async with self._context.database.session() as session:
            found = await relay.beat(
                session,
                self._me,
                listens_to=self._context.hub.tenants(),
                written=self._events.written,
                live_seconds=LIVE_SECONDS,
                forgotten_seconds=FORGOTTEN_SECONDS,
                now=self._context.now(),
            )
        self.fellows = frozenset(fellow.id for fellow in found)
        for fellow in found:
            for tenant_id in fellow.listens_to:
                self._believe_listener(tenant_id)
            self._events.note_written(fellow.id, fellow.written + 1, fellow.written)
        self._events.keep_only({*self.fellows})
        self._disbelieve()
        if self.fellows:
            self._join()
        else:
            await self._part()

    async def prune_events(self) -> int:
        """Delete a batch of events that everybody has had time to read; returns how many."""
        async with self._context.database.session() as session:
            return await relay.prune_events(
                session,
                kept_seconds=EVENTS_KEPT_SECONDS,
                limit=limits.PRUNED_ROWS_MAX,
                now=self._context.now(),
            )

    async def stop(self) -> None:
        """Let go of the line and of the place among the living."""
        await self._part()
        try:
            async with self._context.database.session() as session:
                await relay.leave(session, self._me)
        except MillstreamError as error:
            _log.info("this process is taken for alive for a while", reason=error.message)

    # With fellows and without

    def _join(self) -> None:
        if self._tasks:
            return
        self._context.wakeups.tell_others(spare=self._tell_ready, waits=self._tell_waits)
        self._context.hub.tell_others(forward=self._events.forward, subscribed=self._tell_listens)
        self._tasks = [
            asyncio.create_task(self._keep_line(), name="relay line"),
            asyncio.create_task(self._events.write(), name="relay event writer"),
            asyncio.create_task(self._events.read(), name="relay event reader"),
        ]

    async def _part(self) -> None:
        if not self._tasks:
            return
        self._context.wakeups.tell_others(spare=None, waits=None)
        self._context.hub.tell_others(forward=None, subscribed=None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._outbox.clear()
        self._waited_for.clear()
        self._listened_to.clear()
        self._context.hub.listened_elsewhere(())
        self._announced.clear()
        self._announcing.clear()

    def _disbelieve(self) -> None:
        now = time.monotonic()
        self._waited_for = _still_true(self._waited_for, now)
        self._listened_to = _still_true(self._listened_to, now)
        self._announced = _still_true(self._announced, now)
        self._announcing &= self._announced.keys()
        self._context.hub.listened_elsewhere(self._listened_to.keys())

    # The line

    async def _keep_line(self) -> None:
        pause = RECONNECT_SECONDS_MIN
        while True:
            lost = asyncio.Event()
            try:
                async with self._open_line(self._receive, lambda lost=lost: self._lose(lost)) as line:
                    pause = RECONNECT_SECONDS_MIN
                    self._greet()
                    await self._send(line, lost)
            except (MillstreamError, TimeoutError) as error:
                _log.info("no line to the other processes, polling", reason=str(error))
            except Exception:  # noqa: BLE001 - the outermost frame of a line
                _log.exception("the line to the other processes failed")
            finally:
                self.is_connected = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_SECONDS_MAX)

    def _lose(self, lost: asyncio.Event) -> None:
        lost.set()
        self._outbox.filled.set()

    def _greet(self) -> None:
        """Say what the others cannot know yet, in the place of hints that gathered while nobody could be told."""
        self._outbox.clear()
        self._outbox.put(Hello())
        self._tell_all()

    async def _send(self, line: Line, lost: asyncio.Event) -> None:
        self._heard_at = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._outbox.filled.wait()
            except TimeoutError:
                pass
            silent_seconds = time.monotonic() - self._heard_at
            if lost.is_set() or silent_seconds >= SILENT_SECONDS:
                raise Unavailable("the line is dead")
            if silent_seconds >= PING_SECONDS:
                self._outbox.put(Ping())
            messages = self._outbox.take(line.message_bytes_max)
            if messages:
                async with asyncio.timeout(SEND_SECONDS_MAX):
                    await line.send(messages)
            await asyncio.sleep(GATHER_SECONDS)

    # What is told

    def _tell_all(self) -> None:
        self._announced.clear()
        for tenant_id, queue in self._context.wakeups.waiting_queues():
            self._tell_waits(tenant_id, queue)
        for tenant_id in self._context.hub.tenants():
            self._tell_listens(tenant_id)
        for number, change in self._changes.items():
            self._outbox.put(Changed(number, change.tenant_id))

    def _tell_ready(self, tenant_id: int, queue: str, jobs: int) -> None:
        if (tenant_id, queue) in self._waited_for:
            self._outbox.put_ready(tenant_id, queue, jobs)

    def _tell_waits(self, tenant_id: int, queue: str) -> None:
        key = (tenant_id, queue)
        now = time.monotonic()
        again_at = self._announced.get(key)
        if again_at is not None and now < again_at:
            return
        if again_at is None:
            if len(self._announced) >= limits.RELAY_HINTS_MAX:
                return
            self._announcing.add(key)
        self._announced[key] = now + WAITS_ANNOUNCED_SECONDS
        self._outbox.put(Waits(tenant_id, queue))

    def _tell_listens(self, tenant_id: int) -> None:
        self._outbox.put(Listens(tenant_id))

    async def _reach_others(self, tenant_id: int) -> None:
        """Have every live process forget the tenant; returns when all have, or when nothing old is believed any more."""
        missing = await self._live_processes()
        if not missing:
            return
        number = next(self._numbers)
        change = self._changes[number] = _Change(tenant_id, missing)
        self._outbox.put(Changed(number, tenant_id))
        try:
            async with asyncio.timeout(ACKNOWLEDGED_SECONDS_MAX):
                await change.done.wait()
        except TimeoutError:
            _log.info("processes have not acknowledged a change in time", processes=len(change.missing))
        finally:
            del self._changes[number]

    async def _live_processes(self) -> set[UUID]:
        # Asked for anew: one that started a moment ago believes in what it has read since.
        try:
            async with self._context.database.session() as session:
                return await relay.list_live_processes(
                    session, self._me, live_seconds=LIVE_SECONDS, now=self._context.now()
                )
        except Unavailable:
            return {*self.fellows}

    # What is heard

    def _receive(self, text: str) -> None:
        message = parse_message(text)
        if message is None:
            return
        if message.sender == self._me:
            self._heard_at = time.monotonic()
            self.is_connected = True
            for hint in message.hints:
                if isinstance(hint, Waits):
                    self._look_once(hint)
            return
        for hint in message.hints:
            self._take(message.sender, hint)

    def _look_once(self, waits: Waits) -> None:
        # What was enqueued elsewhere before the announcement was heard there is found by looking now.
        key = (waits.tenant_id, waits.queue)
        if key in self._announcing:
            self._announcing.discard(key)
            self._context.wakeups.wake_here(waits.tenant_id, waits.queue)

    def _take(self, sender: UUID, hint: Hint) -> None:
        match hint:
            case Ready():
                self._context.wakeups.wake_here(hint.tenant_id, hint.queue, hint.jobs)
            case Waits():
                key = (hint.tenant_id, hint.queue)
                if key in self._waited_for or len(self._waited_for) < limits.RELAY_HINTS_MAX:
                    self._waited_for[key] = time.monotonic() + WAITS_BELIEVED_SECONDS
            case Listens():
                self._believe_listener(hint.tenant_id)
                self._context.hub.listened_elsewhere(self._listened_to.keys())
            case Changed():
                self._context.invalidations.forget(hint.tenant_id)
                self._outbox.put(Acknowledged(sender, hint.number))
            case Acknowledged():
                if hint.process_id == self._me:
                    self._note_acknowledged(sender, hint.number)
            case Written():
                self._events.note_written(sender, hint.first, hint.last)
            case Hello():
                self._tell_all()
            case Ping():
                pass
            case _:
                assert_never(hint)

    def _believe_listener(self, tenant_id: int) -> None:
        if tenant_id in self._listened_to or len(self._listened_to) < limits.RELAY_HINTS_MAX:
            self._listened_to[tenant_id] = time.monotonic() + LISTENS_BELIEVED_SECONDS

    def _note_acknowledged(self, process_id: UUID, number: int) -> None:
        change = self._changes.get(number)
        if change is not None:
            change.missing.discard(process_id)
            if not change.missing:
                change.done.set()


def _still_true(believed: dict[K, float], now: float) -> dict[K, float]:
    return {key: until for key, until in believed.items() if until > now}
