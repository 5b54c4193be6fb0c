"""Billing, as far as a server without a payment provider has any. Contract: spooled-tenancy 9."""

import re
from urllib.parse import urlsplit

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.http.timestamps import format_optional
from millstream.api.spooled.billing_bodies import BillingStatus, OpenPortal, PortalOpened
from millstream.api.spooled.rules import Rules
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, BadRequest
from millstream.engine.engine import Engine
from millstream.engine.tenants import check_unrestricted

_PORTAL = Body(OpenPortal)
_URL_CHARS = re.compile(r"[\x21-\x7e]+")


class BillingEndpoints:
    """`/billing`."""

    def __init__(self, engine: Engine) -> None:
        self._tenants = engine.tenants

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/api/v1/billing/status",
                handler=self.status,
                summary="Show the caller's plan and subscription",
                tag="billing",
                answers={200: BillingStatus},
            ),
            Endpoint(
                method="POST",
                path="/api/v1/billing/portal",
                handler=self.portal,
                summary="Refused: this server bills nobody",
                tag="billing",
                body=_PORTAL,
                answers={200: PortalOpened},
                errors=(BadRequest, AccessDenied),
            ),
        ]

    async def status(self, request: Request) -> Response:
        """Show the caller's plan and subscription."""
        tenant = await self._tenants.get(request.principal)
        answer = BillingStatus(
            plan_tier=tenant.plan_tier,
            stripe_subscription_id=tenant.stripe_subscription_id,
            stripe_subscription_status=tenant.stripe_subscription_status,
            stripe_current_period_end=format_optional(tenant.stripe_current_period_end),
            stripe_cancel_at_period_end=tenant.stripe_cancel_at_period_end,
            has_stripe_customer=tenant.stripe_customer_id is not None,
        )
        return Response(200, msgspec.json.encode(answer))

    async def portal(self, request: Request) -> Response:
        """Refuse: there is no payment provider behind this server."""
        body = _PORTAL.read(request.body)
        rules = Rules()
        if not _is_web_url(body.return_url):
            rules.refuse("return_url", "must be an absolute http or https URL", "INVALID_FORMAT")
        rules.enforce()
        check_unrestricted(request.principal)
        raise BadRequest("Billing is not configured")


def _is_web_url(url: str) -> bool:
    if len(url) > limits.RETURN_URL_CHARS_MAX or _URL_CHARS.fullmatch(url) is None:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
