"""Tenants and their API keys."""

import re
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.plan import PLANS, Plan, plan_of

# Plans are found here too, where they have been before.
__all__ = [
    "PLANS",
    "RESERVED_SLUGS",
    "IssuedKey",
    "Plan",
    "Principal",
    "Tenant",
    "is_valid_slug",
    "plan_of",
]

RESERVED_SLUGS = frozenset(
    "admin api app auth dashboard docs help internal login logout metrics root settings signup status support system "
    "test www".split()
)
_SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def is_valid_slug(slug: str) -> bool:
    """Tell whether `slug` has 3 to 50 characters in hyphenated groups and is not reserved."""
    return 3 <= len(slug) <= 50 and _SLUG.fullmatch(slug) is not None and slug not in RESERVED_SLUGS


class Tenant(Struct, frozen=True, kw_only=True):
    """A tenant. `settings` and `custom_limits` are JSON texts."""

    id: int
    public_id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    settings: str
    custom_limits: str | None
    created_at: datetime
    updated_at: datetime


class Principal(Struct, frozen=True, kw_only=True):
    """Who a request acts for: one tenant, through one API key that may be limited to some queues."""

    tenant_id: int
    organization_id: str
    api_key_id: UUID
    plan: Plan
    queues: frozenset[str] | None = None

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
