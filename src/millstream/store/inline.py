"""What callers did inside transactions of their own and the server has yet to take note of."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("inline")
_TAKE_JOBS = _QUERIES["take_inline_jobs"].taking("limit")
_LOCK = _QUERIES["lock_staged_messages"].taking()
_TAKE_MESSAGES = _QUERIES["take_staged_messages"].taking("limit")

CHANNEL: Final = "millstream_inline"


class InlineJob(Struct, frozen=True, gc=False):
    """A job that a caller created; `delayed` if it has a time to wait for."""

    tenant_id: int
    id: UUID
    queue: str
    delayed: bool


class StagedMessage(Struct, frozen=True, gc=False):
    """A message that a caller published. `headers` is a JSON text."""

    tenant_id: int
    id: int
    topic_id: int
    value: str
    key: str | None
    headers: str | None
    partition: int | None
    priority: int
    deliver_at: datetime | None


async def take_jobs(session: Session, *, limit: int) -> list[InlineJob]:
    """Take note of up to `limit` jobs, each once; the caller tells of them in the same transaction."""
    return [
        InlineJob(row["tenant_id"], row["id"], row["queue"], row["delayed"])
        for row in await session.many(_TAKE_JOBS, limit)
    ]


async def take_messages(session: Session, *, limit: int) -> list[StagedMessage]:
    """Take the first `limit` messages, in their order; none while another process does."""
    row = await session.one(_LOCK)
    if row is None or not row["locked"]:
        return []
    # A statement of its own: it sees what was committed before the lock was had.
    rows = await session.many(_TAKE_MESSAGES, limit)
    staged = [
        StagedMessage(
            row["tenant_id"],
            row["id"],
            row["topic_id"],
            row["value"],
            row["key"],
            row["headers"],
            row["partition"],
            row["priority"],
            row["deliver_at"],
        )
        for row in rows
    ]
    return sorted(staged, key=lambda message: message.id)


async def listen(
    direct: Callable[[], AbstractAsyncContextManager[Session]], heard: Callable[[], None]
) -> None:
    """Have `heard` called whenever a caller commits something; returns when the connection is lost.

    `direct` opens a session past any pooler. Raises Unavailable.
    """
    lost = asyncio.Event()
    async with direct() as session:
        try:
            await session.run("set application_name = 'millstream inline'")
            await session.listen(CHANNEL, lambda _: heard(), lost.set)
            # What was committed before is found by looking now.
            heard()
            await lost.wait()
        finally:
            session.abort()
