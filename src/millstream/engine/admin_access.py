"""Who may administer: whoever presents the admin key. Contract: spooled-tenancy 6."""

import hmac
from hashlib import sha256

from limits import RateLimitItem, RateLimitItemPerMinute

from millstream.domain.address import network_of
from millstream.domain.errors import (
    AdminHeaderUnreadable,
    AdminKeyMissing,
    AdminKeyWrong,
    AdminNotConfigured,
)
from millstream.engine.throttle import Throttle

_WRONG_KEYS = RateLimitItemPerMinute(10, namespace="wrong admin keys")
_VISIBLE = bytes(range(0x20, 0x7F))


class AdminAccess:
    """Checks presented keys against the digest of the admin key; without one nobody is let in."""

    def __init__(self, digest: bytes | None, wrong_keys: RateLimitItem = _WRONG_KEYS) -> None:
        self._digest = digest
        self._wrong_keys = wrong_keys
        self._throttle = Throttle()

    async def is_admin(self, presented: bytes | None, address: str) -> bool:
        """Tell whether `presented` is the admin key.

        Raises RateLimited when `address` presented too many wrong keys; then the right one has to wait as
        well, or guessing would only have to go on.
        """
        if presented is None or self._digest is None:
            return False
        network = network_of(address)
        await self._throttle.check(self._wrong_keys, network)
        # Digests have one length, so that the time of the comparison does not tell that of the key.
        if hmac.compare_digest(digest_of(presented), self._digest):
            return True
        await self._throttle.note(self._wrong_keys, network)
        return False

    async def check(self, presented: bytes | None, address: str) -> None:
        """Let the admin key pass.

        Raises AdminNotConfigured, AdminKeyMissing, AdminHeaderUnreadable, AdminKeyWrong, RateLimited.
        """
        if self._digest is None:
            raise AdminNotConfigured
        if presented is None:
            raise AdminKeyMissing
        if presented.translate(None, _VISIBLE):
            raise AdminHeaderUnreadable
        if not await self.is_admin(presented, address):
            raise AdminKeyWrong


def digest_of(admin_key: bytes) -> bytes:
    """Return what is kept of an admin key."""
    return sha256(admin_key).digest()
