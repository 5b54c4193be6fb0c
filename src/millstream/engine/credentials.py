"""API keys: made, checked, remembered for a moment."""

import asyncio
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from uuid import UUID

import bcrypt
from msgspec import Struct

from millstream.domain.errors import AuthenticationFailed
from millstream.domain.tenant import Principal, plan_of
from millstream.engine.context import Context
from millstream.store import tenants
from millstream.store.tenants import StoredKey

# How long a key is believed without another look: a revoked one is refused everywhere within this time.
BELIEVED_SECONDS = 1.0
REMEMBERED_KEYS_MAX = 10_000
SECRET_CHARS_MAX = 256
BCRYPT_COST = 12


class NewKey(Struct, frozen=True):
    """A fresh API key: the secret for its owner, digest and hash for the database."""

    secret: str
    prefix: str
    digest: bytes
    hash: str


class _Belief(Struct, frozen=True):
    """A principal, from when on it is looked up anew, and until when it is believed meanwhile."""

    principal: Principal
    refresh_at: float
    ends_at: float


class Credentials:
    """Turns the secret of an API key into the principal that it acts for."""

    def __init__(self, context: Context, *, pepper: bytes) -> None:
        self._context = context
        self._pepper = pepper
        self._beliefs: dict[str, _Belief] = {}
        self._look_ups: dict[str, asyncio.Task[Principal]] = {}
        # Digests whose secret passed bcrypt in this process: it need not be asked twice.
        self._verified: dict[bytes, str] = {}
        context.invalidations.register(self._forget)

    def cached(self, secret: str) -> Principal | None:
        """Return the principal of a secret that was checked a moment ago."""
        belief = self._beliefs.get(secret)
        if belief is None:
            return None
        now = time.monotonic()
        if now < belief.refresh_at:
            return belief.principal
        if now >= belief.ends_at:
            return None
        # Looked up beside the requests that go on meanwhile.
        self._look_up_once(secret)
        return belief.principal

    async def authenticate(self, secret: str) -> Principal:
        """Return the principal that `secret` acts for. Raises AuthenticationFailed. Contract: spooled-tenancy 1.2."""
        principal = self.cached(secret)
        if principal is not None:
            return principal
        if len(secret) > SECRET_CHARS_MAX or not secret.isascii():
            raise AuthenticationFailed
        # One caller that leaves does not take the look-up from the others that wait for it.
        return await asyncio.shield(self._look_up_once(secret))

    def _forget(self, tenant_id: int) -> None:
        for secret in [
            secret for secret, belief in self._beliefs.items() if belief.principal.tenant_id == tenant_id
        ]:
            del self._beliefs[secret]

    def _look_up_once(self, secret: str) -> "asyncio.Task[Principal]":
        task = self._look_ups.get(secret)
        if task is None:
            task = self._look_ups[secret] = asyncio.create_task(self._look_up(secret), name="look up API key")
            task.add_done_callback(lambda done: self._end_look_up(secret, done))
        return task

    def _end_look_up(self, secret: str, task: "asyncio.Task[Principal]") -> None:
        del self._look_ups[secret]
        # Nobody may be waiting: its failure is then told to the next caller, by a look-up of its own.
        if not task.cancelled():
            task.exception()

    async def _look_up(self, secret: str) -> Principal:
        digest = digest_of(secret, self._pepper)
        async with self._context.database.session() as session:
            key = await tenants.find_api_key(session, digest, self._context.now())
        if (
            key is None
            or not key.is_active
            or (key.expires_in_seconds is not None and key.expires_in_seconds <= 0)
        ):
            self._beliefs.pop(secret, None)
            raise AuthenticationFailed
        await self._verify(secret, digest, key)
        principal = _principal_of(key)
        self._believe(secret, principal, key)
        return principal

    async def _verify(self, secret: str, digest: bytes, key: StoredKey) -> None:
        if self._verified.get(digest) == key.hash:
            return
        if not await asyncio.to_thread(bcrypt.checkpw, secret.encode(), key.hash.encode()):
            raise AuthenticationFailed
        if len(self._verified) >= REMEMBERED_KEYS_MAX:
            self._verified.clear()
        self._verified[digest] = key.hash

    def _believe(self, secret: str, principal: Principal, key: StoredKey) -> None:
        if len(self._beliefs) >= REMEMBERED_KEYS_MAX:
            self._beliefs.clear()
        seconds = BELIEVED_SECONDS
        if key.expires_in_seconds is not None:
            seconds = min(seconds, key.expires_in_seconds)
        now = time.monotonic()
        self._beliefs[secret] = _Belief(principal, now + seconds / 2, now + seconds)


def digest_of(secret: str, pepper: bytes) -> bytes:
    """Return the keyed digest by which a secret is looked up. Ruling R26."""
    return hmac.digest(pepper, secret.encode(), "sha256")


async def make_key(pepper: bytes, *, live: bool, cost: int = BCRYPT_COST) -> NewKey:
    """Make an API key: 256 random bits behind the prefix of its environment. Contract: spooled-tenancy 4.1."""
    prefix = "sk_live_" if live else "sk_test_"
    secret = prefix + urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    hashed = await asyncio.to_thread(lambda: bcrypt.hashpw(secret.encode(), bcrypt.gensalt(cost)))
    return NewKey(secret, secret[:12], digest_of(secret, pepper), hashed.decode())


def _principal_of(key: StoredKey) -> Principal:
    unrestricted = not key.queues or "*" in key.queues
    return Principal(
        tenant_id=key.tenant_id,
        organization_id=key.public_id,
        api_key_id=UUID(int=key.id.int),
        plan=plan_of(key.plan_tier),
        queues=None if unrestricted else frozenset(key.queues),
        rate_limit=key.rate_limit,
    )
