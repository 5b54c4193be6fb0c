"""Work beside the caller's: a thread, or a task of asyncio."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

Stop = threading.Event
AsyncStop = asyncio.Event


def pause(seconds: float, stop: Stop | None) -> bool:
    """Wait that long; returns True at once when `stop` is set."""
    return (stop or threading.Event()).wait(seconds)


async def pause_async(seconds: float, stop: AsyncStop | None) -> bool:
    """Wait that long; returns True at once when `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            return await (stop or asyncio.Event()).wait()
    except TimeoutError:
        return False


class Background:
    """A daemon thread that runs `work` until that ends or is told to stop."""

    def __init__(self, work: "Callable[[Background], None]", name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait that long; returns True at once when it is time to stop."""
        return self._stop.wait(seconds)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self, patience_seconds: float) -> None:
        """Tell it to stop, and wait for it that long. The work itself may call this: it does not wait for itself."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(patience_seconds)


class AsyncBackground:
    """A task that runs `work` until that ends or is told to stop."""

    def __init__(self, work: "Callable[[AsyncBackground], Awaitable[None]]", name: str) -> None:
        self._work = work
        self._name = name
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def wait(self, seconds: float) -> bool:
        """Wait that long; returns True at once when it is time to stop."""
        return await pause_async(seconds, self._stop)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    async def stop(self, patience_seconds: float) -> None:
        """Tell it to stop, wait for it that long, and then break it off. The work itself may call this."""
        self._stop.set()
        if self._task is None or self._task is asyncio.current_task():
            return
        _, late = await asyncio.wait([self._task], timeout=patience_seconds)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        await self._work(self)
