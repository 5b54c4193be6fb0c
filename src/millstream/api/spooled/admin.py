"""The administration of all organizations. Contract: spooled-tenancy 6."""

from collections.abc import Mapping

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Auth, Endpoint, Handler, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.spooled import admin_bodies as bodies
from millstream.api.spooled.admin_answers import details_body, listed_body, plan_body, stats_body
from millstream.api.spooled.admin_requests import (
    custom_limits_text,
    tenant_change,
    tenant_filter,
    tier_of,
)
from millstream.api.spooled.answers import OrganizationBody
from millstream.api.spooled.api_key_bodies import ApiKeyCreated, CreateApiKey
from millstream.api.spooled.api_key_requests import new_api_key
from millstream.api.spooled.api_keys import api_key_created
from millstream.api.spooled.organizations import NOT_STORED, check_name, settings_text
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.translate import issued_key, organization_body
from millstream.domain.api_key import ALL_QUEUES
from millstream.domain.errors import BadRequest, Conflict, MillstreamError, NotFound
from millstream.domain.plan import PLANS
from millstream.domain.slug import ADMIN_SLUG_RULE, is_valid_admin_slug
from millstream.engine.engine import Engine

_ALL = "/api/v1/admin/organizations"
_ONE = f"{_ALL}/{{organization_id}}"
_CREATE = Body(bodies.CreateOrganizationAsAdmin)
_UPDATE = Body(bodies.UpdateOrganizationAsAdmin)
_CREATE_KEY = Body(CreateApiKey)
_FILTERS = (
    Parameter(name="plan_tier"),
    Parameter(name="search", description="Part of a name or slug."),
    Parameter(name="limit", kind="integer"),
    Parameter(name="offset", kind="integer"),
    Parameter(name="sort_by"),
    Parameter(name="sort_order"),
)
_HARD = (
    Parameter(name="hard_delete", kind="boolean", description="Remove the organization with all its rows."),
    Parameter(name="hard", kind="boolean", description="The same, for existing clients."),
)
_PLANS = Response(200, msgspec.json.encode([plan_body(plan) for plan in PLANS.values()]))


class AdminEndpoints:
    """`/admin`."""

    def __init__(self, engine: Engine) -> None:
        self._admin = engine.admin
        self._tenants = engine.tenants

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        change = "Change any organization, its plan and limits included"
        changed = {200: OrganizationBody}
        return [
            _endpoint(
                "GET",
                _ALL,
                self.list,
                "List all organizations with their usage",
                {200: bodies.AdminOrganizations},
                query=_FILTERS,
                errors=(BadRequest,),
            ),
            _endpoint(
                "POST",
                _ALL,
                self.create,
                "Create an organization and its first API key",
                {201: bodies.AdminOrganizationCreated},
                body=_CREATE,
                errors=(Conflict,),
            ),
            _endpoint(
                "GET",
                _ONE,
                self.get,
                "Get any organization with its usage",
                {200: bodies.AdminOrganizationDetails},
                errors=(NotFound,),
            ),
            _endpoint("PATCH", _ONE, self.update, change, changed, body=_UPDATE, errors=(NotFound,)),
            _endpoint("PUT", _ONE, self.update, change, changed, body=_UPDATE, errors=(NotFound,)),
            _endpoint(
                "DELETE",
                _ONE,
                self.delete,
                "Delete any organization, or only end its credentials",
                {204: None},
                query=_HARD,
                errors=(NotFound, BadRequest),
            ),
            _endpoint(
                "POST",
                f"{_ONE}/api-keys",
                self.create_key,
                "Make an API key for any organization",
                {201: ApiKeyCreated},
                body=_CREATE_KEY,
                errors=(NotFound,),
            ),
            _endpoint(
                "POST",
                f"{_ONE}/reset-usage",
                self.reset_usage,
                "Let the count of jobs created today begin anew",
                {204: None},
                errors=(NotFound,),
            ),
            _endpoint(
                "GET", "/api/v1/admin/stats", self.stats, "Count over everything", {200: bodies.AdminStats}
            ),
            _endpoint(
                "GET", "/api/v1/admin/plans", self.plans, "List the plans", {200: list[bodies.AdminPlan]}
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List all organizations with their usage."""
        wanted = tenant_filter(Query(request.query_string))
        page = await self._admin.list(wanted)
        rows = [listed_body(tenant) for tenant in page.tenants]
        answer = bodies.AdminOrganizations(rows, page.total, wanted.limit, wanted.offset)
        return Response(200, msgspec.json.encode(answer))

    async def create(self, request: Request) -> Response:
        """Create an organization and its first API key."""
        body = _CREATE.read(request.body)
        name = body.name.strip()
        rules = Rules()
        check_name(rules, name)
        if not is_valid_admin_slug(body.slug):
            rules.refuse("slug", ADMIN_SLUG_RULE, "INVALID_FORMAT")
        tier = tier_of(rules, body.plan_tier)
        rules.email("billing_email", body.billing_email)
        settings = settings_text(rules, body.settings)
        rules.enforce()
        tenant, key = await self._tenants.create(
            name=name,
            slug=body.slug,
            billing_email=body.billing_email,
            plan_tier=tier or "free",
            settings=settings,
            custom_limits=custom_limits_text(body.custom_limits),
        )
        organization = organization_body(tenant)
        answer = bodies.AdminOrganizationCreated(
            **msgspec.structs.asdict(organization), organization=organization, api_key=issued_key(key)
        )
        return Response(201, msgspec.json.encode(answer), NOT_STORED)

    async def get(self, request: Request) -> Response:
        """Get any organization with its usage."""
        details = await self._admin.get(_organization_id(request))
        return Response(200, msgspec.json.encode(details_body(details)))

    async def update(self, request: Request) -> Response:
        """Change any organization, its plan and limits included."""
        change = tenant_change(_UPDATE.read(request.body))
        tenant = await self._admin.update(_organization_id(request), change)
        return Response(200, msgspec.json.encode(organization_body(tenant)))

    async def delete(self, request: Request) -> Response:
        """Delete any organization, or only end its credentials."""
        query = Query(request.query_string)
        hard, older_word = query.flag("hard_delete"), query.flag("hard")
        await self._admin.delete(_organization_id(request), hard=hard or older_word)
        return NO_CONTENT

    async def create_key(self, request: Request) -> Response:
        """Make an API key for any organization."""
        new = new_api_key(_CREATE_KEY.read(request.body), queues=(ALL_QUEUES,))
        key = await self._admin.create_key(_organization_id(request), new)
        return Response(201, msgspec.json.encode(api_key_created(key)), NOT_STORED)

    async def reset_usage(self, request: Request) -> Response:
        """Let the count of jobs created today begin anew."""
        await self._admin.reset_usage(_organization_id(request))
        return NO_CONTENT

    async def stats(self, request: Request) -> Response:
        """Count over everything."""
        return Response(200, msgspec.json.encode(stats_body(await self._admin.stats())))

    async def plans(self, request: Request) -> Response:
        """List the plans."""
        return _PLANS


def _organization_id(request: Request) -> str:
    organization_id = request.parameters[0]
    # No id has one, and the database would refuse it instead of not finding it.
    if "\0" in organization_id:
        raise NotFound
    return organization_id


def _endpoint(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    answers: Mapping[int, object],
    *,
    body: Body[object] | None = None,
    query: tuple[Parameter, ...] = (),
    errors: tuple[type[MillstreamError], ...] = (),
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        summary=summary,
        tag="admin",
        body=body,
        query=query,
        answers=answers,
        errors=errors,
        auth=Auth.ADMIN,
    )
