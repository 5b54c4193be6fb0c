"""Who a request acts for. Contract: spooled-tenancy 1.2."""

from collections.abc import Mapping
from typing import Protocol

from millstream.domain import limits
from millstream.domain.errors import InvalidCredential, Unauthenticated
from millstream.domain.tenant import Principal
from millstream.engine.credentials import Credentials

_SCHEME = b"Bearer "


class Authenticator(Protocol):
    """Finds the principal of a request from its headers."""

    def known(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Return the principal when it can be told without waiting."""
        ...

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Return the principal. Raises Unauthenticated without a credential, InvalidCredential for a bad one."""
        ...


class BearerAuthenticator:
    """Reads `Authorization: Bearer SECRET`: exactly that scheme, one space; nothing else is a credential."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def known(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Return the principal of a credential that was verified before."""
        value = headers.get(b"authorization")
        if value is None or value[:7] != _SCHEME:
            return None
        return self._credentials.cached(value[7:].decode("latin-1"))

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Return the principal. Raises Unauthenticated without a credential, InvalidCredential for a bad one."""
        return await self._credentials.authenticate(bearer_of(headers))


def bearer_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the API key or token that a request presents.

    Raises Unauthenticated when there is none, InvalidCredential for what cannot be one.
    """
    value = headers.get(b"authorization", b"")
    if value[:7] != _SCHEME or not value[7:]:
        raise Unauthenticated
    secret = value[7:]
    # Not what any credential looks like; a database would refuse some of it.
    if len(secret) > limits.TOKEN_CHARS_MAX or not secret.isascii() or b"\0" in secret:
        raise InvalidCredential
    return secret.decode("ascii")
