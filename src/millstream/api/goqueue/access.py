"""Who a request acts for in this dialect. Ruling R19, goqueue-platform 10.5, 11.1."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from millstream.domain import limits
from millstream.domain.errors import AccessDenied, InvalidCredential, Unauthenticated
from millstream.domain.tenant import Principal
from millstream.engine.credentials import Credentials
from millstream.engine.tenant_selection import TenantSelection

_SCHEME: Final = b"Bearer "
# What API keys and tokens begin with, ours and those that users of other servers have: any other text is a
# placeholder of an example, which a local server does not mind.
_FORMS: Final = (b"sk_", b"sp_", b"gq_", b"eyJ")
_TENANT: Final = b"x-tenant-id"
_LOCAL_NAME: Final = "localhost"
_AUTHORITIES_MAX: Final = 256


class TopicAuthenticator:
    """Finds the principal of a request: by its credential, or, `without_credentials`, the default tenant's.

    Credentials that are limited to some queues reach no topics.
    """

    def __init__(
        self, credentials: Credentials, selection: TenantSelection, *, without_credentials: bool
    ) -> None:
        self._credentials = credentials
        self._selection = selection
        self._without_credentials = without_credentials

    def known(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Return the principal when it can be told without waiting and nothing has to be refused."""
        secret = _presented(headers)
        if secret is None or (self._without_credentials and not secret.startswith(_FORMS)):
            return self._selection.known_default() if self._is_open_to(headers) else None
        principal = self._credentials.cached(secret.decode("latin-1"))
        if principal is None or principal.queues is not None:
            return None
        claimed = headers.get(_TENANT)
        if claimed and not self._selection.known_name(principal, claimed.decode("latin-1")):
            return None
        return principal

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Return the principal.

        Raises Unauthenticated without a credential where one is required, InvalidCredential for a bad one,
        AccessDenied for one that does not reach topics or another tenant's, and for requests without one that
        a web page may have sent.
        """
        secret = _presented(headers)
        if self._without_credentials and (secret is None or not secret.startswith(_FORMS)):
            if not self._is_open_to(headers):
                raise AccessDenied("without an API key, Host and Origin must name this machine")
            return await self._selection.default()
        if secret is None:
            raise Unauthenticated
        if len(secret) > limits.TOKEN_CHARS_MAX or not secret.isascii() or b"\0" in secret:
            raise InvalidCredential
        principal = await self._credentials.authenticate(secret.decode("ascii"))
        claimed = headers.get(_TENANT)
        if claimed and not await self._selection.is_name(principal, claimed.decode("latin-1")):
            raise AccessDenied("this credential belongs to another tenant than X-Tenant-ID names")
        if principal.queues is not None:
            raise AccessDenied("a key that is limited to queues does not reach topics")
        return principal

    def _is_open_to(self, headers: Mapping[bytes, bytes]) -> bool:
        # A page on the web that a browser shows here can reach this server, under its own name even when that name
        # was made to resolve to this machine. Its name is not a local one, and the browser tells it.
        if not self._without_credentials or not _is_local_authority(headers.get(b"host", b"")):
            return False
        origin = headers.get(b"origin")
        return origin is None or _is_local_origin(origin)


def _presented(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return what a request presents as its credential, `Authorization: Bearer` before `X-API-Key`."""
    value = headers.get(b"authorization")
    if value is not None and value[:7] == _SCHEME and value[7:]:
        return value[7:]
    return headers.get(b"x-api-key") or None


def _is_local_origin(origin: bytes) -> bool:
    scheme, _, authority = origin.partition(b"://")
    return scheme in {b"http", b"https"} and _is_local_authority(authority)


@lru_cache(_AUTHORITIES_MAX)
def _is_local_authority(authority: bytes) -> bool:
    try:
        host = urlsplit(b"//" + authority).hostname
        name = (host or b"").decode("ascii")
    except (ValueError, UnicodeDecodeError):
        return False
    if name == _LOCAL_NAME or name.endswith("." + _LOCAL_NAME):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
