"""Batches of group commit, as other sessions see them."""

from millstream.store.database import Session

_LOCK_BATCH = "select pg_advisory_xact_lock($1)"


async def lock_batch(session: Session, batch_id: int) -> None:
    """Wait until the session that ran batch `batch_id` has ended its transaction."""
    await session.one(_LOCK_BATCH, batch_id)
