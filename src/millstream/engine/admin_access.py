"""Who may administer: whoever presents the admin key. Contract: spooled-tenancy 6."""

import hmac
from hashlib import sha256

from millstream.domain import limits
from millstream.domain.errors import (
    AdminHeaderUnreadable,
    AdminKeyMissing,
    AdminKeyWrong,
    AdminNotConfigured,
)
from millstream.engine.failure_throttle import FailureThrottle

_VISIBLE = bytes(range(0x20, 0x7F))


class AdminAccess:
    """Checks presented keys against the digest of the admin key; without one nobody is let in."""

    def __init__(self, digest: bytes | None, throttle: FailureThrottle | None = None) -> None:
        self._digest = digest
        self._throttle = throttle or FailureThrottle(
            failures_max=limits.ADMIN_FAILURES_MAX, seconds=limits.ADMIN_FAILURE_SECONDS
        )

    def is_admin(self, presented: bytes | None, address: str) -> bool:
        """Tell whether `presented` is the admin key.

        Raises RateLimited when `address` presented too many wrong keys; then the right one has to wait as
        well, or guessing would only have to go on.
        """
        if presented is None or self._digest is None:
            return False
        self._throttle.check(address)
        # Digests have one length, so that the time of the comparison does not tell that of the key.
        if hmac.compare_digest(digest_of(presented), self._digest):
            return True
        self._throttle.note(address)
        return False

    def check(self, presented: bytes | None, address: str) -> None:
        """Let the admin key pass.

        Raises AdminNotConfigured, AdminKeyMissing, AdminHeaderUnreadable, AdminKeyWrong, RateLimited.
        """
        if self._digest is None:
            raise AdminNotConfigured
        if presented is None:
            raise AdminKeyMissing
        if presented.translate(None, _VISIBLE):
            raise AdminHeaderUnreadable
        if not self.is_admin(presented, address):
            raise AdminKeyWrong


def digest_of(admin_key: bytes) -> bytes:
    """Return what is kept of an admin key."""
    return sha256(admin_key).digest()
