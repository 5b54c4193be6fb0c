"""Signals by which a test awaits what a loop did, instead of sleeping until it probably has.

Loops say what they did to a `Signals`, which hears nothing. A test hands in `RecordedSignals` instead.
"""

import asyncio
from collections import defaultdict, deque
from typing import Final

KEPT_PER_NAME_MAX: Final = 1_000


class Signals:
    """Where loops say what they did, by names such as `lease_reaper.ran`. This one drops it, at no cost."""

    __slots__ = ()

    def emit(self, name: str, detail: object = None) -> None:
        """Say that `name` happened; `detail` is for whoever waits for it."""


class RecordedSignals(Signals):
    """Signals that can be awaited, in the order they came, whether they came before the waiting began or after.

    For one event loop: emit and wait in its thread. Of each name the newest 1,000 that nobody awaited are kept.
    """

    __slots__ = ("_heard", "_kept", "_waiting")

    def __init__(self) -> None:
        self._kept: defaultdict[str, deque[object]] = defaultdict(lambda: deque(maxlen=KEPT_PER_NAME_MAX))
        self._waiting: defaultdict[str, deque[asyncio.Future[object]]] = defaultdict(deque)
        self._heard: defaultdict[str, int] = defaultdict(int)

    def emit(self, name: str, detail: object = None) -> None:
        """Give the signal to the one who has waited longest for it, or keep it for the next."""
        self._heard[name] += 1
        waiting = self._waiting[name]
        while waiting:
            waiter = waiting.popleft()
            if not waiter.done():
                waiter.set_result(detail)
                return
        self._kept[name].append(detail)

    async def wait(self, name: str, *, seconds: float = 10) -> object:
        """Return the detail of the next signal of that name; each signal is returned once.

        Raises TimeoutError, which tells what was heard meanwhile, after `seconds`.
        """
        kept = self._kept[name]
        if kept:
            return kept.popleft()
        waiter: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[name].append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            heard = (
                ", ".join(f"{other} ({times})" for other, times in sorted(self._heard.items())) or "nothing"
            )
            raise TimeoutError(f"no {name} within {seconds:g} s; heard: {heard}") from None

    def count(self, name: str) -> int:
        """Return how often the signal came, awaited or not."""
        return self._heard[name]

    def forget(self, name: str) -> None:
        """Drop what is kept of that name, so that the next wait is for something that is yet to happen."""
        self._kept[name].clear()


SILENT: Final = Signals()
