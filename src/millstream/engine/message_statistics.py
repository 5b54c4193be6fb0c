"""Statistics of messages and deliveries. Contract: goqueue-messaging 11."""

from millstream.domain.message_statistics import (
    PartitionPriorities,
    PriorityStatistics,
    ReliabilityStatistics,
)
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.store import message_counters, message_statistics


class MessageStatistics:
    """What a tenant's messages and deliveries come to."""

    def __init__(self, context: Context, settings: TopicSettings) -> None:
        self._context = context
        self._settings = settings

    async def reliability(self, principal: Principal) -> ReliabilityStatistics:
        """Return what became of deliveries. Contract: goqueue-messaging 11.1."""
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            sums = await message_statistics.sum_counters(session, tenant_id)
            current = await message_statistics.count_current(
                session, tenant_id, self._settings.dead_letter_suffix
            )
        by_reason = _by_subject(sums, message_counters.BURIED_FOR)
        return ReliabilityStatistics(
            acks=sums.get((message_counters.ACKED, ""), 0),
            nacks=sums.get((message_counters.NACKED, ""), 0),
            rejects=sums.get((message_counters.REJECTED, ""), 0),
            extensions=sums.get((message_counters.EXTENDED, ""), 0),
            expired=sums.get((message_counters.EXPIRED, ""), 0),
            retries=sums.get((message_counters.RETRIED, ""), 0),
            deliveries=sums.get((message_counters.DELIVERED, ""), 0),
            in_flight=current.in_flight,
            queued=current.queued,
            dead_letters=current.dead_letters,
            dead_lettered=sum(by_reason.values()),
            dead_lettered_by_reason=by_reason,
            dead_lettered_by_topic=_by_subject(sums, message_counters.BURIED_FROM),
        )

    async def priorities(self, principal: Principal) -> PriorityStatistics:
        """Return what is retained of each priority, and how long it waited. Contract: goqueue-messaging 11.2."""
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            sums = await message_statistics.sum_counters(session, tenant_id)
            rows = await message_statistics.list_priorities(session, tenant_id)
        topics: dict[str, dict[int, PartitionPriorities]] = {}
        for row in rows:
            pending = [total - consumed for total, consumed in zip(row.total, row.consumed, strict=True)]
            topics.setdefault(row.topic, {})[row.partition] = PartitionPriorities(
                pending=pending,
                consumed=row.consumed,
                total=row.total,
                oldest_pending=[
                    at if count else None for at, count in zip(row.oldest_at, pending, strict=True)
                ],
            )
        return PriorityStatistics(
            messages=[sum(row.total[priority] for row in rows) for priority in Priority],
            wait_seconds=[_mean_wait(sums, priority) for priority in Priority],
            topics=topics,
        )


def _by_subject(sums: dict[tuple[int, str], int], kind: int) -> dict[str, int]:
    return {subject: amount for (of_kind, subject), amount in sums.items() if of_kind == kind}


def _mean_wait(sums: dict[tuple[int, str], int], priority: Priority) -> float:
    subject = str(int(priority))
    count = sums.get((message_counters.FIRST_DELIVERED, subject), 0)
    return sums.get((message_counters.WAITED_US, subject), 0) / count / 1_000_000 if count else 0.0
