"""What is sent of API keys, checked and as domain values. Contract: spooled-tenancy 4.3, 6.4."""

import re
from collections.abc import Sequence

from millstream.api.spooled import api_key_bodies as bodies
from millstream.api.spooled.rules import Rules
from millstream.domain import limits
from millstream.domain.api_key import ApiKeyChange, NewApiKey

# Letters and digits of any script.
_NAME = re.compile(r"(?:[^\W_]|[ \-_.()])+")
_QUEUE = re.compile(rf"[A-Za-z0-9_.*\-]{{1,{limits.API_KEY_QUEUE_CHARS_MAX}}}")


def new_api_key(body: bodies.CreateApiKey, *, queues: tuple[str, ...] = ()) -> NewApiKey:
    """Return the key to make, for `queues` unless the body says otherwise. Raises InvalidField."""
    rules = Rules()
    _check_fields(rules, body.name, body.queues, body.rate_limit)
    expires_at = rules.timestamp("expires_at", body.expires_at)
    rules.enforce()
    return NewApiKey(
        name=body.name,
        queues=queues if body.queues is None else tuple(body.queues),
        rate_limit=body.rate_limit,
        expires_at=expires_at,
    )


def api_key_change(body: bodies.UpdateApiKey) -> ApiKeyChange:
    """Return what to change of a key. Raises InvalidField."""
    rules = Rules()
    _check_fields(rules, body.name, body.queues, body.rate_limit)
    rules.enforce()
    return ApiKeyChange(
        name=body.name,
        queues=None if body.queues is None else tuple(body.queues),
        rate_limit=body.rate_limit,
        is_active=body.is_active,
    )


def _check_fields(
    rules: Rules, name: str | None, queues: Sequence[str] | None, rate_limit: int | None
) -> None:
    rules.text("name", name, 1, limits.API_KEY_NAME_CHARS_MAX)
    if name:
        rules.pattern("name", name, _NAME, "may have letters, digits, spaces, '-', '_', '.', '(' and ')'")
        if not name.strip():
            rules.refuse("name", "must not be blank", "INVALID_FORMAT")
    rules.integer("rate_limit", rate_limit, 1, limits.API_KEY_RATE_LIMIT_MAX)
    if queues is None:
        return
    if len(queues) > limits.API_KEY_QUEUES_MAX:
        rules.refuse("queues", f"must have at most {limits.API_KEY_QUEUES_MAX} entries", "TOO_MANY")
        return
    for index, queue in enumerate(queues):
        rules.pattern(
            f"queues[{index}]", queue, _QUEUE, "must have 1 to 255 letters, digits, '-', '_', '.' or '*'"
        )
