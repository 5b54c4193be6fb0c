"""Further API keys of a tenant."""

import asyncio
from uuid import uuid4

from millstream.cli.embedded_database import find_dsn
from millstream.engine.credentials import KeyMaker
from millstream.store import installation, tenants
from tests.cli.server_process import ServerProcess
from tests.live_tenants import LiveTenant


def add_key(server: ServerProcess, tenant: LiveTenant) -> str:
    """Give the tenant another unrestricted key; return its secret."""
    dsn = find_dsn(server.data_dir, user=installation.EMBEDDED_LOGIN)
    assert dsn is not None

    async def add() -> str:
        async with installation.direct_session(dsn) as session:
            pepper = bytes.fromhex(await tenants.get_setting(session, "api_key_pepper"))
            key = await KeyMaker(pepper=pepper, hash_cost=4).make()
            await session.run(
                "insert into millstream.api_keys (tenant_id, id, name, key_prefix, digest, hash)"
                " values ($1, $2, 'another', $3, $4, $5)",
                tenant.tenant_id,
                uuid4(),
                key.prefix,
                key.digest,
                key.hash,
            )
        return key.secret

    return asyncio.run(add())
