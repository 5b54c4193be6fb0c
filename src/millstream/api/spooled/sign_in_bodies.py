"""The bodies of sign-in by e-mail, as they are on the wire. Contract: spooled-tenancy 5.7."""

from uuid import UUID

from msgspec import Struct

from millstream.api.spooled.token_bodies import LoggedIn


class StartSignIn(Struct, frozen=True, kw_only=True):
    """`POST /auth/email/start`."""

    email: str


class VerifySignIn(Struct, frozen=True, kw_only=True):
    """`POST /auth/email/verify`."""

    email: str
    code: str


class CompleteSignUp(Struct, frozen=True, kw_only=True):
    """`POST /auth/signup/complete`."""

    signup_token: str
    name: str
    slug: str


class CheckEmail(Struct, frozen=True, kw_only=True):
    """`POST /auth/email/check`."""

    email: str


class SignInStarted(Struct, kw_only=True):
    """The answer to the start of a sign-in, the same for every address; under the names of all clients."""

    message: str
    email_sent_to: str
    expires_in: int
    success: bool = True
    sent: bool = True


class OrganizationRole(Struct, kw_only=True):
    """An organization that an address belongs to."""

    id: str
    role: str


class SignedIn(LoggedIn, kw_only=True, tag_field="type", tag="login"):
    """The answer to a right code of an address with organizations; the tokens are for the first."""

    user_id: UUID
    email: str
    organizations: list[OrganizationRole]


class SignUpOffered(Struct, kw_only=True, tag_field="type", tag="signup"):
    """The answer to a right code of an address without an organization."""

    signup_token: str
    email: str
    expires_in: int


class SignedUpOrganization(Struct, kw_only=True):
    """A fresh organization."""

    id: str
    name: str
    slug: str
    billing_email: str | None


class SignedUp(LoggedIn, kw_only=True):
    """The answer to a completed sign-up; the API key is shown here only."""

    api_key: str
    organization: SignedUpOrganization


class EmailChecked(Struct, kw_only=True):
    """Whether an address has an organization."""

    exists: bool
    available: bool
    signup_enabled: bool
    has_organizations: bool
