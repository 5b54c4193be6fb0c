"""A server of a test's own within its process, with settings of its own, on an empty database."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from millstream.app import FIRST_ORGANIZATION, build
from millstream.config import Config
from millstream.engine.credentials import KeyMaker
from millstream.engine.tenants import create_tenant
from millstream.serving.http import HttpListener
from millstream.store import installation


@asynccontextmanager
async def serving_fresh(dsn: str, config: Config) -> AsyncGenerator[str]:
    """Serve the default tenant; yields the address."""
    name, slug = FIRST_ORGANIZATION
    async with installation.direct_session(dsn) as session:
        await create_tenant(
            session,
            name=name,
            slug=slug,
            billing_email=None,
            plan_tier="enterprise",
            key_maker=KeyMaker(pepper=b"pepper", hash_cost=4),
        )
    app = build(config, dsn)
    await app.start()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listener = HttpListener(app.http, [listening], shutdown_seconds=1)
    await listener.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await listener.stop()
        await app.stop()
