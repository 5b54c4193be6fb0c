"""Topics and consumer groups of a server, as the commands need them."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from millstream.api.goqueue.delivery_bodies import AckedMany, PolledMessages, Positions, PositionsReset
from millstream.api.goqueue.group_bodies import GroupDetails, Groups, Joined, Left
from millstream.api.goqueue.message_bodies import Published, ReadPage
from millstream.api.goqueue.topic_bodies import TopicCreated, TopicDeleted, TopicDetails, TopicNames
from millstream.client import Retries
from millstream.client._async.transport import AsyncTransport

_TIMEOUT_SECONDS = 30.0


class TopicsApi:
    """A connection to the topics of one server. Every call may raise ApiError or ConnectionFailed."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._transport = AsyncTransport(
            url.rstrip("/"), api_key, timeout_seconds=_TIMEOUT_SECONDS, retries=Retries()
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def list_names(self) -> list[str]:
        """Return the names of all topics."""
        return (await self._transport.call(TopicNames, "GET", "/topics")).topics

    async def create(self, name: str, partitions: int | None, retention_hours: int | None) -> TopicCreated:
        """Create a topic."""
        body = {"name": name, "num_partitions": partitions, "retention_hours": retention_hours}
        return await self._transport.call(TopicCreated, "POST", "/topics", body=body)

    async def describe(self, topic: str) -> TopicDetails:
        """Return a topic and how far its partitions reach."""
        return await self._transport.call(TopicDetails, "GET", _topic(topic))

    async def delete(self, topic: str) -> TopicDeleted:
        """Delete a topic with its messages."""
        return await self._transport.call(TopicDeleted, "DELETE", _topic(topic))

    async def publish(self, topic: str, messages: Sequence[Mapping[str, object]]) -> Published:
        """Publish messages; each is accepted or refused by itself."""
        return await self._transport.call(
            Published, "POST", f"{_topic(topic)}/messages", body={"messages": messages}
        )

    async def read(
        self, topic: str, partition: int, *, offset: int, limit: int, order: str, wait_seconds: int = 0
    ) -> ReadPage:
        """Read messages, waiting for the first if there is none yet."""
        params = {"offset": str(offset), "limit": str(limit), "order": order, "wait": f"{wait_seconds}s"}
        return await self._transport.call(
            ReadPage,
            "GET",
            f"{_topic(topic)}/partitions/{partition}/messages",
            params=params,
            wait_seconds=wait_seconds,
        )

    async def list_groups(self) -> Groups:
        """Return all consumer groups."""
        return await self._transport.call(Groups, "GET", "/groups")

    async def describe_group(self, group: str) -> GroupDetails:
        """Return a group and its members."""
        return await self._transport.call(GroupDetails, "GET", _group(group))

    async def positions(self, group: str) -> Positions:
        """Return the next offset that a group is to read, by topic and partition."""
        return await self._transport.call(Positions, "GET", f"{_group(group)}/offsets")

    async def reset(self, group: str, body: Mapping[str, object]) -> PositionsReset:
        """Set where a group goes on."""
        return await self._transport.call(
            PositionsReset, "POST", f"{_group(group)}/offsets/reset", body=body, replay_safe=True
        )

    async def join(
        self, group: str, client_id: str, topics: Sequence[str], *, session_seconds: int
    ) -> Joined:
        """Become a member of a group, for as long as it calls at least every `session_seconds`."""
        body = {"client_id": client_id, "topics": topics, "session_timeout": f"{session_seconds}s"}
        return await self._transport.call(Joined, "POST", f"{_group(group)}/join", body=body)

    async def poll(
        self, group: str, member_id: str, *, max_messages: int, wait_seconds: int
    ) -> PolledMessages:
        """Lease messages, waiting for the first if there is none yet."""
        params = {
            "member_id": member_id,
            "max_messages": str(max_messages),
            "timeout": f"{wait_seconds}s",
        }
        return await self._transport.call(
            PolledMessages, "GET", f"{_group(group)}/poll", params=params, wait_seconds=wait_seconds
        )

    async def acknowledge(self, receipts: Sequence[str]) -> AckedMany:
        """Record that messages were processed; each receipt is accepted or refused by itself."""
        return await self._transport.call(
            AckedMany, "POST", "/messages/ack/batch", body={"receipt_handles": receipts}, replay_safe=True
        )

    async def leave(self, group: str, member_id: str) -> Left:
        """Stop being a member."""
        return await self._transport.call(
            Left, "POST", f"{_group(group)}/leave", body={"member_id": member_id}
        )


def _topic(name: str) -> str:
    return f"/topics/{quote(name, safe='')}"


def _group(name: str) -> str:
    return f"/groups/{quote(name, safe='')}"
