"""Which tenant a request acts for, where its credential alone does not say. Ruling R19, goqueue-platform 10.5."""

import asyncio
import time
from typing import Final
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import Unauthenticated
from millstream.domain.plan import plan_of
from millstream.domain.tenant import Principal
from millstream.engine.context import Context
from millstream.engine.credentials import BELIEVED_SECONDS
from millstream.store import tenants

DEFAULT_SLUG: Final = "default"
# Nobody's key: what is done without one is attributed to it.
_NO_KEY: Final = UUID(int=0)


class _Belief(Struct, frozen=True):
    principal: Principal
    ends_at: float


class TenantSelection:
    """The tenant of requests without a credential, and the names by which a credential's own tenant goes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._default: _Belief | None = None
        self._look_up: asyncio.Task[Principal] | None = None
        self._slugs: dict[int, str] = {}
        context.invalidations.register(self._forget)

    def known_default(self) -> Principal | None:
        """Return the principal of requests without a credential when it was looked up a moment ago."""
        belief = self._default
        return None if belief is None or time.monotonic() >= belief.ends_at else belief.principal

    async def default(self) -> Principal:
        """Return the principal of requests without a credential: the organization that the first start made.

        Raises Unauthenticated when there is none, or it is switched off.
        """
        principal = self.known_default()
        if principal is not None:
            return principal
        if self._look_up is None:
            self._look_up = asyncio.create_task(self._find_default(), name="look up default tenant")
            self._look_up.add_done_callback(self._end_look_up)
        # One caller that leaves does not take the look-up from the others that wait for it.
        return await asyncio.shield(self._look_up)

    def known_name(self, principal: Principal, name: str) -> bool | None:
        """Tell whether `name` is the principal's tenant's id or slug, None when its slug is yet to be looked up."""
        if name == principal.organization_id:
            return True
        slug = self._slugs.get(principal.tenant_id)
        return None if slug is None else name == slug

    async def is_name(self, principal: Principal, name: str) -> bool:
        """Tell whether `name` is the principal's tenant's id or slug."""
        known = self.known_name(principal, name)
        if known is not None:
            return known
        async with self._context.database.tenant(principal.tenant_id) as session:
            tenant = await tenants.find_tenant(session, principal.organization_id)
        if tenant is None:
            return False
        if len(self._slugs) >= limits.REMEMBERED_CREDENTIALS_MAX:
            self._slugs.clear()
        self._slugs[principal.tenant_id] = tenant.slug
        return name == tenant.slug

    async def _find_default(self) -> Principal:
        async with self._context.database.session() as session:
            tenant = await tenants.find_served_tenant(session, DEFAULT_SLUG)
        if tenant is None:
            raise Unauthenticated
        principal = Principal(
            tenant_id=tenant.id,
            organization_id=tenant.public_id,
            api_key_id=_NO_KEY,
            plan=plan_of(tenant.plan_tier, tenant.custom_limits),
        )
        self._default = _Belief(principal, time.monotonic() + BELIEVED_SECONDS)
        return principal

    def _end_look_up(self, task: "asyncio.Task[Principal]") -> None:
        self._look_up = None
        # Nobody may be waiting: its failure is then told to the next caller, by a look-up of its own.
        if not task.cancelled():
            task.exception()

    def _forget(self, tenant_id: int) -> None:
        self._slugs.pop(tenant_id, None)
        if self._default is not None and self._default.principal.tenant_id == tenant_id:
            self._default = None
