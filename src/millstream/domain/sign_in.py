"""Sign-in by e-mail: a code to an address, and what it opens. Contract: spooled-tenancy 5.7."""

from uuid import UUID

from msgspec import Struct

from millstream.domain.tenant import IssuedKey, Tenant
from millstream.domain.token import TokenPair

CODE_DIGITS = 6
CODE_SECONDS = 900
"""How long a code counts, and after it what completes a sign-up."""


class CodeSent(Struct, frozen=True):
    """Where a code went, if anywhere: the answer is the same for addresses that nobody knows."""

    masked_email: str
    expires_in_seconds: int


class SignedInByEmail(Struct, frozen=True, kw_only=True):
    """A right code of an address with tenants: tokens for the oldest of them."""

    tokens: TokenPair
    key_id: UUID
    email: str
    organization_ids: tuple[str, ...]


class SignUpOffered(Struct, frozen=True, kw_only=True):
    """A right code of an address without a tenant: what completes its sign-up."""

    token: str
    email: str
    expires_in_seconds: int


class SignedUp(Struct, frozen=True, kw_only=True):
    """A fresh tenant, its first key, and tokens made from it."""

    tenant: Tenant
    key: IssuedKey
    tokens: TokenPair


class EmailKnown(Struct, frozen=True):
    """Whether an address has a tenant, and whether one without may sign up."""

    exists: bool
    may_sign_up: bool


def masked(email: str) -> str:
    """Return an address with most of its name hidden, for showing it to whoever typed it."""
    name, _, host = email.partition("@")
    return f"{name[:1]}***@{host}"
