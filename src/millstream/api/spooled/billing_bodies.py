"""The bodies of `/billing`. Contract: spooled-tenancy 9."""

from msgspec import Struct


class BillingStatus(Struct, kw_only=True):
    """An organization's plan, and what its administrator noted of a subscription."""

    plan_tier: str
    stripe_subscription_id: str | None
    stripe_subscription_status: str | None
    stripe_current_period_end: str | None
    stripe_cancel_at_period_end: bool | None
    has_stripe_customer: bool


class OpenPortal(Struct, frozen=True, kw_only=True):
    """`POST /billing/portal`."""

    return_url: str


class PortalOpened(Struct):
    """Where a customer manages a subscription."""

    url: str
