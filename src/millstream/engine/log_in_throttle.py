"""Keeps those who guess from guessing fast. Contract: spooled-tenancy 5.2."""

from limits import RateLimitItemPerMinute

from millstream.domain.address import network_of
from millstream.engine.throttle import Throttle

_KEY_FAILURES = RateLimitItemPerMinute(5, namespace="failed log-ins of a key")
_ADDRESS_FAILURES = RateLimitItemPerMinute(60, namespace="failed log-ins from an address")
_KEY_SUCCESSES = RateLimitItemPerMinute(30, namespace="log-ins of a key")
_VALIDATIONS = RateLimitItemPerMinute(600, namespace="validations from an address")
_CODES_OF_EMAIL = RateLimitItemPerMinute(5, 15, namespace="codes for an e-mail address")
_CODES_FROM_ADDRESS = RateLimitItemPerMinute(10, namespace="codes asked for from an address")
_EMAIL_LOOKS = RateLimitItemPerMinute(30, namespace="looks for an e-mail address")
_CODE_TRIES = RateLimitItemPerMinute(20, namespace="codes tried from an address")


class LogInThrottle:
    """Counts attempts by who makes them and what they present."""

    def __init__(self) -> None:
        self._throttle = Throttle()

    async def admit(self, address: str, key_digest: str, *, is_known: bool) -> None:
        """Raise RateLimited when too many attempts to log in went before this one.

        A key that was right before (`is_known`) does not suffer from what others behind its address do.
        """
        address = network_of(address)
        await self._throttle.check(_KEY_FAILURES, key_digest, address)
        await self._throttle.check(_KEY_SUCCESSES, key_digest, address)
        if not is_known:
            await self._throttle.check(_ADDRESS_FAILURES, address)

    async def note_failure(self, address: str, key_digest: str) -> None:
        """Count an attempt that failed."""
        address = network_of(address)
        await self._throttle.note(_KEY_FAILURES, key_digest, address)
        await self._throttle.note(_ADDRESS_FAILURES, address)

    async def note_success(self, address: str, key_digest: str) -> None:
        """Count an attempt that succeeded."""
        await self._throttle.note(_KEY_SUCCESSES, key_digest, network_of(address))

    async def admit_validation(self, address: str) -> None:
        """Count a look at a token. Raises RateLimited."""
        await self._throttle.spend(_VALIDATIONS, network_of(address))

    async def admit_code(self, address: str, email: str) -> None:
        """Count a code that is to be sent. Raises RateLimited."""
        await self._throttle.spend(_CODES_FROM_ADDRESS, network_of(address))
        await self._throttle.spend(_CODES_OF_EMAIL, email)

    async def admit_code_try(self, address: str) -> None:
        """Count a code that is presented. Raises RateLimited."""
        await self._throttle.spend(_CODE_TRIES, network_of(address))

    async def admit_email_look(self, address: str) -> None:
        """Count a question for an e-mail address. Raises RateLimited."""
        await self._throttle.spend(_EMAIL_LOOKS, network_of(address))
