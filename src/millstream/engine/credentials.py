"""Credentials: API keys and access tokens, checked and remembered for a moment."""

import asyncio
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from uuid import UUID

import bcrypt
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.api_key import is_unrestricted
from millstream.domain.errors import InvalidCredential, MillstreamError
from millstream.domain.plan import plan_of
from millstream.domain.tenant import Principal
from millstream.domain.token import EXPIRY_LEEWAY_SECONDS, Claims, TokenType
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.engine.token_signing import TOKEN_HEAD, TokenSigner
from millstream.store import api_keys, tokens
from millstream.store.api_keys import StoredKey
from millstream.store.tokens import TokenRef

# How long a credential is believed, and refused, without another look: what nobody told this process of counts
# everywhere within this time.
BELIEVED_SECONDS = 1.0
# Look-ups for who was known before are not queued behind those for who was not: the two take turns in each statement.
_STRANGERS, _ACQUAINTED = 0, 1


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
    """Turns the secret of an API key, or an access token, into the principal that it acts for.

    Whatever is presented costs at most a place in one statement, which all that wait share: bcrypt runs only for
    secrets whose digest is known, and no flood of others takes more than one connection.
    """

    def __init__(self, context: Context, *, pepper: bytes, signer: TokenSigner) -> None:
        self._context = context
        self._pepper = pepper
        self._signer = signer
        self._beliefs: dict[str, _Belief] = {}
        self._look_ups: dict[str, asyncio.Task[Principal]] = {}
        # Digests whose secret passed bcrypt in this process: it need not be asked twice.
        self._verified: dict[bytes, str] = {}
        # Digests that were refused a moment ago, and until when they are without another look.
        self._refused: dict[bytes, float] = {}
        self._changes = 0
        self._uses: set[tuple[int, UUID]] = set()
        self._key_look_ups = Batcher(
            "find_api_keys", self._find_keys, queue_rows_max=limits.WAITING_LOOK_UPS_MAX
        )
        self._token_look_ups = Batcher(
            "find_token_keys", self._find_token_keys, queue_rows_max=limits.WAITING_LOOK_UPS_MAX
        )
        context.invalidations.register(self._forget)

    def cached(self, secret: str) -> Principal | None:
        """Return the principal of a credential that was checked a moment ago."""
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
        """Return the principal that a key or access token acts for. Raises InvalidCredential.

        Contract: spooled-tenancy 1.2.
        """
        principal = self.cached(secret)
        if principal is not None:
            return principal
        if secret.startswith(TOKEN_HEAD):
            # A forged one costs no look-up.
            self._signer.read(secret, TokenType.ACCESS)
        elif not _may_be_key(secret) or self._is_refused(digest_of(secret, self._pepper)):
            raise InvalidCredential
        # One caller that leaves does not take the look-up from the others that wait for it.
        return await asyncio.shield(self._look_up_once(secret))

    async def find_key(self, secret: str) -> StoredKey:
        """Return the usable key of `secret` as it is stored now. Raises InvalidCredential."""
        if not _may_be_key(secret):
            raise InvalidCredential
        digest = digest_of(secret, self._pepper)
        if self._is_refused(digest):
            raise InvalidCredential
        changes = self._changes
        try:
            key = await self._key_look_ups.submit_one(
                _ACQUAINTED if digest in self._verified else _STRANGERS, digest
            )
        except InvalidCredential:
            if changes == self._changes:
                self._refuse(digest)
            raise
        await self._verify(secret, digest, key)
        self._note_use(key)
        return key

    async def find_token_key(self, claims: Claims) -> StoredKey:
        """Return the key that a token was made from, as it is stored now.

        Raises InvalidCredential when the token was revoked or its key is not usable any more.
        """
        return await self._token_look_ups.submit_one(
            _ACQUAINTED, TokenRef(claims.org_id, claims.api_key_id, claims.jti)
        )

    def is_known(self, secret: str) -> bool:
        """Tell whether `secret` was that of a key at some time since this process started."""
        return _may_be_key(secret) and digest_of(secret, self._pepper) in self._verified

    async def note_uses(self) -> int:
        """Write down which keys were used lately; returns of how many that was news. Contract: spooled-tenancy 4.1."""
        uses = sorted(self._uses)
        self._uses.clear()
        if not uses:
            return 0
        async with self._context.database.session() as session:
            return await api_keys.note_key_uses(session, uses, self._context.now())

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self._key_look_ups.close()
        await self._token_look_ups.close()

    # What is remembered

    def _forget(self, tenant_id: int) -> None:
        self._changes += 1
        for secret in [
            secret for secret, belief in self._beliefs.items() if belief.principal.tenant_id == tenant_id
        ]:
            del self._beliefs[secret]
        # Whose a refused key or an unfinished look-up is, nobody knows: the next caller asks anew.
        self._refused.clear()
        self._look_ups.clear()

    def _is_refused(self, digest: bytes) -> bool:
        return time.monotonic() < self._refused.get(digest, 0.0)

    def _refuse(self, digest: bytes) -> None:
        if len(self._refused) >= limits.REFUSED_CREDENTIALS_MAX:
            self._refused.clear()
        self._refused[digest] = time.monotonic() + BELIEVED_SECONDS

    def _believe(self, secret: str, principal: Principal, seconds: float) -> None:
        if len(self._beliefs) >= limits.REMEMBERED_CREDENTIALS_MAX:
            self._beliefs.clear()
        now = time.monotonic()
        self._beliefs[secret] = _Belief(principal, now + seconds / 2, now + seconds)

    def _note_use(self, key: StoredKey) -> None:
        if key.use_is_due and len(self._uses) < limits.REMEMBERED_CREDENTIALS_MAX:
            self._uses.add((key.tenant_id, key.id))

    # Looking up

    def _look_up_once(self, secret: str) -> "asyncio.Task[Principal]":
        task = self._look_ups.get(secret)
        if task is None:
            task = self._look_ups[secret] = asyncio.create_task(
                self._look_up(secret), name="look up credential"
            )
            task.add_done_callback(lambda done: self._end_look_up(secret, done))
        return task

    def _end_look_up(self, secret: str, task: "asyncio.Task[Principal]") -> None:
        if self._look_ups.get(secret) is task:
            del self._look_ups[secret]
        # Nobody may be waiting: its failure is then told to the next caller, by a look-up of its own.
        if not task.cancelled():
            task.exception()

    async def _look_up(self, secret: str) -> Principal:
        changes = self._changes
        seconds = BELIEVED_SECONDS
        try:
            if secret.startswith(TOKEN_HEAD):
                claims = self._signer.read(secret, TokenType.ACCESS)
                key = await self.find_token_key(claims)
                self._note_use(key)
                seconds = min(seconds, claims.exp + EXPIRY_LEEWAY_SECONDS - time.time())
            else:
                key = await self.find_key(secret)
        except InvalidCredential:
            self._beliefs.pop(secret, None)
            raise
        principal = principal_of(key)
        if key.expires_in_seconds is not None:
            seconds = min(seconds, key.expires_in_seconds)
        # What was read before a change may be what the change has ended.
        if changes == self._changes:
            self._believe(secret, principal, seconds)
        return principal

    async def _verify(self, secret: str, digest: bytes, key: StoredKey) -> None:
        if self._verified.get(digest) == key.hash:
            return
        if not await asyncio.to_thread(bcrypt.checkpw, secret.encode(), key.hash.encode()):
            raise InvalidCredential
        if len(self._verified) >= limits.REMEMBERED_CREDENTIALS_MAX:
            self._verified.clear()
        self._verified[digest] = key.hash

    async def _find_keys(self, digests: list[bytes], _: int) -> Sequence[StoredKey | MillstreamError]:
        async with self._context.database.session() as session:
            found = await api_keys.find_api_keys(session, digests, self._context.now())
        return [key if key is not None and _is_usable(key) else InvalidCredential() for key in found]

    async def _find_token_keys(self, refs: list[TokenRef], _: int) -> Sequence[StoredKey | MillstreamError]:
        async with self._context.database.session() as session:
            found = await tokens.find_token_keys(session, refs, self._context.now())
        return [
            token.key
            if token is not None and not token.is_revoked and _is_usable(token.key)
            else InvalidCredential()
            for token in found
        ]


