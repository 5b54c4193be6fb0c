"""The bodies of API keys and members, as they are on the wire. Contract: spooled-tenancy 2.2, 2.3, 4.3."""

from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from millstream.api.spooled.requests import Int


class CreateApiKey(Struct, frozen=True, kw_only=True):
    """`POST /api-keys`. No `queues`, or none in them, means all."""

    name: str
    queues: list[str] | None = None
    rate_limit: Int | None = None
    expires_at: str | None = None


class UpdateApiKey(Struct, frozen=True, kw_only=True):
    """`PUT /api-keys/{id}`. What is absent or null stays."""

    name: str | None = None
    queues: list[str] | None = None
    rate_limit: Int | None = None
    is_active: bool | None = None


class ApiKeyBody(Struct, kw_only=True):
    """An API key without its secret."""

    id: UUID
    organization_id: str
    name: str
    key_prefix: str
    queues: list[str]
    rate_limit: int | None
    is_active: bool
    created_at: str
    last_used: str | None
    expires_at: str | None


class ApiKeyCreated(Struct, kw_only=True):
    """The answer to the creation of an API key: the only one that shows the secret."""

    id: UUID
    key: str
    name: str
    created_at: str
    expires_at: str | UnsetType = UNSET


class MemberBody(Struct, kw_only=True):
    """A member of an organization."""

    id: UUID
    user_id: UUID
    email: str
    name: str
    role: str
    joined_at: str
