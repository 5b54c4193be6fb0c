"""A tenant with keys of its own, on an engine."""

from millstream.domain.api_key import NewApiKey
from millstream.domain.tenant import IssuedKey, Principal
from millstream.engine.engine import Engine


async def make_owner(
    engine: Engine, slug: str = "acme", *, plan_tier: str = "enterprise"
) -> tuple[Principal, IssuedKey]:
    """Make a tenant; returns its first, unrestricted key with the principal of it."""
    _, key = await engine.tenants.create(
        name=slug.title(), slug=slug, billing_email=None, plan_tier=plan_tier
    )
    return await engine.credentials.authenticate(key.secret), key


async def make_key(engine: Engine, owner: Principal, name: str = "more", *queues: str) -> IssuedKey:
    """Make another key of the owner's tenant."""
    return await engine.api_keys.create(owner, NewApiKey(name=name, queues=queues))