def digest_of(secret: str, pepper: bytes) -> bytes:
    """Return the keyed digest by which a secret is looked up. Ruling R26."""
    return hmac.digest(pepper, secret.encode(), "sha256")


class KeyMaker(Struct, frozen=True, kw_only=True):
    """Makes API keys: `live` ones, or such for tests; bcrypt runs 2 to the power of `hash_cost` rounds over each."""

    pepper: bytes
    live: bool = False
    hash_cost: int = 12

    async def make(self) -> NewKey:
        """Make a key: 256 random bits behind the prefix of its environment. Contract: spooled-tenancy 4.1."""
        prefix = "sk_live_" if self.live else "sk_test_"
        secret = prefix + urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        hashed = await asyncio.to_thread(
            lambda: bcrypt.hashpw(secret.encode(), bcrypt.gensalt(self.hash_cost))
        )
        return NewKey(secret, secret[:12], digest_of(secret, self.pepper), hashed.decode())


def principal_of(key: StoredKey) -> Principal:
    """Return whom a key acts for."""
    return Principal(
        tenant_id=key.tenant_id,
        organization_id=key.public_id,
        api_key_id=key.id,
        plan=plan_of(key.plan_tier, key.custom_limits),
        queues=None if is_unrestricted(key.queues) else frozenset(key.queues),
        rate_limit=key.rate_limit,
    )


def _may_be_key(secret: str) -> bool:
    return len(secret) <= limits.API_KEY_CHARS_MAX and secret.isascii() and not secret.startswith(TOKEN_HEAD)


def _is_usable(key: StoredKey) -> bool:
    return key.is_active and (key.expires_in_seconds is None or key.expires_in_seconds > 0)
