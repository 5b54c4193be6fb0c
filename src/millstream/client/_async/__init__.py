"""The client for asyncio, and the source of its blocking twin: see scripts/generate_sync_client.py."""
