"""Tenants of live servers, made beside the API: most tests are not about how an organization comes to be."""

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from uuid import uuid4

from anyio.from_thread import BlockingPortal, start_blocking_portal
from msgspec import Struct

from millstream.engine.credentials import KeyMaker
from millstream.store import installation, tenants
from millstream.store.database import Session
from millstream.store.tenants import NewTenant


class LiveTenant(Struct, frozen=True, kw_only=True):
    """A tenant of a live server, with an unrestricted key."""

    url: str
    api_key: str
    organization_id: str
    tenant_id: int
    webhook_token: str


class TenantMaker:
    """Makes tenants of one server over a connection of its own, whatever loop the test runs."""

    def __init__(self, url: str, portal: BlockingPortal, session: Session, pepper: bytes) -> None:
        self._url = url
        self._portal = portal
        self._session = session
        # A cheap hash: the strength of bcrypt is not what these tests are about.
        self._keys = KeyMaker(pepper=pepper, hash_cost=4)

    def make(
        self,
        plan_tier: str = "enterprise",
        queues: tuple[str, ...] = ("*",),
        rate_limit: int | None = None,
    ) -> LiveTenant:
        """Make a tenant whose key reaches `queues` and may have a limit of its own."""
        return self._portal.call(self._make, plan_tier, queues, rate_limit)

    async def _make(self, plan_tier: str, queues: tuple[str, ...], rate_limit: int | None) -> LiveTenant:
        key = await self._keys.make()
        public_id = str(uuid4())
        webhook_token = secrets.token_urlsafe(32)
        created = await tenants.create_tenant(
            self._session,
            NewTenant(
                public_id=public_id,
                slug=f"t-{secrets.token_hex(8)}",
                name="Test tenant",
                plan_tier=plan_tier,
                billing_email=None,
                webhook_token=webhook_token,
                key_id=uuid4(),
                key_name="test",
                key_prefix=key.prefix,
                key_digest=key.digest,
                key_hash=key.hash,
            ),
        )
        assert created is not None
        if queues != ("*",) or rate_limit is not None:
            await self._session.run(
                "update millstream.api_keys set queues = $2, rate_limit = $3 where tenant_id = $1",
                created.id,
                list(queues),
                rate_limit,
            )
        return LiveTenant(
            url=self._url,
            api_key=key.secret,
            organization_id=public_id,
            tenant_id=created.id,
            webhook_token=webhook_token,
        )


@contextmanager
def making_tenants(url: str, dsn: str) -> Generator[TenantMaker]:
    """Open a maker of tenants of the server at `url`, whose database is at `dsn`."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(installation.direct_session(dsn)) as session,
    ):
        pepper = bytes.fromhex(portal.call(tenants.get_setting, session, "api_key_pepper"))
        yield TenantMaker(url, portal, session, pepper)
