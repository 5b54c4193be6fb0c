"""The time limit of handlers, kept by one coarse timer for all of them instead of one timer each."""

import asyncio

_TICK_SECONDS = 1.0


class Deadlines:
    """Cancels request tasks that run longer than `seconds` (to about a second)."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In order of their ends, since all have the same limit.
        self._ends: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, task: asyncio.Task[object], loop: asyncio.AbstractEventLoop) -> None:
        """Watch `task` from now on."""
        self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(min(_TICK_SECONDS, self._seconds), self._tick, loop)

    def finish(self, task: asyncio.Task[object]) -> bool:
        """Stop watching `task`; tell whether its time was up."""
        self._ends.pop(task, None)
        if task not in self._expired:
            return False
        self._expired.discard(task)
        task.uncancel()
        return True

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        overdue: list[asyncio.Task[object]] = []
        for task, end in self._ends.items():
            if end > now:
                break
            overdue.append(task)
        for task in overdue:
            del self._ends[task]
            self._expired.add(task)
            task.cancel()
        self._timer = (
            loop.call_later(min(_TICK_SECONDS, self._seconds), self._tick, loop) if self._ends else None
        )
