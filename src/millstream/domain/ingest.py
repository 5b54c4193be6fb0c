"""Incoming webhooks: who may send them, what they become, and what is kept of each. Contract: spooled-tenancy 11."""

import hmac
import re
from datetime import datetime
from enum import IntEnum
from hashlib import sha256
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.job import JobState, NewJob

# A signed message may be delivered late, and the sender's clock may be ahead of ours.
STRIPE_AGE_SECONDS_MAX = 300
STRIPE_AHEAD_SECONDS_MAX = 60

_GITHUB_SCHEME = b"sha256="
_STRIPE_TIME = re.compile(rb"[0-9]{1,12}")
_OUTSIDE_QUEUE_NAME = re.compile(r"[^A-Za-z0-9_-]")
_QUEUE_NAME = re.compile(
    rf"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.\-]{{0,{limits.STORED_QUEUE_NAME_CHARS_MAX - 1}}}"
)
_EVENT_TYPE = re.compile(rf"[A-Za-z0-9_.\-]{{0,{limits.EVENT_TYPE_CHARS_MAX}}}")
_PUBLIC_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_RESERVED_QUEUES = frozenset({"admin", "system", "internal", "root", "default"})


class Provider(IntEnum):
    """Who sends a webhook, which decides how it is checked and read; the numbers are stored."""

    CUSTOM = 1
    GITHUB = 2
    STRIPE = 3


class IngestOutcome(IntEnum):
    """What an accepted webhook led to; the numbers are stored."""

    CREATED = 1
    DUPLICATE = 2
    """Its job existed already."""


class IngestEvent(Struct, frozen=True, kw_only=True):
    """A webhook whose sender was checked, and the job that it becomes."""

    provider: Provider
    event_type: str
    job: NewJob


class Ingested(Struct, frozen=True, kw_only=True):
    """The answer to an accepted webhook: its job, new or known, and how that stands."""

    job_id: UUID
    queue: str
    state: JobState
    created: bool


class IngestDelivery(Struct, frozen=True, kw_only=True):
    """What is kept of an accepted webhook: neither its payload nor its signature."""

    id: UUID
    provider: Provider
    outcome: IngestOutcome
    event_type: str
    queue: str
    job_id: UUID
    created_at: datetime


class IngestDeliveryFilter(Struct, frozen=True, kw_only=True):
    """Which accepted webhooks a list shows; absent filters let everything pass, all others must hold."""

    outcome: IngestOutcome | None = None
    queue: str | None = None
    since: datetime | None = None
    limit: int = 50
    offset: int = 0


def may_be_public_id(text: str) -> bool:
    """Tell whether a tenant's public id can read like that. Contract: spooled-tenancy 12.3."""
    return _PUBLIC_ID.fullmatch(text) is not None


def is_webhook_token(presented: bytes, expected: str | None) -> bool:
    """Tell whether `presented` is the tenant's webhook token; nothing is while it has none.

    The time that this takes depends on neither the first difference nor the length of the token.
    """
    # Digests have one length. Without a token the comparison is made all the same.
    same = hmac.compare_digest(sha256(presented).digest(), sha256((expected or "").encode()).digest())
    return same and bool(expected)


def is_signed_by_github(header: bytes, body: bytes, secret: str) -> bool:
    """Tell whether `header` (`X-Hub-Signature-256`) is the signature of the raw `body`.

    Contract: spooled-tenancy 11.3.
    """
    return hmac.compare_digest(header, _GITHUB_SCHEME + _signature(secret, body))


def is_signed_by_stripe(header: bytes, body: bytes, secret: str, now: datetime) -> bool:
    """Tell whether `header` (`Stripe-Signature`) signs the raw `body` at a time that is near enough to `now`.

    Any of several `v1` signatures is enough; other schemes are ignored. Contract: spooled-tenancy 11.4.
    """
    if len(header) > limits.SIGNATURE_HEADER_BYTES_MAX:
        return False
    items = [item.strip().partition(b"=") for item in header.split(b",")]
    # The time that is judged is the one that is signed, whatever others stand beside it.
    sent_at = next((value for name, _, value in items if name == b"t"), b"")
    if _STRIPE_TIME.fullmatch(sent_at) is None:
        return False
    # In whole seconds, as the sender counts.
    age_seconds = int(now.timestamp()) - int(sent_at)
    if not -STRIPE_AHEAD_SECONDS_MAX <= age_seconds <= STRIPE_AGE_SECONDS_MAX:
        return False
    expected = _signature(secret, sent_at + b"." + body)
    # All of them are compared: which one fitted is nobody's business.
    fits = [hmac.compare_digest(value, expected) for name, _, value in items if name == b"v1"]
    return any(fits)


def _signature(secret: str, message: bytes) -> bytes:
    return hmac.digest(secret.encode(), message, "sha256").hex().encode()


def queue_of_event(provider: Provider, event: str) -> str:
    """Return the queue that the webhooks of a provider's event go to.

    `github-` or `stripe-` and the first 64 characters of the event; what a queue may not be called becomes
    a hyphen. Contract: spooled-tenancy 11.3, 11.4.
    """
    return f"{provider.name.lower()}-{_OUTSIDE_QUEUE_NAME.sub('-', event[: limits.EVENT_CHARS_IN_QUEUE_MAX])}"


def is_ingest_queue(name: str) -> bool:
    """Tell whether a custom webhook may name the queue `name`.

    1 to 255 ASCII letters, digits, `-`, `_` and `.`, not beginning with `.` or `-`, no `..`, and none of
    the reserved names in any case. Contract: spooled-tenancy 11.2, ruling R10.
    """
    return _QUEUE_NAME.fullmatch(name) is not None and name.lower() not in _RESERVED_QUEUES


def is_event_type(text: str) -> bool:
    """Tell whether a custom webhook may name its event `text`. Contract: spooled-tenancy 11.2."""
    return _EVENT_TYPE.fullmatch(text) is not None


def logged_event(event: str) -> str:
    """Return as much of a provider's name for an event as is kept: printable, 100 characters at most."""
    return "".join(character for character in event if character.isprintable())[: limits.EVENT_TYPE_CHARS_MAX]
