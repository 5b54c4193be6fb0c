"""Whether the parts that the server needs answer."""

import asyncio

from millstream.domain.errors import MillstreamError
from millstream.engine.context import Context
from millstream.engine.rate_limits import RateLimits

ANSWER_SECONDS = 2.0


class Health:
    """Looks whether the database and the shared counters answer."""

    def __init__(self, context: Context, rate_limits: RateLimits | None) -> None:
        self._context = context
        self._rate_limits = rate_limits

    async def database_answers(self) -> bool:
        """Tell whether the database answers within two seconds."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._context.database.session() as session:
                await session.ping()
        except (MillstreamError, TimeoutError):
            return False
        return True

    async def cache_answers(self) -> bool:
        """Tell whether the shared counters answer; so it is when there are none."""
        return self._rate_limits is None or await self._rate_limits.counters_answer()
