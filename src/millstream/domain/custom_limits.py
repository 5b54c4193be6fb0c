"""Limits that an administrator gives one tenant in place of its plan's. Contract: spooled-tenancy 7.4."""

import msgspec

from millstream.domain import limits
from millstream.domain.errors import FieldProblem, InvalidField, InvalidShape

_FIELD = "custom_limits"
_NAMES = frozenset(
    "max_jobs_per_day max_active_jobs max_queues max_workers max_api_keys max_schedules max_workflows max_webhooks "
    "max_payload_size_bytes rate_limit_requests_per_second rate_limit_burst job_retention_days "
    "history_retention_days".split()
)


def parse(text: str) -> dict[str, int]:
    """Return the limits that `text` (JSON) overrides; none means that the plan's hold.

    Null is the plan's value, and keys that are no limits are ignored. Raises InvalidShape for what is no
    object, InvalidField for values that are not integers of 0 to 2^31 - 1.
    """
    try:
        given = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.ValidationError:
        raise InvalidShape([FieldProblem(_FIELD, "must be an object", "INVALID_TYPE")]) from None
    found: dict[str, int] = {}
    problems: list[FieldProblem] = []
    for name, value in given.items():
        if name not in _NAMES or value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limits.CUSTOM_LIMIT_MAX:
            found[name] = value
        else:
            message = f"must be an integer between 0 and {limits.CUSTOM_LIMIT_MAX}"
            problems.append(FieldProblem(f"{_FIELD}.{name}", message, "OUT_OF_RANGE"))
    if problems:
        raise InvalidField(problems)
    return found
