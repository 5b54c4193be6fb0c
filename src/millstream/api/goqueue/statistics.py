"""What is counted of messages and deliveries. Contract: goqueue-messaging 11."""

import msgspec

from millstream.api.goqueue import statistics_bodies as bodies
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_timestamp
from millstream.domain.duration import format_seconds
from millstream.domain.message_statistics import (
    PartitionPriorities,
    PriorityStatistics,
    ReliabilityStatistics,
)
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine

_encode = msgspec.json.Encoder().encode


class StatisticsEndpoints:
    """`/reliability/stats` and `/priority/stats`."""

    def __init__(self, engine: Engine) -> None:
        self._statistics = engine.message_statistics

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/reliability/stats",
                handler=self.reliability,
                summary="Count acknowledgements, leases and dead letters",
                tag="statistics",
                answers={200: bodies.ReliabilityStatistics},
            ),
            Endpoint(
                method="GET",
                path="/priority/stats",
                handler=self.priority,
                summary="Count messages by priority",
                tag="statistics",
                answers={200: bodies.PriorityStatistics},
            ),
        ]

    async def reliability(self, request: Request) -> Response:
        """Count acknowledgements, leases and dead letters."""
        counted = await self._statistics.reliability(request.principal)
        return Response(200, _encode(_reliability(counted)))

    async def priority(self, request: Request) -> Response:
        """Count messages by priority."""
        return Response(200, _encode(_priorities(await self._statistics.priorities(request.principal))))


def _reliability(counted: ReliabilityStatistics) -> bodies.ReliabilityStatistics:
    return bodies.ReliabilityStatistics(
        acks_total=counted.acks,
        nacks_total=counted.nacks,
        rejects_total=counted.rejects,
        dlq_messages=counted.dead_letters,
        visibility_extensions=counted.extensions,
        ack_manager=bodies.AckManager(
            total_acks=counted.acks,
            total_nacks=counted.nacks,
            total_rejects=counted.rejects,
            total_expired=counted.expired,
            total_retries=counted.retries,
            total_dlq=counted.dead_lettered,
            current_queued=counted.queued,
        ),
        visibility_tracker=bodies.VisibilityTracker(
            total_tracked=counted.deliveries,
            current_in_flight=counted.in_flight,
            total_expired=counted.expired,
            total_acked=counted.acks,
            total_extended=counted.extensions,
        ),
        dlq=bodies.DeadLetterRouting(
            total_routed=counted.dead_lettered,
            routes_by_reason=dict(counted.dead_lettered_by_reason),
            routes_by_topic=dict(counted.dead_lettered_by_topic),
        ),
    )


def _priorities(counted: PriorityStatistics) -> bodies.PriorityStatistics:
    words = [priority.word for priority in Priority]
    return bodies.PriorityStatistics(
        messages_by_priority=dict(zip(words, counted.messages, strict=True)),
        avg_wait_time_by_priority={
            word: format_seconds(seconds) for word, seconds in zip(words, counted.wait_seconds, strict=True)
        },
        total_by_priority=list(counted.messages),
        topics={
            topic: bodies.TopicPriorities(
                total_by_priority=[
                    sum(totals) for totals in zip(*(one.total for one in partitions.values()), strict=True)
                ],
                partitions={str(number): _partition(one) for number, one in sorted(partitions.items())},
            )
            for topic, partitions in sorted(counted.topics.items())
        },
    )


def _partition(counted: PartitionPriorities) -> bodies.PriorityCounts:
    return bodies.PriorityCounts(
        pending=list(counted.pending),
        consumed=list(counted.consumed),
        total=list(counted.total),
        oldest_pending=[
            "" if oldest is None else format_timestamp(oldest) for oldest in counted.oldest_pending
        ],
    )
