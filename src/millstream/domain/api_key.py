"""API keys: what they reach, and what may be changed of them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

ALL_QUEUES = "*"
USE_NOTED_SECONDS = 300
"""The time of a key's last use is written at most once in this time."""


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key as its owners see it. `queues` empty means all; `rate_limit` is in requests a minute."""

    id: UUID
    name: str
    prefix: str
    queues: tuple[str, ...]
    rate_limit: int | None
    is_active: bool
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class NewApiKey(Struct, frozen=True, kw_only=True):
    """An API key to make. `queues` empty means all; `rate_limit` is in requests a minute."""

    name: str
    queues: tuple[str, ...] = ()
    rate_limit: int | None = None
    expires_at: datetime | None = None


class ApiKeyChange(Struct, frozen=True, kw_only=True):
    """What to change of an API key; None keeps."""

    name: str | None = None
    queues: tuple[str, ...] | None = None
    rate_limit: int | None = None
    is_active: bool | None = None


class Member(Struct, frozen=True, kw_only=True):
    """An active API key as a member of its tenant: there are no stored people. Contract: spooled-tenancy 2.2."""

    id: UUID
    name: str
    email: str
    queues: tuple[str, ...]
    joined_at: datetime


def is_unrestricted(queues: Sequence[str]) -> bool:
    """Tell whether a key of these queues reaches all of them. Contract: spooled-tenancy 4.2."""
    return not queues or ALL_QUEUES in queues
