"""Organizations: registration, and what each sees and changes of itself. Contract: spooled-tenancy 3, 17."""

import msgspec
from msgspec import Raw, UnsetType

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Auth, Endpoint, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import answers, requests
from millstream.api.spooled.organization_bodies import OrganizationSummary, UpdateOrganization
from millstream.api.spooled.registration import Registration
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.translate import issued_key, organization_body
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, Conflict, NotFound
from millstream.domain.slug import SLUG_RULE, is_valid_slug
from millstream.domain.tenant import TenantChange
from millstream.engine.engine import Engine

_CREATE = Body(requests.CreateOrganization)
_UPDATE = Body(UpdateOrganization)
# The answer shows a secret that is never shown again.
NOT_STORED = ((b"cache-control", b"no-store"),)


class OrganizationEndpoints:
    """`/organizations`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._tenants = engine.tenants
        self._registration = Registration(settings.registration_mode, engine.admin_access)

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="POST",
                path="/api/v1/organizations",
                handler=self.create,
                summary="Create an organization and its first API key",
                tag="organizations",
                body=_CREATE,
                answers={201: answers.OrganizationCreated},
                errors=(AccessDenied, Conflict),
                auth=Auth.REGISTRATION,
            ),
            Endpoint(
                method="GET",
                path="/api/v1/organizations",
                handler=self.list,
                summary="List the caller's organization",
                tag="organizations",
                answers={200: list[OrganizationSummary]},
            ),
            Endpoint(
                method="GET",
                path="/api/v1/organizations/{organization_id}",
                handler=self.get,
                summary="Get the caller's organization",
                tag="organizations",
                answers={200: answers.OrganizationBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="PUT",
                path="/api/v1/organizations/{organization_id}",
                handler=self.update,
                summary="Change the caller's organization",
                tag="organizations",
                body=_UPDATE,
                answers={200: answers.OrganizationBody},
                errors=(NotFound, AccessDenied),
            ),
            Endpoint(
                method="DELETE",
                path="/api/v1/organizations/{organization_id}",
                handler=self.delete,
                summary="Delete the caller's organization with everything in it",
                tag="organizations",
                answers={204: None},
                errors=(NotFound, AccessDenied, Conflict),
            ),
        ]

    async def create(self, request: Request) -> Response:
        """Create an organization and its first API key."""
        await self._registration.check(request)
        body = _CREATE.read(request.body)
        name = body.name.strip()
        rules = Rules()
        check_organization(rules, name=name, slug=body.slug)
        rules.email("billing_email", body.billing_email)
        rules.enforce()
        tenant, key = await self._tenants.create(name=name, slug=body.slug, billing_email=body.billing_email)
        answer = answers.OrganizationCreated(organization_body(tenant), issued_key(key))
        return Response(201, msgspec.json.encode(answer), NOT_STORED)

    async def list(self, request: Request) -> Response:
        """List the caller's organization."""
        tenant = await self._tenants.get(request.principal)
        summary = OrganizationSummary(
            tenant.public_id, tenant.name, tenant.slug, tenant.plan_tier, format_timestamp(tenant.created_at)
        )
        return Response(200, msgspec.json.encode([summary]))

    async def get(self, request: Request) -> Response:
        """Get the caller's organization."""
        tenant = await self._tenants.get(request.principal, request.parameters[0])
        return Response(200, msgspec.json.encode(organization_body(tenant)))

    async def update(self, request: Request) -> Response:
        """Change the caller's organization."""
        body = _UPDATE.read(request.body)
        rules = Rules()
        name = None if body.name is None else body.name.strip()
        check_name(rules, name)
        rules.email("billing_email", body.billing_email)
        rules.text("description", body.description, 0, limits.DESCRIPTION_CHARS_MAX)
        settings = settings_text(rules, body.settings)
        rules.enforce()
        change = TenantChange(
            name=name, billing_email=body.billing_email, description=body.description, settings=settings
        )
        tenant = await self._tenants.update(request.principal, request.parameters[0], change)
        return Response(200, msgspec.json.encode(organization_body(tenant)))

    async def delete(self, request: Request) -> Response:
        """Delete the caller's organization with everything in it."""
        await self._tenants.delete(request.principal, request.parameters[0])
        return NO_CONTENT


def check_name(rules: Rules, name: str | None) -> None:
    """Check the length of an organization's name, if given."""
    rules.text("name", name, limits.TENANT_NAME_CHARS_MIN, limits.TENANT_NAME_CHARS_MAX)


def settings_text(rules: Rules, settings: Raw | UnsetType) -> str | None:
    """Return the settings of an organization as JSON text, None when they are absent or null."""
    return rules.json_text("settings", settings, limits.SETTINGS_BYTES_MAX)


def check_organization(rules: Rules, *, name: str, slug: str) -> None:
    """Check the name and the slug of a new organization. Contract: spooled-tenancy 3.1."""
    check_name(rules, name.strip())
    if not is_valid_slug(slug):
        rules.refuse("slug", SLUG_RULE, "INVALID_FORMAT")
