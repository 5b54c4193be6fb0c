"""Topics and their partitions. Contract: goqueue-messaging 3, 13."""

from typing import Final

import msgspec
from msgspec import UNSET

from millstream.api.goqueue import topic_bodies as bodies
from millstream.api.goqueue.bodies import TopicBody
from millstream.api.goqueue.parameters import topic_of
from millstream.api.goqueue.problems import status_of
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_timestamp
from millstream.domain.errors import BadRequest, Conflict, MillstreamError, NotFound, Unavailable
from millstream.domain.problems import message_of
from millstream.domain.tenant import Principal
from millstream.domain.topic import TopicStatus
from millstream.engine.engine import Engine

_CREATE: Final = TopicBody(bodies.CreateTopic)
_ADD_PARTITIONS: Final = TopicBody(bodies.AddPartitions)
_COMPACT: Final = TopicBody(bodies.Compact, required=False)
_encode = msgspec.json.Encoder().encode


class TopicEndpoints:
    """`/topics` and what administers them."""

    def __init__(self, engine: Engine) -> None:
        self._topics = engine.topics
        self._compaction = engine.compaction
        self._node_id = engine.topic_settings.node_id

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        topic = "/topics/{topic}"
        return [
            Endpoint(
                method="POST",
                path="/topics",
                handler=self.create,
                summary="Create a topic",
                tag="topics",
                body=_CREATE,
                answers={201: bodies.TopicCreated},
                errors=(BadRequest, Conflict, Unavailable),
            ),
            Endpoint(
                method="GET",
                path="/topics",
                handler=self.list,
                summary="List topics by name",
                tag="topics",
                answers={200: bodies.TopicNames},
            ),
            Endpoint(
                method="GET",
                path=topic,
                handler=self.get,
                summary="Get a topic and how far its partitions reach",
                tag="topics",
                answers={200: bodies.TopicDetails},
                errors=(NotFound,),
            ),
            Endpoint(
                method="DELETE",
                path=topic,
                handler=self.delete,
                summary="Delete a topic with its messages",
                tag="topics",
                answers={200: bodies.TopicDeleted},
                errors=(NotFound, Unavailable),
            ),
            Endpoint(
                method="GET",
                path=f"{topic}/partitions",
                handler=self.list_partitions,
                summary="Tell where partitions are kept",
                tag="topics",
                answers={200: bodies.PartitionPlaces},
                errors=(NotFound,),
            ),
            Endpoint(
                method="POST",
                path="/admin/topics/{topic}/partitions",
                handler=self.add_partitions,
                summary="Raise the number of partitions",
                tag="admin",
                body=_ADD_PARTITIONS,
                answers={200: bodies.PartitionsAdded},
                errors=(BadRequest, NotFound, Unavailable),
            ),
            Endpoint(
                method="GET",
                path="/admin/topics/{topic}/scaling-status",
                handler=self.scaling_status,
                summary="Tell whether partitions are being added",
                tag="admin",
                answers={200: bodies.ScalingStatus},
                errors=(NotFound,),
            ),
            Endpoint(
                method="POST",
                path="/admin/topics/{topic}/compact",
                handler=self.compact,
                summary="Keep the latest message of each key",
                tag="admin",
                body=_COMPACT,
                answers={200: bodies.Compacted},
                errors=(BadRequest, NotFound, Unavailable),
            ),
        ]

    async def create(self, request: Request) -> Response:
        """Create a topic."""
        body = _CREATE.read(request.body)
        partitions = body.partitions if body.num_partitions is None else body.num_partitions
        topic = await self._topics.create(
            request.principal, body.name or "", _given(partitions), _given(body.retention_hours)
        )
        return Response(201, _encode(bodies.TopicCreated(topic.name, topic.partitions)))

    async def list(self, request: Request) -> Response:
        """List topics."""
        return Response(200, _encode(bodies.TopicNames(await self._topics.list_names(request.principal))))

    async def get(self, request: Request) -> Response:
        """Get a topic."""
        status = await self._topics.describe(request.principal, topic_of(request))
        return Response(200, _encode(_details(status)))

    async def delete(self, request: Request) -> Response:
        """Delete a topic."""
        name = topic_of(request)
        await self._topics.delete(request.principal, name)
        return Response(200, _encode(bodies.TopicDeleted(name)))

    async def list_partitions(self, request: Request) -> Response:
        """Tell where partitions are kept: all of them here."""
        topic = await self._topics.get(request.principal, topic_of(request))
        here = [self._node_id]
        places = [
            bodies.PartitionPlace(partition=number, leader=self._node_id, replicas=here, isr=here)
            for number in range(topic.partitions)
        ]
        return Response(200, _encode(bodies.PartitionPlaces(topic.name, places)))

    async def add_partitions(self, request: Request) -> Response:
        """Raise the number of partitions. A refusal tells how many there are."""
        body = _ADD_PARTITIONS.read(request.body)
        name = topic_of(request)
        try:
            before, after = await self._topics.add_partitions(request.principal, name, body.count or 0)
        except (BadRequest, NotFound) as error:
            return await self._refuse_partitions(request.principal, name, error)
        return Response(
            200,
            _encode(
                bodies.PartitionsAdded(
                    success=True,
                    topic_name=name,
                    old_partition_count=before,
                    new_partition_count=after,
                    partitions_added=list(range(before, after)),
                )
            ),
        )

    async def _refuse_partitions(self, principal: Principal, name: str, error: MillstreamError) -> Response:
        try:
            count = (await self._topics.get(principal, name)).partitions
        except (BadRequest, NotFound):
            count = 0
        status = status_of(error)
        refusal = bodies.PartitionsAdded(
            success=False,
            topic_name=name,
            old_partition_count=count,
            new_partition_count=count,
            partitions_added=[],
            error=message_of(error),
            status=status,
        )
        return Response(status, _encode(refusal))

    async def scaling_status(self, request: Request) -> Response:
        """Tell whether partitions are being added."""
        topic = await self._topics.get(request.principal, topic_of(request))
        return Response(200, _encode(bodies.ScalingStatus(topic.name, scaling_in_progress=False)))

    async def compact(self, request: Request) -> Response:
        """Keep the latest message of each key."""
        body = _COMPACT.read(request.body)
        name = topic_of(request)
        dry_run = body.dry_run or False
        results = await self._compaction.compact(
            request.principal, name, partitions=body.partitions, dry_run=dry_run
        )
        answer = bodies.Compacted(
            success=True,
            topic=name,
            dry_run=dry_run,
            results=[
                bodies.CompactedPartition(
                    partition=result.partition,
                    records_before=result.records_before,
                    records_after=result.records_after,
                    records_removed=result.records_removed,
                    dirty_ratio=result.dirty_ratio,
                    error=UNSET if result.error is None else result.error,
                )
                for result in results
            ],
        )
        return Response(200, _encode(answer))


def _given(number: int | None) -> int | None:
    """Return a number that asks for something: 0 and less ask for the default."""
    return None if number is None or number <= 0 else number


def _details(status: TopicStatus) -> bodies.TopicDetails:
    topic = status.topic
    return bodies.TopicDetails(
        name=topic.name,
        partitions=topic.partitions,
        total_messages=sum(one.next_offset - one.log_start for one in status.partitions),
        total_size_bytes=sum(one.size_bytes for one in status.partitions),
        partition_offsets={
            str(one.partition): bodies.PartitionRange(one.log_start, one.next_offset - 1)
            for one in status.partitions
        },
        retention_hours=topic.retention_hours,
        created_at=format_timestamp(topic.created_at),
    )
