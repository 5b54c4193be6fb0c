"""Token buckets that all processes share, in Redis or Valkey. Needs the extra `redis`."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from millstream.domain.errors import CountersAway
from millstream.domain.rate import RateLimit, RateScope

# A limit is looked up for each request: one that takes longer than this delays more than it protects.
ANSWER_SECONDS: Final = 0.5
_SCRIPT: Final = (Path(__file__).parent / "lua" / "token_buckets.lua").read_text(encoding="utf-8")


class SharedBuckets:
    """Takes tokens out of buckets by one script, so that processes cannot spend the same token."""

    def __init__(self, url: str, *, pool_size: int, count_operation: Callable[[], None]) -> None:
        """Prepare up to `pool_size` connections to `url`; the first call connects."""
        pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - its keywords are untyped
            url,
            max_connections=pool_size,
            timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            # Once: a connection that the server closed while it was idle says so at its next use.
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis.from_pool(pool)
        self._script = self._redis.register_script(_SCRIPT)
        self._count = count_operation

    async def take(self, asked: Sequence[RateLimit], cost: int) -> tuple[bool, list[float]]:
        """Take `cost` tokens from each of the buckets, or none; return whether, and what they hold now.

        Raises CountersAway.
        """
        keys = [_key_of(limit, asked[0]) for limit in asked]
        arguments: list[int | float] = [cost]
        for limit in asked:
            arguments += [limit.burst, limit.per_second]
        self._count()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = cast("list[object]", await self._script(keys, arguments))
        except (RedisError, OSError, TimeoutError) as error:
            raise CountersAway from error
        admitted, *levels = answer
        return admitted == 1, [float(cast("bytes", level)) for level in levels]

    async def answer(self) -> bool:
        """Tell whether they can be used."""
        self._count()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await cast("asyncio.Future[bool]", self._redis.ping())  # pyright: ignore[reportUnknownMemberType]
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose(close_connection_pool=True)


def _key_of(limit: RateLimit, first: RateLimit) -> str:
    # The braces keep an organization's buckets on one node of a cluster, where one script can reach them.
    place = f"{{{first.key}}}"
    match limit.scope:
        case RateScope.ORGANIZATION:
            return f"org:{place}:rate"
        case RateScope.API_KEY:
            return f"org:{place}:rate:key:{limit.key}"
        case RateScope.ADDRESS:
            return f"ip:{place}:rate"
