"""Who may create an organization. Contract: spooled-tenancy 3.1, 17."""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import assert_never

from millstream.api.http.settings import HttpSettings
from millstream.config import RegistrationMode
from millstream.domain.errors import AccessDenied


class Registration:
    """Whether creating an organization is open to anybody, to who has the admin key, or to nobody."""

    def __init__(self, settings: HttpSettings) -> None:
        self._mode = settings.registration_mode
        self._admin_key_digest = _digest(settings.admin_key.encode()) if settings.admin_key else None

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise AccessDenied when a request with these headers may not create an organization."""
        match self._mode:
            case RegistrationMode.OPEN:
                return
            case RegistrationMode.CLOSED:
                # Without a configured key an empty header must not fit an empty setting.
                if self._admin_key_digest is None or not self._is_admin(headers, self._admin_key_digest):
                    raise AccessDenied("Registration is closed: X-Admin-Key must be the server's admin key")
            case RegistrationMode.INVITE:
                raise AccessDenied("Registration is by invitation, and there are no invitations")
            case _:
                assert_never(self._mode)

    def _is_admin(self, headers: Mapping[bytes, bytes], expected: bytes) -> bool:
        # Digests have one length, so that the time of the comparison does not tell that of the key.
        return hmac.compare_digest(_digest(headers.get(b"x-admin-key", b"")), expected)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
