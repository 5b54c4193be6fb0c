"""Tokens: log-in, refresh, log-out, and looks at them. Contract: spooled-tenancy 5."""

from datetime import UTC, datetime

import msgspec

from millstream.api.http.auth import bearer_of
from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Auth, Endpoint, Request, Response
from millstream.api.http.timestamps import format_timestamp
from millstream.api.spooled import token_bodies as bodies
from millstream.api.spooled.rules import Rules
from millstream.domain import limits
from millstream.domain.errors import InvalidCredential, InvalidField
from millstream.domain.token import Claims, TokenPair, Validation
from millstream.engine.engine import Engine

_LOG_IN = Body(bodies.LogIn)
_REFRESH = Body(bodies.Refresh)
_LOG_OUT = Body(bodies.LogOut, required=False)
_VALIDATE = Body(bodies.Validate)
NOT_STORED = ((b"cache-control", b"no-store"),)


class TokenEndpoints:
    """`/auth`, but for sign-in by e-mail."""

    def __init__(self, engine: Engine) -> None:
        self._tokens = engine.tokens

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="POST",
                path="/api/v1/auth/login",
                handler=self.log_in,
                summary="Exchange an API key for tokens",
                tag="auth",
                body=_LOG_IN,
                answers={200: bodies.LoggedIn},
                errors=(InvalidCredential, InvalidField),
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/auth/refresh",
                handler=self.refresh,
                summary="Get a new access token",
                tag="auth",
                body=_REFRESH,
                answers={200: bodies.Refreshed},
                errors=(InvalidCredential, InvalidField),
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/auth/logout",
                handler=self.log_out,
                summary="End the access token and, if given, a refresh token",
                tag="auth",
                body=_LOG_OUT,
                answers={204: None},
            ),
            Endpoint(
                method="GET",
                path="/api/v1/auth/me",
                handler=self.me,
                summary="Tell who the access token stands for",
                tag="auth",
                answers={200: bodies.Me},
            ),
            Endpoint(
                method="POST",
                path="/api/v1/auth/validate",
                handler=self.validate,
                summary="Tell whether a token counts, and what it says",
                tag="auth",
                body=_VALIDATE,
                answers={200: bodies.Validated},
                auth=Auth.OPEN,
            ),
        ]

    async def log_in(self, request: Request) -> Response:
        """Exchange an API key for tokens."""
        secret = _LOG_IN.read(request.body).api_key
        _check_length("api_key", secret)
        pair = await self._tokens.log_in(secret, address=request.address)
        return Response(200, msgspec.json.encode(logged_in(pair)), NOT_STORED)

    async def refresh(self, request: Request) -> Response:
        """Get a new access token."""
        token = _REFRESH.read(request.body).refresh_token
        _check_length("refresh_token", token)
        access = await self._tokens.refresh(token)
        answer = bodies.Refreshed(access_token=access.token, expires_in=access.expires_in_seconds)
        return Response(200, msgspec.json.encode(answer), NOT_STORED)

    async def log_out(self, request: Request) -> Response:
        """End the access token and, if given, a refresh token."""
        body = _LOG_OUT.read(request.body)
        await self._tokens.log_out(request.principal, bearer_of(request.headers), body.refresh_token)
        return NO_CONTENT

    async def me(self, request: Request) -> Response:
        """Tell who the access token stands for."""
        signed_in = await self._tokens.signed_in(request.principal, bearer_of(request.headers))
        answer = bodies.Me(
            organization_id=signed_in.organization_id,
            api_key_id=signed_in.api_key_id,
            queues=list(signed_in.queues),
            issued_at=format_timestamp(signed_in.issued_at),
            expires_at=format_timestamp(signed_in.expires_at),
            organization=bodies.MyOrganization(
                id=signed_in.organization_id,
                name=signed_in.organization_name,
                slug=signed_in.slug,
                plan_tier=signed_in.plan_tier,
                billing_email=signed_in.billing_email,
            ),
        )
        return Response(200, msgspec.json.encode(answer))

    async def validate(self, request: Request) -> Response:
        """Tell whether a token counts, and what it says."""
        token = _VALIDATE.read(request.body).token
        validation = await self._tokens.validate(token, address=request.address)
        return Response(200, msgspec.json.encode(_validated(validation)))


def logged_in(pair: TokenPair) -> bodies.LoggedIn:
    """Return fresh tokens as the answer to a log-in."""
    return bodies.LoggedIn(
        access_token=pair.access.token,
        refresh_token=pair.refresh_token,
        expires_in=pair.access.expires_in_seconds,
        refresh_expires_in=pair.refresh_expires_in_seconds,
    )


def _check_length(field: str, value: str) -> None:
    rules = Rules()
    if len(value) < limits.API_KEY_CHARS_MIN:
        rules.refuse(field, f"must have at least {limits.API_KEY_CHARS_MIN} characters", "INVALID_LENGTH")
    rules.enforce()


def _validated(validation: Validation) -> bodies.Validated:
    claims = validation.claims
    if claims is None:
        text = "Token has been revoked" if validation.is_revoked else "Invalid token"
        return bodies.Validated(valid=False, error=text, message=text)
    return bodies.Validated(
        valid=True,
        claims=_claims_body(claims),
        organization_id=claims.org_id,
        api_key_id=claims.api_key_id,
        queues=list(claims.queues),
        expires_at=format_timestamp(datetime.fromtimestamp(claims.exp, UTC)),
    )


def _claims_body(claims: Claims) -> bodies.ClaimsBody:
    return bodies.ClaimsBody(
        sub=claims.sub,
        org_id=claims.org_id,
        organization_id=claims.org_id,
        api_key_id=claims.api_key_id,
        iat=int(claims.iat),
        exp=int(claims.exp),
        nbf=int(claims.nbf),
        jti=claims.jti,
        queues=list(claims.queues),
        token_type=claims.token_type.value,
    )
