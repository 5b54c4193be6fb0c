"""Sign-in by e-mail; without a mail server none of this is served. Contract: spooled-tenancy 5.7."""

import re

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import Auth, Endpoint, Parameter, Request, Response
from millstream.api.http.query import Query
from millstream.api.spooled import sign_in_bodies as bodies
from millstream.api.spooled.organizations import check_organization
from millstream.api.spooled.rules import Rules
from millstream.api.spooled.tokens import NOT_STORED
from millstream.domain import limits
from millstream.domain.errors import BadRequest, Conflict, InvalidCredential, InvalidField
from millstream.domain.sign_in import CODE_DIGITS, SignedInByEmail
from millstream.engine.sign_ins import SignIns

_START = Body(bodies.StartSignIn)
_VERIFY = Body(bodies.VerifySignIn)
_COMPLETE = Body(bodies.CompleteSignUp)
_CHECK = Body(bodies.CheckEmail)
_CODE = re.compile(rf"[0-9]{{{CODE_DIGITS}}}")
_EMAIL = (Parameter(name="email", required=True, description="the address"),)


class SignInEndpoints:
    """`/auth/email`, `/auth/signup` and `/auth/check-email`."""

    def __init__(self, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        return [
            Endpoint(
                method="POST",
                path="/api/v1/auth/email/start",
                handler=self.start,
                summary="Send a sign-in code to an address",
                tag="auth",
                body=_START,
                answers={200: bodies.SignInStarted},
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/auth/email/verify",
                handler=self.verify,
                summary="Exchange a sign-in code for tokens, or for a sign-up",
                tag="auth",
                body=_VERIFY,
                answers={200: bodies.SignedIn | bodies.SignUpOffered},
                errors=(InvalidCredential,),
                auth=Auth.OPEN,
            ),
            Endpoint(
                method="POST",
                path="/api/v1/auth/signup/complete",
                handler=self.complete,
                summary="Complete a sign-up: make the organization",
                tag="auth",
                body=_COMPLETE,
                answers={201: bodies.SignedUp},
                errors=(InvalidCredential, Conflict),
                auth=Auth.OPEN,
            ),
            *(
                Endpoint(
                    method="GET",
                    path=path,
                    handler=self.check,
                    summary="Tell whether an address has an organization",
                    tag="auth",
                    query=_EMAIL,
                    answers={200: bodies.EmailChecked},
                    errors=(BadRequest, InvalidField),
                    auth=Auth.OPEN,
                )
                for path in ("/api/v1/auth/check-email", "/api/v1/auth/email/check")
            ),
            Endpoint(
                method="POST",
                path="/api/v1/auth/email/check",
                handler=self.check_body,
                summary="Tell whether an address has an organization",
                tag="auth",
                body=_CHECK,
                answers={200: bodies.EmailChecked},
                auth=Auth.OPEN,
            ),
        ]

    async def start(self, request: Request) -> Response:
        """Send a sign-in code."""
        email = _checked(_START.read(request.body).email)
        sent = await self._sign_ins.start(email, address=request.address)
        answer = bodies.SignInStarted(
            message="If the address may sign in, a code is on its way to it",
            email_sent_to=sent.masked_email,
            expires_in=sent.expires_in_seconds,
        )
        return Response(200, msgspec.json.encode(answer))

    async def verify(self, request: Request) -> Response:
        """Exchange a sign-in code for tokens, or for a sign-up."""
        body = _VERIFY.read(request.body)
        rules = Rules()
        rules.email("email", body.email)
        rules.pattern("code", body.code, _CODE, f"must have {CODE_DIGITS} digits")
        rules.enforce()
        opened = await self._sign_ins.verify(body.email, body.code, address=request.address)
        if isinstance(opened, SignedInByEmail):
            answer = _signed_in(opened)
        else:
            answer = bodies.SignUpOffered(
                signup_token=opened.token, email=opened.email, expires_in=opened.expires_in_seconds
            )
        return Response(200, msgspec.json.encode(answer), NOT_STORED)

    async def complete(self, request: Request) -> Response:
        """Complete a sign-up."""
        body = _COMPLETE.read(request.body)
        rules = Rules()
        check_organization(rules, name=body.name, slug=body.slug)
        rules.enforce()
        made = await self._sign_ins.complete_sign_up(
            body.signup_token, name=body.name.strip(), slug=body.slug
        )
        pair, tenant = made.tokens, made.tenant
        answer = bodies.SignedUp(
            access_token=pair.access.token,
            refresh_token=pair.refresh_token,
            expires_in=pair.access.expires_in_seconds,
            refresh_expires_in=pair.refresh_expires_in_seconds,
            api_key=made.key.secret,
            organization=bodies.SignedUpOrganization(
                id=tenant.public_id, name=tenant.name, slug=tenant.slug, billing_email=tenant.billing_email
            ),
        )
        return Response(201, msgspec.json.encode(answer), NOT_STORED)

    async def check(self, request: Request) -> Response:
        """Tell whether an address has an organization."""
        email = Query(request.query_string).text("email", limits.EMAIL_CHARS_MAX)
        if email is None:
            raise BadRequest("email is required")
        return await self._look(email, request)

    async def check_body(self, request: Request) -> Response:
        """Tell whether an address has an organization."""
        return await self._look(_CHECK.read(request.body).email, request)

    async def _look(self, email: str, request: Request) -> Response:
        found = await self._sign_ins.look_for(_checked(email), address=request.address)
        answer = bodies.EmailChecked(
            exists=found.exists,
            available=not found.exists,
            signup_enabled=found.may_sign_up,
            has_organizations=found.exists,
        )
        return Response(200, msgspec.json.encode(answer))


def _checked(email: str) -> str:
    rules = Rules()
    rules.email("email", email)
    rules.enforce()
    return email


def _signed_in(opened: SignedInByEmail) -> bodies.SignedIn:
    pair = opened.tokens
    return bodies.SignedIn(
        access_token=pair.access.token,
        refresh_token=pair.refresh_token,
        expires_in=pair.access.expires_in_seconds,
        refresh_expires_in=pair.refresh_expires_in_seconds,
        user_id=opened.key_id,
        email=opened.email,
        organizations=[
            bodies.OrganizationRole(id=organization_id, role="owner")
            for organization_id in opened.organization_ids
        ],
    )
