"""The token of an organization's incoming webhooks. Contract: spooled-tenancy 3.10."""

import msgspec

from millstream.api.http.endpoint import Endpoint, Handler, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.organization_bodies import WebhookToken
from millstream.api.spooled.organizations import NOT_STORED
from millstream.domain.errors import AccessDenied, MillstreamError, NotFound
from millstream.engine.engine import Engine

_OWN = "/api/v1/organizations/webhook-token"
_BY_ID = "/api/v1/organizations/{organization_id}/webhook-token"


class WebhookTokenEndpoints:
    """`/organizations/webhook-token`, and the same below an organization's id for existing clients."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._tenants = engine.tenants
        self._base_url = None if settings.base_url is None else settings.base_url.rstrip("/")

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        show, renew = "Show the token of incoming webhooks", "Replace the token of incoming webhooks"
        keep = "Refused: incoming webhooks always have a token"
        return [
            _endpoint("GET", _OWN, self.get, show),
            _endpoint("POST", f"{_OWN}/regenerate", self.regenerate, renew),
            _endpoint("POST", f"{_OWN}/clear", self.clear, keep, never=True),
            _endpoint("GET", _BY_ID, self.get, show, (NotFound,)),
            _endpoint("POST", f"{_BY_ID}/regenerate", self.regenerate, renew, (NotFound,)),
            _endpoint("DELETE", _BY_ID, self.clear, keep, never=True),
        ]

    async def get(self, request: Request) -> Response:
        """Show the token."""
        token = await self._tenants.find_webhook_token(request.principal, _organization_id(request))
        return self._answer(request, token)

    async def regenerate(self, request: Request) -> Response:
        """Replace the token."""
        token = await self._tenants.renew_webhook_token(request.principal, _organization_id(request))
        return self._answer(request, token)

    async def clear(self, request: Request) -> Response:
        """Refuse: without a token anybody could enqueue jobs."""
        raise NotFound

    def _answer(self, request: Request, token: str | None) -> Response:
        base = self._base_url or f"http://{request.headers.get(b'host', b'localhost').decode('latin-1')}"
        url = f"{base}/api/v1/webhooks/{request.principal.organization_id}/custom"
        return Response(200, msgspec.json.encode(WebhookToken(token, token, url)), NOT_STORED)


def _organization_id(request: Request) -> str | None:
    return request.parameters[0] if request.parameters else None


def _endpoint(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    errors: tuple[type[MillstreamError], ...] = (),
    *,
    never: bool = False,
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        summary=summary,
        tag="organizations",
        answers={} if never else {200: WebhookToken},
        errors=(NotFound,) if never else (AccessDenied, *errors),
    )
