"""Tenants, their plans and their API keys."""

import re
from datetime import datetime
from uuid import UUID

from msgspec import Struct

RESERVED_SLUGS = frozenset(
    "admin api app auth dashboard docs help internal login logout metrics root settings signup status support system "
    "test www".split()
)
_SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def is_valid_slug(slug: str) -> bool:
    """Tell whether `slug` has 3 to 50 characters in hyphenated groups and is not reserved."""
    return 3 <= len(slug) <= 50 and _SLUG.fullmatch(slug) is not None and slug not in RESERVED_SLUGS


class Plan(Struct, frozen=True, kw_only=True):
    """What a tier allows; None is no limit. Contract: spooled-tenancy 7.1."""

    tier: str
    display_name: str
    max_jobs_per_day: int | None
    max_active_jobs: int | None
    max_queues: int | None
    max_workers: int | None
    max_api_keys: int | None
    max_schedules: int | None
    max_workflows: int | None
    max_webhooks: int | None
    max_payload_size_bytes: int
    rate_limit_requests_per_second: int
    rate_limit_burst: int
    job_retention_days: int
    history_retention_days: int
    upgrade_to: str | None


def _plan(
    tier: str,
    counts: tuple[int | None, ...],
    payload: int,
    rate: tuple[int, int],
    retention: tuple[int, int],
    upgrade_to: str | None,
) -> Plan:
    jobs, active, queues, workers, keys, schedules, workflows, webhooks = counts
    return Plan(
        tier=tier,
        display_name=tier.capitalize(),
        max_jobs_per_day=jobs,
        max_active_jobs=active,
        max_queues=queues,
        max_workers=workers,
        max_api_keys=keys,
        max_schedules=schedules,
        max_workflows=workflows,
        max_webhooks=webhooks,
        max_payload_size_bytes=payload,
        rate_limit_requests_per_second=rate[0],
        rate_limit_burst=rate[1],
        job_retention_days=retention[0],
        history_retention_days=retention[1],
        upgrade_to=upgrade_to,
    )


PLANS = {
    plan.tier: plan
    for plan in (
        _plan("free", (1_000, 10, 2, 1, 2, 1, 0, 1), 65_536, (5, 10), (3, 1), "starter"),
        _plan("starter", (10_000, 500, 10, 5, 5, 10, 5, 5), 262_144, (25, 50), (14, 7), "pro"),
        _plan("pro", (100_000, 5_000, 50, 25, 25, 50, 25, 20), 1_048_576, (100, 200), (30, 30), "enterprise"),
        _plan("enterprise", (None,) * 8, 5_242_880, (500, 1_000), (90, 90), None),
    )
}


def plan_of(tier: str) -> Plan:
    """Return the plan of `tier`; an unknown tier is the free one."""
    return PLANS.get(tier, PLANS["free"])


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
    """Who a request acts for: one tenant, through one API key that may be limited to some queues.

    `rate_limit` is the key's own limit in requests a minute.
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
