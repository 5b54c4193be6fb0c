"""Usage of the plan. Contract: spooled-tenancy 3.6."""

import msgspec

from millstream.api.http.endpoint import Endpoint, Request, Response
from millstream.api.spooled.usage_bodies import UsageBody, usage_body
from millstream.domain.errors import NotFound
from millstream.engine.engine import Engine


class UsageEndpoints:
    """`/organizations/usage`."""

    def __init__(self, engine: Engine) -> None:
        self._usage = engine.usage

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="GET",
                path="/api/v1/organizations/usage",
                handler=self.own,
                summary="Show what your organization uses of its plan",
                tag="organizations",
                answers={200: UsageBody},
            ),
            Endpoint(
                method="GET",
                path="/api/v1/organizations/{organization_id}/usage",
                handler=self.named,
                summary="Show what your organization, named by its id, uses of its plan",
                tag="organizations",
                answers={200: UsageBody},
                errors=(NotFound,),
            ),
        ]

    async def own(self, request: Request) -> Response:
        """Show the caller's organization's usage."""
        report = await self._usage.report(request.principal)
        return Response(200, msgspec.json.encode(usage_body(report)))

    async def named(self, request: Request) -> Response:
        """The same under the organization's id; another one's looks unknown."""
        if request.parameters[0] != request.principal.organization_id:
            raise NotFound
        return await self.own(request)
