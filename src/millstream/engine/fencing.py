"""The fence of a lease: what passed its guard is answered, what did not is judged on a fresh snapshot."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from millstream.domain.errors import Conflict, MillstreamError, Unavailable
from millstream.domain.job import refusal
from millstream.engine.context import Context
from millstream.store import settlements
from millstream.store.database import Session
from millstream.store.settlements import CompleteRow, FailRow, RenewRow

# Between a look and a lock somebody else may settle the job.
CHANGING_HANDS = "job is changing hands, try again"

A = TypeVar("A")
FencedRow = CompleteRow | FailRow | RenewRow
F = TypeVar("F", CompleteRow, FailRow, RenewRow)
_Once = Callable[[Session, Sequence[F], int], Awaitable[list[A | MillstreamError | None]]]


class Fence:
    """Runs statements that leases guard."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, once: _Once[F, A], rows: Sequence[F], batch_id: int) -> list[A | MillstreamError]:
        """Run a fenced statement; judge what it refused, and try once more what should have passed."""
        async with self._context.database.session() as session:
            answers = await once(session, rows, batch_id)
            retry = await self._judge(session, rows, answers)
        if retry:
            again = await self._once_more(once, [rows[place] for place in retry], batch_id)
            for place, answer in zip(retry, again, strict=True):
                answers[place] = answer
        return [answer if answer is not None else Conflict(CHANGING_HANDS) for answer in answers]

    async def _once_more(
        self, once: _Once[F, A], rows: Sequence[F], batch_id: int
    ) -> Sequence[A | MillstreamError | None]:
        try:
            async with self._context.database.session() as session:
                answers = await once(session, rows, batch_id)
                await self._judge(session, rows, answers)
        except Unavailable as error:
            # The rows beside these are settled and must be told so: this is the failure of these alone.
            return [error] * len(rows)
        return answers

    async def _judge(
        self, session: Session, rows: Sequence[FencedRow], answers: list[A | MillstreamError | None]
    ) -> list[int]:
        """Answer the refused rows with their reason, on a fresh snapshot; return those that may try again.

        The statement's own snapshot still shows the loser of a race as eligible: it cannot judge.
        """
        open_places = [place for place, answer in enumerate(answers) if answer is None]
        if not open_places:
            return []
        keys = [(rows[place].tenant_id, rows[place].lease.job_id) for place in open_places]
        holders = await settlements.judge_jobs(session, keys, self._context.now())
        retry: list[int] = []
        for place, holder in zip(open_places, holders, strict=True):
            reason = refusal(rows[place].lease, holder)
            if reason is None:
                retry.append(place)
            else:
                answers[place] = reason
        return retry
