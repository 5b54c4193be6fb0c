"""Counts attempts, and refuses those that are too many.

Counted in this process: with several, each counts what reaches it.
"""

import math
import time

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from millstream.domain import limits
from millstream.domain.errors import RateLimited


class Throttle:
    """Windows of attempts, each by what is limited and by whom it is attempted."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def check(self, item: RateLimitItem, *who: str) -> None:
        """Raise RateLimited when as many attempts were noted as `item` permits."""
        if not await self._limiter.test(item, *who):
            raise await self._refusal(item, *who)

    async def note(self, item: RateLimitItem, *who: str) -> None:
        """Count an attempt."""
        await self._hit(item, *who)

    async def spend(self, item: RateLimitItem, *who: str) -> None:
        """Count an attempt. Raises RateLimited when it is one too many."""
        if not await self._hit(item, *who):
            raise await self._refusal(item, *who)

    async def _hit(self, item: RateLimitItem, *who: str) -> bool:
        # Each hit looks at all counters for those that have ended: they must stay few. The oldest makes room.
        while len(self._storage.storage) >= limits.THROTTLED_CALLERS_MAX:
            await self._storage.clear(next(iter(self._storage.storage)))
        return await self._limiter.hit(item, *who)

    async def _refusal(self, item: RateLimitItem, *who: str) -> RateLimited:
        window = await self._limiter.get_window_stats(item, *who)
        return RateLimited(max(1, math.ceil(window.reset_time - time.time())))
