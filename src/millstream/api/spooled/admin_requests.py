"""What the administrator sends, checked and as domain values. Contract: spooled-tenancy 6, 7.4."""

import msgspec
from msgspec import Raw, UnsetType

from millstream.api.http.query import Query
from millstream.api.spooled.admin_bodies import UpdateOrganizationAsAdmin
from millstream.api.spooled.organizations import check_name, settings_text
from millstream.api.spooled.rules import Rules, json_text
from millstream.domain import custom_limits, limits
from millstream.domain.admin import SORT_KEYS, SUBSCRIPTION_STATUSES, TenantFilter
from millstream.domain.plan import PLANS
from millstream.domain.tenant import DELETED_TIER, TenantChange

_CLEARABLE = ("stripe_customer_id", "stripe_subscription_id", "stripe_subscription_status")
_LISTED_MAX = limits.PAGE_ROWS_MAX
_LISTED_DEFAULT = 50


def tenant_filter(query: Query) -> TenantFilter:
    """Return which organizations a list is asked for; words that nobody knows are ignored."""
    tier = (query.text("plan_tier") or "").lower()
    sort_by = query.text("sort_by") or ""
    wanted = (query.text("search") or "")[: limits.QUERY_STRING_BYTES_MAX]
    search = "".join(char for char in wanted if char.isalnum() or char in " -_")
    return TenantFilter(
        plan_tier=tier if tier in PLANS or tier == DELETED_TIER else None,
        search=search[: limits.TENANT_SEARCH_CHARS_MAX] or None,
        sort_by=sort_by if sort_by in SORT_KEYS else "created_at",
        descending=(query.text("sort_order") or "").lower() != "asc",
        limit=query.clamped("limit", _LISTED_DEFAULT, 1, _LISTED_MAX),
        offset=query.clamped("offset", 0, 0, limits.PAGE_OFFSET_MAX),
    )


def tier_of(rules: Rules, given: str | None) -> str | None:
    """Return the tier that `given` names in any case."""
    tier = None if given is None else given.lower()
    if tier is not None and tier not in PLANS:
        rules.refuse("plan_tier", f"must be one of {', '.join(PLANS)}", "INVALID_VALUE")
    return tier


def custom_limits_text(given: Raw | UnsetType) -> str | None:
    """Return the limits to store as JSON text, None for those of the plan. Raises InvalidField, InvalidShape."""
    text = json_text(given)
    if text is None:
        return None
    found = custom_limits.parse(text)
    return msgspec.json.encode(found).decode() if found else None


def tenant_change(body: UpdateOrganizationAsAdmin) -> TenantChange:
    """Return what to change of an organization. Raises InvalidField, InvalidShape."""
    rules = Rules()
    name = None if body.name is None else body.name.strip()
    check_name(rules, name)
    rules.email("billing_email", body.billing_email)
    rules.text("description", body.description, 0, limits.DESCRIPTION_CHARS_MAX)
    tier = tier_of(rules, body.plan_tier)
    settings = settings_text(rules, body.settings)
    references = {name: getattr(body, name) for name in _CLEARABLE}
    for field, value in references.items():
        if isinstance(value, str):
            rules.text(field, value, 1, limits.BILLING_REFERENCE_CHARS_MAX)
    status = body.stripe_subscription_status
    if isinstance(status, str) and status not in SUBSCRIPTION_STATUSES:
        known = ", ".join(sorted(SUBSCRIPTION_STATUSES))
        rules.refuse("stripe_subscription_status", f"must be one of {known}", "INVALID_VALUE")
    rules.enforce()
    overrides = custom_limits_text(body.custom_limits)
    cleared = [field for field, value in references.items() if value is None]
    if overrides is None and not isinstance(body.custom_limits, UnsetType):
        cleared.append("custom_limits")
    return TenantChange(
        name=name,
        plan_tier=tier,
        billing_email=body.billing_email,
        description=body.description,
        settings=settings,
        custom_limits=overrides,
        is_active=body.is_active,
        stripe_customer_id=_given(body.stripe_customer_id),
        stripe_subscription_id=_given(body.stripe_subscription_id),
        stripe_subscription_status=_given(status),
        cleared=tuple(cleared),
    )


def _given(value: str | None | UnsetType) -> str | None:
    return None if isinstance(value, UnsetType) else value
