"""The calls for asyncio, and the source of those in `_sync`."""
