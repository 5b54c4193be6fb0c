"""Retention: expired messages leave the front of their logs, deleted topics go in the background."""

from millstream.domain import limits
from millstream.engine.context import Context
from millstream.store import log_retention


class LogRetention:
    """Shortens logs in bounded steps; every step is safe on several processes at once."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def prune(self) -> int:
        """Let each log begin with its first message that is not expired, and delete what lies before it.

        A message with a delay expires by the time of its delivery, and whatever is behind it waits for it. Payloads of
        leased messages stay. Returns how many batches of the fullest step went: after a full one there may be more.
        Contract: goqueue-messaging 14.9.
        """
        most = 0
        after: log_retention.PartitionKey = (0, 0, -1)
        while True:
            async with self._context.database.session() as session:
                starts = await log_retention.list_log_starts(
                    session, after=after, limit=limits.PRUNED_PARTITIONS_MAX, now=self._context.now()
                )
                moving = [start for start in starts if start.moves]
                if moving:
                    await log_retention.advance_log_starts(session, moving)
                shorter = [start.key for start in starts if start.moves or start.has_rest]
                if shorter:
                    most = max(
                        most,
                        await log_retention.prune(session, shorter, limit=limits.PRUNED_BATCHES_MAX),
                    )
            if len(starts) < limits.PRUNED_PARTITIONS_MAX:
                return most
            after = starts[-1].key

    async def remove_deleted(self) -> int:
        """Delete rows of deleted topics; returns how many went."""
        removed = 0
        async with self._context.database.session() as session:
            for tenant_id, topic_id in await log_retention.list_deleted_topics(
                session, limit=limits.PRUNED_PARTITIONS_MAX
            ):
                step = await log_retention.remove_topic_rows(
                    session, tenant_id, topic_id, limit=limits.PRUNED_BATCHES_MAX
                )
                if step == 0:
                    await log_retention.forget_topic(session, tenant_id, topic_id)
                removed += step
                if removed >= limits.PRUNED_BATCHES_MAX:
                    break
        return removed
