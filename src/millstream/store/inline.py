"""What callers did inside transactions of their own and the server has yet to take note of."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from millstream.domain.message import NewMessage
from millstream.domain.topic import Priority, Topic
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("inline")
_TAKE_JOBS = _QUERIES["take_inline_jobs"].taking("limit")
_LOCK = _QUERIES["lock_staged_messages"].taking()
_TAKE_MESSAGES = _QUERIES["take_staged_messages"].taking("limit")

CHANNEL: Final = "millstream_inline"

_decode_headers = msgspec.json.Decoder(dict[str, str]).decode


class InlineJob(Struct, frozen=True, gc=False):
    """A job that a caller created; `delayed` if it has a time to wait for."""

    tenant_id: int
    id: UUID
    queue: str
    delayed: bool


class StagedMessage(Struct, frozen=True, gc=False):
    """A message that a caller published, and its topic if that still exists."""

    topic: Topic | None
    message: NewMessage


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
    return [
        StagedMessage(None if row["topic_id"] is None else _topic_of(row), _message_of(row))
        for row in await session.many(_TAKE_MESSAGES, limit)
    ]


def _topic_of(row: Row) -> Topic:
    return Topic(
        tenant_id=row["tenant_id"],
        id=row["topic_id"],
        name=row["name"],
        partitions=row["partitions"],
        retention_hours=row["retention_hours"],
        created_at=row["created_at"],
    )


def _message_of(row: Row) -> NewMessage:
    return NewMessage(
        value=row["value"],
        key=row["key"],
        partition=row["partition"],
        priority=Priority(row["priority"]),
        deliver_at=row["deliver_at"],
        headers=None if row["headers"] is None else _decode_headers(row["headers"]),
    )


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
