"""Organizations: registration. Contract: spooled-tenancy 3.1, 17."""

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Auth, Endpoint, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled import answers, requests
from millstream.api.spooled.registration import Registration
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.translate import issued_key, organization_body
from millstream.domain.errors import AccessDenied, Conflict
from millstream.domain.tenant import is_valid_slug
from millstream.engine.engine import Engine

_NAME_CHARS_MIN = 3
_NAME_CHARS_MAX = 100

_CREATE = Body(requests.CreateOrganization)
# The answer shows a secret that is never shown again.
_NOT_STORED = ((b"cache-control", b"no-store"),)


class OrganizationEndpoints:
    """`/organizations`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._tenants = engine.tenants
        self._registration = Registration(settings)

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
            )
        ]

    async def create(self, request: Request) -> Response:
        """Create an organization and its first API key."""
        self._registration.check(request.headers)
        body = _CREATE.read(request.body)
        rules = Rules()
        check_organization(rules, name=body.name, slug=body.slug)
        rules.email("billing_email", body.billing_email)
        rules.enforce()
        tenant, key = await self._tenants.create(
            name=body.name.strip(), slug=body.slug, billing_email=body.billing_email
        )
        answer = answers.OrganizationCreated(organization_body(tenant), issued_key(key))
        return Response(201, msgspec.json.encode(answer), _NOT_STORED)


def check_organization(rules: Rules, *, name: str, slug: str) -> None:
    """Check the name and the slug of a new organization. Contract: spooled-tenancy 3.1."""
    rules.text("name", name.strip(), _NAME_CHARS_MIN, _NAME_CHARS_MAX)
    if not is_valid_slug(slug):
        rules.refuse(
            "slug",
            "must have 3 to 50 lower-case letters and digits in groups joined by '-', start with a letter "
            "and not be reserved",
            "INVALID_FORMAT",
        )
