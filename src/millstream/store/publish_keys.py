"""Idempotency keys of publishes, and what their messages were answered."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from millstream.domain.message import PublishedMessage, RefusedMessage
from millstream.domain.topic import Priority
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("publish_keys")
_CLAIM = _QUERIES["claim_publish_key"].taking("now", "tenant_id", "topic_id", "key", "seconds")
_KEEP = _QUERIES["keep_publish_results"].taking("tenant_id", "topic_id", "key", "results")
_PRUNE = _QUERIES["prune_publish_keys"].taking("now", "seconds", "limit")

Outcome = PublishedMessage | RefusedMessage


class _Kept(Struct, frozen=True, array_like=True):
    # An answer; an error has no place in the log.
    error: str | None
    partition: int = -1
    offset: int = -1
    priority: Priority = Priority.NORMAL
    deliver_at: datetime | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Kept])


async def claim_publish_key(
    session: Session, tenant_id: int, topic_id: int, key: str, *, seconds: int, now: datetime | None
) -> list[Outcome] | None:
    """Take a key for the publish of this transaction: None; or return what its messages were answered before."""
    row = await session.one(_CLAIM, now, tenant_id, topic_id, key, seconds)
    if row is None or not row["results"]:
        return None
    return [
        PublishedMessage(kept.partition, kept.offset, kept.priority, kept.deliver_at)
        if kept.error is None
        else RefusedMessage(kept.error)
        for kept in _DECODER.decode(row["results"])
    ]


async def keep_publish_results(
    session: Session, tenant_id: int, topic_id: int, key: str, outcomes: Sequence[Outcome]
) -> None:
    """Keep what the publish of this transaction is answered."""
    kept = [
        _Kept(outcome.error)
        if isinstance(outcome, RefusedMessage)
        else _Kept(None, outcome.partition, outcome.offset, outcome.priority, outcome.deliver_at)
        for outcome in outcomes
    ]
    await session.run(_KEEP, tenant_id, topic_id, key, _ENCODER.encode(kept))


async def prune_publish_keys(session: Session, *, seconds: int, limit: int, now: datetime | None) -> int:
    """Forget up to `limit` keys older than `seconds`; returns how many."""
    row = await session.one(_PRUNE, now, seconds, limit)
    return 0 if row is None else int(row["pruned"])
