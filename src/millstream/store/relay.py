"""Between processes: who lives, the event log, and a line of messages over LISTEN and NOTIFY."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("relay")
_BEAT = _QUERIES["beat"].taking("now", "id", "listens_to", "written", "live_seconds", "forgotten_seconds")
_LIVE = _QUERIES["list_live_processes"].taking("now", "id", "live_seconds")
_LEAVE = _QUERIES["leave"].taking("id")
_WRITE = _QUERIES["write_events"].taking("now", "process_id", "tenant_ids", "numbers", "events")
_READ = _QUERIES["read_events"].taking("process_id", "tenant_ids", "after", "last", "limit")
_PRUNE = _QUERIES["prune_events"].taking("now", "kept_seconds", "limit")
_SEND = _QUERIES["send_hints"].taking("channel", "messages")

CHANNEL: Final = "millstream_relay"
# The server refuses payloads of 8,000 bytes and more.
NOTIFY_BYTES_MAX: Final = 7_999
# Losing the last hints in a crash of the database's machine is no loss: nobody waits for its disk.
_PREPARE = "set application_name = 'millstream relay'; set synchronous_commit = off"

Receive = Callable[[str], None]
"""Takes a message, the sender's own ones too."""


class Line(Protocol):
    """A line on which a message reaches every process that listens, unless it is lost."""

    @property
    def message_bytes_max(self) -> int:
        """The longest message."""
        ...

    async def send(self, messages: Sequence[str]) -> None:
        """Send `messages`, in order. Raises Unavailable."""
        ...


OpenLine = Callable[[Receive, Callable[[], None]], AbstractAsyncContextManager[Line]]
"""Opens a line: what takes its messages, and what is told when it is lost. Raises Unavailable."""


class Fellow(Struct, frozen=True):
    """Another process that lives: the tenants whose events it listens to, and how many events it has written."""

    id: UUID
    listens_to: list[int]
    written: int


async def beat(
    session: Session,
    process_id: UUID,
    *,
    listens_to: Sequence[int],
    written: int,
    live_seconds: int,
    forgotten_seconds: int,
    now: datetime | None,
) -> list[Fellow]:
    """Note that `process_id` lives; returns the others that said so within `live_seconds`."""
    rows = await session.many(_BEAT, now, process_id, listens_to, written, live_seconds, forgotten_seconds)
    return [Fellow(UUID(int=row["id"].int), row["listens_to"], row["written"]) for row in rows]


async def list_live_processes(
    session: Session, process_id: UUID, *, live_seconds: int, now: datetime | None
) -> set[UUID]:
    """Return the other processes that said within `live_seconds` that they live."""
    return {UUID(int=row["id"].int) for row in await session.many(_LIVE, now, process_id, live_seconds)}


async def leave(session: Session, process_id: UUID) -> None:
    """Note that `process_id` is gone."""
    await session.run(_LEAVE, process_id)


async def write_events(
    session: Session,
    process_id: UUID,
    events: Sequence[tuple[int, str]],
    *,
    first_number: int,
    now: datetime | None,
) -> None:
    """Append `events` (tenant, text), numbered from `first_number`."""
    await session.run(
        _WRITE,
        now,
        process_id,
        [tenant_id for tenant_id, _ in events],
        list(range(first_number, first_number + len(events))),
        [text for _, text in events],
    )


async def read_events(
    session: Session, process_id: UUID, tenant_ids: Sequence[int], *, after: int, last: int, limit: int
) -> list[tuple[int, str]]:
    """Return up to `limit` events (number, text) of a process for some tenants, those after a number."""
    rows = await session.many(_READ, process_id, tenant_ids, after, last, limit)
    return [(row["number"], row["event"]) for row in rows]


async def prune_events(session: Session, *, kept_seconds: int, limit: int, now: datetime | None) -> int:
    """Delete up to `limit` events older than `kept_seconds`; returns how many."""
    row = await session.one(_PRUNE, now, kept_seconds, limit)
    return 0 if row is None else int(row["pruned"])


class PostgresLine:
    """A line over NOTIFY, on a session of its own."""

    message_bytes_max = NOTIFY_BYTES_MAX

    def __init__(self, session: Session) -> None:
        self._session = session

    async def send(self, messages: Sequence[str]) -> None:
        """Send `messages` in one transaction."""
        await self._session.many(_SEND, CHANNEL, messages)


def postgres_line(direct: Callable[[], AbstractAsyncContextManager[Session]]) -> OpenLine:
    """Return what opens a line over the database.

    `direct` opens a session past any pooler: a pooler in transaction mode hands notifications to anybody.
    """

    @asynccontextmanager
    async def open_line(receive: Receive, lost: Callable[[], None]) -> AsyncGenerator[Line]:
        async with direct() as session:
            try:
                await session.run(_PREPARE)
                await session.listen(CHANNEL, receive, lost)
                yield PostgresLine(session)
            finally:
                # A line that fell silent would not answer a farewell.
                session.abort()

    return open_line
