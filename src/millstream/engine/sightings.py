"""Signs of life: whoever polls, commits or settles is not silent. Contract: goqueue-messaging 7.7."""

import time
from collections.abc import Iterable

import structlog

from millstream.domain import limits
from millstream.domain.errors import MillstreamError
from millstream.engine.context import Context
from millstream.store import group_positions

# A member whose session is not known may have the shortest.
SESSION_SECONDS = 1.0

Member = tuple[int, int, str]
"""Tenant, group and member."""

_log = structlog.get_logger(__name__)


class Sightings:
    """Notes which members were heard of, each at most ten times in its session's time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # When each was noted last, and how long its session is.
        self._noted: dict[Member, tuple[float, float]] = {}

    async def saw(self, members: Iterable[Member], session_seconds: float | None = None) -> None:
        """Refresh the sessions of `members`. That a session could not be refreshed is no fault of what it did."""
        now = self._now()
        due = [member for member in members if self._is_due(member, now, session_seconds)]
        if not due:
            return
        try:
            async with self._context.database.session() as session:
                await group_positions.see_members(session, due, self._context.now())
        except MillstreamError as error:
            _log.info("members not noted as alive", members=len(due), error=error.message)
            for member in due:
                self._noted.pop(member, None)

    def _is_due(self, member: Member, now: float, session_seconds: float | None) -> bool:
        noted = self._noted.get(member)
        seconds = session_seconds or (SESSION_SECONDS if noted is None else noted[1])
        if noted is not None and now - noted[0] < seconds / 10:
            return False
        if len(self._noted) >= limits.REMEMBERED_MEMBERS_MAX:
            self._noted.clear()
        self._noted[member] = (now, seconds)
        return True

    def _now(self) -> float:
        steered = self._context.now()
        return time.monotonic() if steered is None else steered.timestamp()
