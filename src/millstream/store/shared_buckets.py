"""Token buckets that all processes share, in Redis or Valkey. Needs the extra `redis`."""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Final, cast

from msgspec import Struct
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from millstream.domain.errors import CountersAway
from millstream.domain.rate import RateLimit, RateScope

# A request waits for its limit: what takes longer than this delays more than it protects.
ANSWER_SECONDS: Final = 2.0
_BATCH_MAX: Final = 500
_SCRIPT: Final = (Path(__file__).parent / "lua" / "token_buckets.lua").read_text(encoding="utf-8")
# The name that Redis gives a script; nothing depends on its strength.
_SCRIPT_ID: Final = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class _Ask(Struct, frozen=True):
    keys: list[str]
    arguments: list[int | float]
    answer: "asyncio.Future[tuple[bool, list[float]]]"


class SharedBuckets:
    """Takes tokens out of buckets by one script, so that processes cannot spend the same token.

    Requests that ask while another round trip is under way share the next one.
    """

    def __init__(self, url: str, *, pool_size: int, count_operation: Callable[[int], None]) -> None:
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
        self._count = count_operation
        self._waiting: list[_Ask] = []
        self._sending: asyncio.Task[None] | None = None

    async def take(self, asked: Sequence[RateLimit], cost: int) -> tuple[bool, list[float]]:
        """Take `cost` tokens from each of the buckets, or none; return whether, and what they hold now.

        Raises CountersAway.
        """
        arguments: list[int | float] = [cost]
        for limit in asked:
            arguments += [limit.burst, limit.per_second]
        ask = _Ask(
            [_key_of(limit, asked[0]) for limit in asked],
            arguments,
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(ask)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="shared buckets")
        return await ask.answer

    async def answer(self) -> bool:
        """Tell whether they can be used."""
        self._count(1)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await cast("asyncio.Future[bool]", self._redis.ping())  # pyright: ignore[reportUnknownMemberType]
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Let go of the connections."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        await self._redis.aclose(close_connection_pool=True)

    async def _send_all(self) -> None:
        batch: list[_Ask] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
                await self._send(batch)
        finally:
            self._sending = None
            for ask in (*batch, *self._waiting):
                ask.answer.cancel()
            self._waiting.clear()

    async def _send(self, batch: Sequence[_Ask]) -> None:
        self._count(len(batch))
        pipeline = self._redis.pipeline(transaction=False)
        # Told every time, since a Redis that was started anew does not know it: two kilobytes for all of the batch.
        pipeline.script_load(_SCRIPT)
        for ask in batch:
            pipeline.evalsha(_SCRIPT_ID, len(ask.keys), *ask.keys, *ask.arguments)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, *answers = cast("list[list[object]]", await pipeline.execute())
        except (RedisError, OSError, TimeoutError) as error:
            for ask in batch:
                if not ask.answer.done():
                    away = CountersAway()
                    away.__cause__ = error
                    ask.answer.set_exception(away)
            return
        for ask, (admitted, *levels) in zip(batch, answers, strict=True):
            # Whoever asked may have left.
            if not ask.answer.done():
                ask.answer.set_result((admitted == 1, [float(cast("bytes", level)) for level in levels]))


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
