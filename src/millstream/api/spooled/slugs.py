"""Slugs of organizations, before there is one. Contract: spooled-tenancy 3.8, 3.9."""

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Auth, Endpoint, Handler, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.spooled.organization_bodies import GenerateSlug, SlugChecked, SlugGenerated
from millstream.api.spooled.rules import Rules
from millstream.domain import limits
from millstream.domain.errors import BadRequest
from millstream.domain.slug import SLUG_RULE, is_valid_slug
from millstream.engine.engine import Engine

_GENERATE = Body(GenerateSlug)


class SlugEndpoints:
    """`/organizations/check-slug` and `/organizations/generate-slug`."""

    def __init__(self, engine: Engine) -> None:
        self._tenants = engine.tenants

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            _checking(
                "/api/v1/organizations/check-slug", self.check, (Parameter(name="slug", required=True),)
            ),
            _checking("/api/v1/organizations/check-slug/{slug}", self.check_path, ()),
            Endpoint(
                method="POST",
                path="/api/v1/organizations/generate-slug",
                handler=self.generate,
                summary="Make a free slug of a name",
                tag="organizations",
                body=_GENERATE,
                answers={200: SlugGenerated},
                auth=Auth.OPEN,
            ),
        ]

    async def check(self, request: Request) -> Response:
        """Tell whether a slug is valid and free."""
        slug = Query(request.query_string).text("slug")
        if slug is None:
            raise BadRequest("slug is required")
        return await self._checked(slug)

    async def check_path(self, request: Request) -> Response:
        """Tell whether the slug in the path is valid and free, for existing clients."""
        return await self._checked(request.parameters[0])

    async def generate(self, request: Request) -> Response:
        """Make a free slug of a name."""
        name = _GENERATE.read(request.body).name.strip()
        rules = Rules()
        rules.text("name", name, 1, limits.TENANT_NAME_CHARS_MAX)
        rules.enforce()
        slug = await self._tenants.propose_slug(name)
        return Response(200, msgspec.json.encode(SlugGenerated(slug)))

    async def _checked(self, slug: str) -> Response:
        valid = is_valid_slug(slug)
        free = await self._tenants.find_free_slug(slug) if valid else None
        message = SLUG_RULE if not valid else "is free" if free == slug else "is taken"
        answer = SlugChecked(
            available=free == slug,
            valid=valid,
            error=None if valid else message,
            suggestion=None if free == slug else free,
            slug=slug,
            message=f"The slug {message}",
        )
        return Response(200, msgspec.json.encode(answer))


def _checking(path: str, handler: Handler, query: tuple[Parameter, ...]) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        handler=handler,
        summary="Tell whether a slug is valid and free",
        tag="organizations",
        query=query,
        answers={200: SlugChecked},
        errors=(BadRequest,),
        auth=Auth.OPEN,
    )
