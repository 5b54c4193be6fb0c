"""Access and refresh tokens: short-lived credentials that are made from an API key and die with it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

EXPIRY_LEEWAY_SECONDS = 60
"""For how long after its end a token still counts, since clocks differ."""
REFRESH_LIFETIMES = 24
"""The life of a refresh token, in lives of an access token."""

# The last second of the year 9999: what is later is no time.
_Seconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]


class TokenType(StrEnum):
    """What a token is for."""

    ACCESS = "access"
    REFRESH = "refresh"


class Claims(Struct, frozen=True, kw_only=True):
    """What a token says. Times are in Unix seconds. Contract: spooled-tenancy 5.1."""

    sub: str
    org_id: str
    api_key_id: UUID
    iat: _Seconds
    exp: _Seconds
    nbf: _Seconds
    jti: UUID
    queues: tuple[str, ...]
    token_type: TokenType


class AccessToken(Struct, frozen=True, kw_only=True):
    """A fresh access token, and for how many seconds it counts."""

    token: str
    expires_in_seconds: int


class TokenPair(Struct, frozen=True, kw_only=True):
    """A fresh access token and what renews it."""

    access: AccessToken
    refresh_token: str
    refresh_expires_in_seconds: int


class SignedIn(Struct, frozen=True, kw_only=True):
    """Who an access token stands for, as of now: `queues` are those of the key, not of the token."""

    organization_id: str
    organization_name: str
    slug: str
    plan_tier: str
    billing_email: str | None
    api_key_id: UUID
    queues: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime


class Validation(Struct, frozen=True, kw_only=True):
    """What a look at a token found: its claims, or, when it does not count, whether that is by revocation."""

    claims: Claims | None = None
    is_revoked: bool = False
