"""A line of messages between processes over Redis or Valkey. Needs the `redis` extra."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from millstream.domain.errors import Unavailable
from millstream.observe.metrics import REDIS_OPERATIONS
from millstream.store.relay import Line, OpenLine, Receive

CONNECT_SECONDS = 5.0
MESSAGE_BYTES_MAX = 64 * 1024


class _PubSub(Protocol):
    # The part of the library's subscription that is used; its types are partly unknown.
    async def subscribe(self, channel: str) -> None: ...
    async def get_message(
        self, *, ignore_subscribe_messages: bool, timeout: float | None
    ) -> dict[str, object] | None: ...
    async def aclose(self) -> None: ...


class _Client(Protocol):
    # The part of the library's client that is used.
    def pubsub(self) -> _PubSub: ...
    async def publish(self, channel: str, message: str) -> int: ...
    async def aclose(self) -> None: ...


class RedisLine:
    """A line over one channel."""

    message_bytes_max = MESSAGE_BYTES_MAX

    def __init__(self, client: _Client, channel: str) -> None:
        self._client = client
        self._channel = channel

    async def send(self, messages: Sequence[str]) -> None:
        """Publish `messages` in their order."""
        for message in messages:
            await self._client.publish(self._channel, message)
            REDIS_OPERATIONS.inc()


def redis_line(url: str, installation_id: str, *, connections_max: int) -> OpenLine:
    """Return what opens a line over the Redis at `url`; installations that share it do not hear each other."""
    channel = f"millstream:relay:{installation_id}"

    @asynccontextmanager
    async def open_line(receive: Receive, lost: Callable[[], None]) -> AsyncGenerator[Line]:
        client = cast(
            "_Client",
            Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - its keyword arguments have no types
                url,
                decode_responses=True,
                max_connections=connections_max,
                socket_connect_timeout=CONNECT_SECONDS,
            ),
        )
        try:
            subscription = client.pubsub()
            await subscription.subscribe(channel)
            listening = asyncio.create_task(_listen(subscription, receive, lost), name="relay redis")
            try:
                yield RedisLine(client, channel)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                await subscription.aclose()
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer") from error
        finally:
            await client.aclose()

    return open_line


async def _listen(subscription: _PubSub, receive: Receive, lost: Callable[[], None]) -> None:
    try:
        while True:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is not None and isinstance(text := message["data"], str):
                receive(text)
    except (RedisError, OSError):
        lost()
