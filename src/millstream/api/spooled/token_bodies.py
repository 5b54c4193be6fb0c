"""The bodies of log-in, refresh, log-out and looks at tokens, as they are on the wire. Contract: spooled-tenancy 5."""

from uuid import UUID

from msgspec import UNSET, Struct, UnsetType


class LogIn(Struct, frozen=True, kw_only=True):
    """`POST /auth/login`."""

    api_key: str


class Refresh(Struct, frozen=True, kw_only=True):
    """`POST /auth/refresh`."""

    refresh_token: str


class LogOut(Struct, frozen=True, kw_only=True):
    """`POST /auth/logout`. A refresh token that is not named goes on."""

    refresh_token: str | None = None


class Validate(Struct, frozen=True, kw_only=True):
    """`POST /auth/validate`."""

    token: str


class LoggedIn(Struct, kw_only=True):
    """The answer to a log-in; times to live are in seconds."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"
    expires_in: int
    refresh_expires_in: int


class Refreshed(Struct, kw_only=True):
    """The answer to a refresh: there is no new refresh token, the old one goes on."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int


class MyOrganization(Struct, kw_only=True):
    """The organization that a token belongs to."""

    id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None


class Me(Struct, kw_only=True):
    """Who a token stands for; `queues` are those that its key has now."""

    organization_id: str
    api_key_id: UUID
    queues: list[str]
    issued_at: str
    expires_at: str
    organization: MyOrganization


class ClaimsBody(Struct, kw_only=True):
    """What a token says; times are Unix seconds."""

    sub: str
    org_id: str
    organization_id: str
    api_key_id: UUID
    iat: int
    exp: int
    nbf: int
    jti: UUID
    queues: list[str]
    token_type: str


class Validated(Struct, kw_only=True):
    """The answer to a look at a token; which fields there are depends on `valid`."""

    valid: bool
    claims: ClaimsBody | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    organization_id: str | UnsetType = UNSET
    api_key_id: UUID | UnsetType = UNSET
    queues: list[str] | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
