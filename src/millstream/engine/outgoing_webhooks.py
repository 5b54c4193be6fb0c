"""Outgoing webhooks: who wants to be told of what, and how that went."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    FieldProblem,
    InternalError,
    InvalidField,
    NotFound,
    QuotaExceeded,
)
from millstream.domain.tenant import Principal
from millstream.domain.webhook import (
    REFUSED_URL,
    Delivery,
    DeliveryStatus,
    NewWebhook,
    Retried,
    Webhook,
    WebhookChange,
    WebhookTrial,
)
from millstream.domain.webhook_url import place_of
from millstream.engine.context import Context
from millstream.engine.delivering import Delivering, DeliverySettings
from millstream.store import outgoing_deliveries, outgoing_webhooks, quotas
from millstream.store.database import Session

_TEST_MESSAGE = "This is a test of your webhook."


class OutgoingWebhooks:
    """The webhooks of all tenants, each seen through a principal of its own.

    They tell of every queue of a tenant: a credential that is limited to some queues gets AccessDenied.
    """

    def __init__(self, context: Context, delivering: Delivering, settings: DeliverySettings) -> None:
        self._context = context
        self._delivering = delivering
        self._local_http = settings.local_http

    async def create(self, principal: Principal, new: NewWebhook) -> Webhook:
        """Create a webhook. Raises InvalidField for its address, QuotaExceeded. Contract: spooled-tenancy 10.4."""
        _check_scope(principal)
        self._check_url(new.url)
        async with self._context.database.tenant(principal.tenant_id) as session:
            await self._check_room(session, principal, adding=1, enabling=new.enabled)
            webhook = await outgoing_webhooks.create_webhook(
                session, principal.tenant_id, self._context.ids.next(), new, self._context.now()
            )
        if webhook is None:
            raise InternalError
        await self._context.invalidations.tenant_changed(principal.tenant_id)
        return webhook

    async def update(self, principal: Principal, webhook_id: UUID, change: WebhookChange) -> Webhook:
        """Change what is given of a webhook; one that is enabled again begins without its failures.

        Raises NotFound, InvalidField for its address, QuotaExceeded when it is enabled. Contract: spooled-tenancy 10.4.
        """
        _check_scope(principal)
        if change.url is not None:
            self._check_url(change.url)
        async with self._context.database.tenant(principal.tenant_id) as session:
            if change.enabled and principal.plan.max_webhooks is not None:
                await quotas.lock_tenant(session, principal.tenant_id)
            enabled = await outgoing_webhooks.lock_webhook(session, principal.tenant_id, webhook_id)
            if enabled is None:
                raise NotFound
            if change.enabled and not enabled:
                await self._check_room(session, principal, adding=0, enabling=True)
            webhook = await outgoing_webhooks.update_webhook(
                session, principal.tenant_id, webhook_id, change, self._context.now()
            )
        if webhook is None:
            raise NotFound
        await self._context.invalidations.tenant_changed(principal.tenant_id)
        return webhook

    async def get(self, principal: Principal, webhook_id: UUID) -> Webhook:
        """Return a webhook. Raises NotFound. Contract: spooled-tenancy 10.3."""
        _check_scope(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            webhook = await outgoing_webhooks.find_webhook(session, principal.tenant_id, webhook_id)
        if webhook is None:
            raise NotFound
        return webhook

    async def delete(self, principal: Principal, webhook_id: UUID) -> None:
        """Delete a webhook with its deliveries; what is pending is not sent. Raises NotFound. Contract: 10.5."""
        _check_scope(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            known = await outgoing_webhooks.delete_webhook(
                session, principal.tenant_id, webhook_id, deliveries_max=limits.DELIVERIES_FORGOTTEN_MAX
            )
        if not known:
            raise NotFound
        await self._context.invalidations.tenant_changed(principal.tenant_id)

    async def test(self, principal: Principal, webhook_id: UUID) -> WebhookTrial:
        """Send a test to a webhook, enabled or not. Raises NotFound. Contract: spooled-tenancy 10.6."""
        _check_scope(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            address = await outgoing_webhooks.find_webhook_address(session, principal.tenant_id, webhook_id)
        if address is None:
            raise NotFound
        data = {
            "webhook_id": webhook_id,
            "organization_id": principal.organization_id,
            "timestamp": self._context.now() or datetime.now(UTC),
            "test": True,
            "message": _TEST_MESSAGE,
        }
        return await self._delivering.test(address, msgspec.json.encode(data).decode())

    async def retry(self, principal: Principal, webhook_id: UUID, delivery_id: UUID) -> Retried:
        """Attempt a delivery of a webhook now. Raises NotFound. Contract: spooled-tenancy 10.6."""
        _check_scope(principal)
        return await self._delivering.retry(principal.tenant_id, webhook_id, delivery_id)

    async def deliveries(
        self,
        principal: Principal,
        webhook_id: UUID,
        *,
        status: DeliveryStatus | None,
        limit: int,
        offset: int,
    ) -> Sequence[Delivery]:
        """Return a page of a webhook's newest 100 deliveries. Raises NotFound. Contract: spooled-tenancy 10.6."""
        _check_scope(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            webhook = await outgoing_webhooks.find_webhook(session, principal.tenant_id, webhook_id)
            if webhook is None:
                raise NotFound
            return await outgoing_deliveries.list_deliveries(
                session, principal.tenant_id, webhook_id, status=status, limit=limit, offset=offset
            )

    # Last of the public ones: below it, `list` would name this method in annotations.
    async def list(self, principal: Principal) -> Sequence[Webhook]:
        """Return all webhooks of a tenant, the newest first. Contract: spooled-tenancy 10.3."""
        _check_scope(principal)
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await outgoing_webhooks.list_webhooks(
                session, principal.tenant_id, limit=limits.WEBHOOKS_MAX
            )

    def _check_url(self, url: str) -> None:
        # One text whatever rule was broken: it must not tell what is inside.
        if isinstance(place_of(url, local_http=self._local_http), str):
            raise InvalidField([FieldProblem("url", REFUSED_URL, "INVALID_URL")])

    async def _check_room(
        self, session: Session, principal: Principal, *, adding: int, enabling: bool
    ) -> None:
        plan = principal.plan
        if plan.max_webhooks is not None:
            await quotas.lock_tenant(session, principal.tenant_id)
        usage = await outgoing_webhooks.count_webhooks(session, principal.tenant_id)
        if enabling:
            plan.check_room("webhooks", usage.enabled, 1)
        if usage.total + adding > limits.WEBHOOKS_MAX:
            raise QuotaExceeded("webhooks", current=usage.total, limit=limits.WEBHOOKS_MAX, plan=plan.tier)


def _check_scope(principal: Principal) -> None:
    if principal.queues is not None:
        raise AccessDenied
