"""SIGTERM and SIGINT: the first asks to finish, the second not to wait any longer."""

import asyncio
import signal
from collections.abc import Coroutine
from types import TracebackType


class ShutdownSignals:
    """Catches both signals while it is entered, in the running loop of the main thread."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def __enter__(self) -> "ShutdownSignals":
        loop = asyncio.get_running_loop()
        for caught in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(caught, self.ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for caught in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(caught)

    def ask(self) -> None:
        """Ask for the end, as a signal does: the first time gently."""
        if self.requested.is_set():
            self.forced.set()
        self.requested.set()

    async def unless_forced(self, step: Coroutine[object, object, None]) -> bool:
        """Run a step of the shutdown to its end, or until it is forced. Returns whether it came to its end."""
        running = asyncio.ensure_future(step)
        forced = asyncio.ensure_future(self.forced.wait())
        await asyncio.wait({running, forced}, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if running.done():
            await running
            return True
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return False
