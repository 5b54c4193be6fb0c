"""Plans: what each tier allows, and what a tenant's own limits change of it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeGuard, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millstream.domain.errors import QuotaExceeded

LIMIT_MAX: Final = 2**31 - 1
# Plans with limits of their own that a process keeps: one for each text that tenants have stored.
_KEPT_PLANS_MAX = 10_000


class Plan(Struct, frozen=True, kw_only=True):
    """What a tier allows; None is no limit. Contract: spooled-tenancy 7.1.

    `warning_percent` is the share of a limit from which on its use is worth a warning.
    """

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
    warning_percent: int
    upgrade_to: str | None

    @property
    def caps_jobs(self) -> bool:
        """Whether it limits how many jobs may be created or be active."""
        return self.max_jobs_per_day is not None or self.max_active_jobs is not None

    def check_room(self, resource: str, current: int, adding: int) -> None:
        """Raise QuotaExceeded unless `adding` fits beside the `current` ones of `resource` (`max_` and that is its limit)."""
        limit: int | None = getattr(self, f"max_{resource}")
        if limit is not None and current + adding > limit:
            raise QuotaExceeded(resource, current=current, limit=limit, plan=self.tier)


LIMIT_NAMES: Final = (
    "max_jobs_per_day",
    "max_active_jobs",
    "max_queues",
    "max_workers",
    "max_api_keys",
    "max_schedules",
    "max_workflows",
    "max_webhooks",
    "max_payload_size_bytes",
    "rate_limit_requests_per_second",
    "rate_limit_burst",
    "job_retention_days",
    "history_retention_days",
)
"""What a tenant's own limits may change. Contract: spooled-tenancy 7.4."""


def _plan(
    tier: str,
    counts: tuple[int | None, ...],
    payload: int,
    rate: tuple[int, int],
    retention: tuple[int, int],
    warning_percent: int,
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
        warning_percent=warning_percent,
        upgrade_to=upgrade_to,
    )


PLANS: Final[Mapping[str, Plan]] = {
    plan.tier: plan
    for plan in (
        _plan("free", (1_000, 10, 2, 1, 2, 1, 0, 1), 65_536, (5, 10), (3, 1), 50, "starter"),
        _plan("starter", (10_000, 500, 10, 5, 5, 10, 5, 5), 262_144, (25, 50), (14, 7), 80, "pro"),
        _plan(
            "pro", (100_000, 5_000, 50, 25, 25, 50, 25, 20), 1_048_576, (100, 200), (30, 30), 80, "enterprise"
        ),
        _plan("enterprise", (None,) * 8, 5_242_880, (500, 1_000), (90, 90), 80, None),
    )
}


@lru_cache(maxsize=_KEPT_PLANS_MAX)
def plan_of(tier: str, custom_limits: str | None = None) -> Plan:
    """Return the plan of `tier` with what `custom_limits`, a JSON text, changes of it.

    An unknown tier is the free one. A stored limit that is none, as well as a text that is no object, leaves
    the tier's. Equal arguments give the same object. Contract: spooled-tenancy 7.1, 7.4.
    """
    plan = PLANS.get(tier, PLANS["free"])
    own = {} if custom_limits is None else _stored_limits(custom_limits)
    return replace(plan, **own) if own else plan


def is_limit(value: object) -> TypeGuard[int]:
    """Tell whether `value` may stand in a tenant's own limits: an integer from 0 to 2^31 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LIMIT_MAX


def _stored_limits(text: str) -> dict[str, int]:
    try:
        stored: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    if not isinstance(stored, dict):
        return {}
    given = cast("Mapping[str, object]", stored)
    return {name: value for name in LIMIT_NAMES if is_limit(value := given.get(name))}


def plans_table() -> str:
    """Return the plans as a Markdown table, a limit a row."""
    rows = [
        "| Limit | " + " | ".join(f"`{tier}`" for tier in PLANS) + " |",
        "|---" * (len(PLANS) + 1) + "|",
    ]
    rows += [
        f"| `{name}` | " + " | ".join(_shown(name, plan) for plan in PLANS.values()) + " |"
        for name in LIMIT_NAMES
    ]
    rows.append(
        "| usage warning from | " + " | ".join(f"{p.warning_percent} %" for p in PLANS.values()) + " |"
    )
    return "\n".join(rows) + "\n"


def _shown(name: str, plan: Plan) -> str:
    value = cast("int | None", getattr(plan, name))
    if value is None:
        return "–"
    return f"{value // 1024:,} KiB" if name.endswith("_bytes") else f"{value:,}"
