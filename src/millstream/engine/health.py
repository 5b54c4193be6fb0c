"""Whether the parts that the server needs answer."""

import asyncio

from millstream.domain.errors import MillstreamError
from millstream.engine.context import Context

ANSWER_SECONDS = 2.0


class Health:
    """Looks whether the database answers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def database_answers(self) -> bool:
        """Tell whether the database answers within two seconds."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._context.database.session() as session:
                await session.ping()
        except (MillstreamError, TimeoutError):
            return False
        return True
