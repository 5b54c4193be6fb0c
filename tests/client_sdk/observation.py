"""Waiting for what becomes true by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")


async def eventually(look: Callable[[], Awaitable[Seen]], is_there: Callable[[Seen], bool]) -> Seen:
    """Look again and again until `is_there` holds of what is seen; fails after 20 s."""
    async with asyncio.timeout(20):
        while True:
            seen = await look()
            if is_there(seen):
                return seen
            await asyncio.sleep(0.02)
