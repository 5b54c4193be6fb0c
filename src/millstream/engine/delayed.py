"""Messages with a delay: listed, cancelled, counted, and announced when they become due."""

import asyncio


class DelayedHint:
    """Tells the timer that a message was given a time to wait for, maybe an earlier one than it knows."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def note(self) -> None:
        """Have the timer look."""
        self.event.set()
