"""Tenants and their API keys."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.plan import Plan

DELETED_TIER = "deleted"


class Tenant(Struct, frozen=True, kw_only=True):
    """A tenant. `settings` and `custom_limits` are JSON texts.

    It is served while it is active and not deleted. What is called stripe is kept for whoever bills, nothing here
    reads it.
    """

    id: int
    public_id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    settings: str
    custom_limits: str | None
    description: str | None
    is_active: bool
    stripe_customer_id: str | None
    stripe_subscription_id: str | None
    stripe_subscription_status: str | None
    stripe_current_period_end: datetime | None
    stripe_cancel_at_period_end: bool | None
    created_at: datetime
    updated_at: datetime


class TenantChange(Struct, frozen=True, kw_only=True):
    """What to change of a tenant: None keeps, and `cleared` names the fields that become empty."""

    name: str | None = None
    billing_email: str | None = None
    settings: str | None = None
    description: str | None = None
    plan_tier: str | None = None
    custom_limits: str | None = None
    is_active: bool | None = None
    stripe_customer_id: str | None = None
    stripe_subscription_id: str | None = None
    stripe_subscription_status: str | None = None
    cleared: tuple[str, ...] = ()


class Principal(Struct, frozen=True, kw_only=True):
    """Who a request acts for: one tenant, through one API key that may be limited to some queues.

    `rate_limit` is the key's own, in requests a minute; its tokens share it.
    """

    tenant_id: int
    organization_id: str
    api_key_id: UUID
    plan: Plan
    queues: frozenset[str] | None = None
    rate_limit: int | None = None

    def permits(self, queue: str) -> bool:
        """Tell whether this credential reaches `queue`."""
        return self.queues is None or queue in self.queues

    @property
    def visible_queues(self) -> tuple[str, ...] | None:
        """The queues that lists are restricted to, or None for all."""
        return None if self.queues is None else tuple(sorted(self.queues))


class IssuedKey(Struct, frozen=True, kw_only=True):
    """An API key in the one moment when its secret is known."""

    id: UUID
    secret: str
    name: str
    created_at: datetime
    expires_at: datetime | None = None
