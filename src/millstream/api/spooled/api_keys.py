"""API keys, and the members that they stand for. Contract: spooled-tenancy 3.7, 4."""

from uuid import UUID

import msgspec
from msgspec import UNSET

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Request, Response
from millstream.api.http.timestamps import format_optional, format_timestamp
from millstream.api.spooled import api_key_bodies as bodies
from millstream.api.spooled.api_key_requests import api_key_change, new_api_key
from millstream.api.spooled.organizations import NOT_STORED
from millstream.domain.api_key import ALL_QUEUES, ApiKey, Member
from millstream.domain.errors import AccessDenied, InvalidField, NotFound, QuotaExceeded
from millstream.domain.ids import parse_id
from millstream.domain.tenant import IssuedKey, Principal
from millstream.engine.engine import Engine

_CREATE = Body(bodies.CreateApiKey)
_UPDATE = Body(bodies.UpdateApiKey)


class ApiKeyEndpoints:
    """`/api-keys`, and `/organizations/{organization_id}/members`."""

    def __init__(self, engine: Engine) -> None:
        self._api_keys = engine.api_keys

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        path = "/api/v1/api-keys/{key_id}"
        return [
            Endpoint(
                method="GET",
                path="/api/v1/api-keys",
                handler=self.list,
                summary="List API keys, the newest first, revoked ones too",
                tag="api-keys",
                answers={200: list[bodies.ApiKeyBody]},
                errors=(AccessDenied,),
            ),
            Endpoint(
                method="POST",
                path="/api/v1/api-keys",
                handler=self.create,
                summary="Make an API key; the answer shows its secret, once",
                tag="api-keys",
                body=_CREATE,
                answers={201: bodies.ApiKeyCreated},
                errors=(AccessDenied, InvalidField, QuotaExceeded),
            ),
            Endpoint(
                method="GET",
                path=path,
                handler=self.get,
                summary="Get an API key",
                tag="api-keys",
                answers={200: bodies.ApiKeyBody},
                errors=(AccessDenied, NotFound),
            ),
            Endpoint(
                method="PUT",
                path=path,
                handler=self.update,
                summary="Change an API key, or activate it again",
                tag="api-keys",
                body=_UPDATE,
                answers={200: bodies.ApiKeyBody},
                errors=(AccessDenied, NotFound, QuotaExceeded),
            ),
            Endpoint(
                method="DELETE",
                path=path,
                handler=self.revoke,
                summary="Revoke an API key and the tokens made from it",
                tag="api-keys",
                answers={204: None},
                errors=(AccessDenied, NotFound),
            ),
            Endpoint(
                method="GET",
                path="/api/v1/organizations/{organization_id}/members",
                handler=self.members,
                summary="List the members of the organization: its active API keys",
                tag="organizations",
                answers={200: list[bodies.MemberBody]},
                errors=(NotFound,),
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List API keys."""
        keys = await self._api_keys.list(request.principal)
        return Response(200, msgspec.json.encode([_key_body(key, request.principal) for key in keys]))

    async def create(self, request: Request) -> Response:
        """Make an API key."""
        key = await self._api_keys.create(request.principal, new_api_key(_CREATE.read(request.body)))
        return Response(201, msgspec.json.encode(api_key_created(key)), NOT_STORED)

    async def get(self, request: Request) -> Response:
        """Get an API key."""
        key = await self._api_keys.get(request.principal, _key_id(request))
        return Response(200, msgspec.json.encode(_key_body(key, request.principal)))

    async def update(self, request: Request) -> Response:
        """Change an API key."""
        change = api_key_change(_UPDATE.read(request.body))
        key = await self._api_keys.update(request.principal, _key_id(request), change)
        return Response(200, msgspec.json.encode(_key_body(key, request.principal)))

    async def revoke(self, request: Request) -> Response:
        """Revoke an API key."""
        await self._api_keys.revoke(request.principal, _key_id(request))
        return NO_CONTENT

    async def members(self, request: Request) -> Response:
        """List the members of the organization."""
        members = await self._api_keys.members(request.principal, request.parameters[0])
        return Response(200, msgspec.json.encode([_member_body(member) for member in members]))


def api_key_created(key: IssuedKey) -> bodies.ApiKeyCreated:
    """Return the answer that shows the secret of a new key."""
    return bodies.ApiKeyCreated(
        id=key.id,
        key=key.secret,
        name=key.name,
        created_at=format_timestamp(key.created_at),
        expires_at=UNSET if key.expires_at is None else format_timestamp(key.expires_at),
    )


def _key_id(request: Request) -> UUID:
    key_id = parse_id(request.parameters[0])
    if key_id is None:
        raise NotFound
    return key_id


def _key_body(key: ApiKey, principal: Principal) -> bodies.ApiKeyBody:
    return bodies.ApiKeyBody(
        id=key.id,
        organization_id=principal.organization_id,
        name=key.name,
        key_prefix=key.prefix,
        queues=list(key.queues),
        rate_limit=key.rate_limit,
        is_active=key.is_active,
        created_at=format_timestamp(key.created_at),
        last_used=format_optional(key.last_used_at),
        expires_at=format_optional(key.expires_at),
    )


def _member_body(member: Member) -> bodies.MemberBody:
    return bodies.MemberBody(
        id=member.id,
        user_id=member.id,
        email=member.email,
        name=member.name,
        role="owner" if ALL_QUEUES in member.queues else "member",
        joined_at=format_timestamp(member.joined_at),
    )
