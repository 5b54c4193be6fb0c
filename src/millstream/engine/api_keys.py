"""API keys: made, changed and revoked by unrestricted ones."""

from uuid import UUID, uuid4

from millstream.domain import limits
from millstream.domain.api_key import ApiKey, ApiKeyChange, Member, NewApiKey
from millstream.domain.errors import FieldProblem, InternalError, InvalidField, NotFound
from millstream.domain.plan import Plan
from millstream.domain.tenant import IssuedKey, Principal
from millstream.engine.context import Context, check_unrestricted
from millstream.engine.credentials import KeyMaker
from millstream.store import api_keys, quotas
from millstream.store.api_keys import Creation, Minted


class ApiKeys:
    """The API keys of all tenants, each seen through a principal of its own.

    All of this takes an unrestricted key (AccessDenied otherwise), but that any key may revoke itself.
    """

    def __init__(self, context: Context, key_maker: KeyMaker) -> None:
        self._context = context
        self._key_maker = key_maker

    async def members(self, principal: Principal, organization_id: str) -> list[Member]:
        """Return the active keys as members, the oldest first. Raises NotFound for another tenant's id.

        Contract: spooled-tenancy 2.2, 3.7.
        """
        if organization_id != principal.organization_id:
            raise NotFound
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await api_keys.list_members(session, principal.tenant_id, limit=limits.UNPAGED_ROWS_MAX)

    async def list(self, principal: Principal) -> list[ApiKey]:
        """Return keys, the newest first, revoked ones too. Contract: spooled-tenancy 4.3."""
        check_unrestricted(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await api_keys.list_api_keys(session, principal.tenant_id, limit=limits.UNPAGED_ROWS_MAX)

    async def get(self, principal: Principal, key_id: UUID) -> ApiKey:
        """Return a key. Raises NotFound. Contract: spooled-tenancy 4.3."""
        check_unrestricted(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            found = await api_keys.list_api_keys(session, principal.tenant_id, key_id=key_id, limit=1)
        if not found:
            raise NotFound
        return found[0]

    async def create(self, principal: Principal, new: NewApiKey) -> IssuedKey:
        """Make a key and return its secret, which is told only here. Contract: spooled-tenancy 4.3.

        Raises InvalidField for an end that has passed, QuotaExceeded for one active key too many.
        """
        check_unrestricted(principal)
        return await self.issue(principal.tenant_id, new, principal.plan)

    async def issue(self, tenant_id: int, new: NewApiKey, plan: Plan | None) -> IssuedKey:
        """Make a key for a tenant; without a `plan` none is one too many. Contract: spooled-tenancy 4.3, 6.4.

        Raises InvalidField for an end that has passed, QuotaExceeded for one active key too many.
        """
        keys_max = None if plan is None else plan.max_api_keys
        now = self._context.now()
        # Looked at before the work of hashing, and again when it counts.
        async with self._context.database.tenant(tenant_id) as session:
            _check(await api_keys.preview_api_key(session, tenant_id, new, now), plan)
        made = await self._key_maker.make()
        minted = Minted(id=uuid4(), prefix=made.prefix, digest=made.digest, hash=made.hash)
        async with self._context.database.tenant(tenant_id) as session:
            if keys_max is not None:
                await quotas.lock_tenant(session, tenant_id)
            creation = await api_keys.create_api_key(
                session, tenant_id, new, minted, keys_max=keys_max, now=now
            )
        _check(creation, plan)
        if creation.created_at is None:
            raise InternalError
        return IssuedKey(
            id=minted.id,
            secret=made.secret,
            name=new.name,
            created_at=creation.created_at,
            expires_at=new.expires_at,
        )

    async def update(self, principal: Principal, key_id: UUID, change: ApiKeyChange) -> ApiKey:
        """Change what is given of a key; what it and its tokens may do changes at once.

        Raises NotFound, or QuotaExceeded when the key would be one active key too many. Contract: spooled-tenancy 4.3.
        """
        check_unrestricted(principal)
        keys_max = principal.plan.max_api_keys
        async with self._context.database.tenant(principal.tenant_id) as session:
            if keys_max is not None:
                await quotas.lock_tenant(session, principal.tenant_id)
            update = await api_keys.update_api_key(
                session,
                principal.tenant_id,
                key_id,
                change,
                keys_max=keys_max,
                now=self._context.now(),
            )
        if update.key is None:
            if update.known:
                principal.plan.check_room("api_keys", update.active, 1)
            raise NotFound
        await self._context.invalidations.tenant_changed(principal.tenant_id)
        return update.key

    async def revoke(self, principal: Principal, key_id: UUID) -> None:
        """End a key and the tokens that were made from it. Raises NotFound. Contract: spooled-tenancy 4.3."""
        if key_id != principal.api_key_id:
            check_unrestricted(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await api_keys.revoke_api_key(
                session, principal.tenant_id, key_id, now=self._context.now()
            )
        if not known:
            raise NotFound
        await self._context.invalidations.tenant_changed(principal.tenant_id)


def _check(creation: Creation, plan: Plan | None) -> None:
    if not creation.ends_later:
        raise InvalidField([FieldProblem("expires_at", "must be in the future", "OUT_OF_RANGE")])
    if plan is not None:
        plan.check_room("api_keys", creation.active, 1)
