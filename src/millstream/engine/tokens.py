"""Tokens: log-in, refresh, log-out, and looks at them."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import structlog

from millstream.domain import limits
from millstream.domain.errors import InvalidCredential
from millstream.domain.tenant import Principal
from millstream.domain.token import (
    EXPIRY_LEEWAY_SECONDS,
    AccessToken,
    Claims,
    SignedIn,
    TokenPair,
    TokenType,
    Validation,
)
from millstream.engine.context import Context
from millstream.engine.credentials import Credentials
from millstream.engine.log_in_throttle import LogInThrottle
from millstream.engine.token_signing import TokenSigner
from millstream.store import tokens
from millstream.store.api_keys import StoredKey

_log = structlog.get_logger(__name__)


class Tokens:
    """Access and refresh tokens of all tenants; each dies with the key that it was made from."""

    def __init__(
        self, context: Context, credentials: Credentials, signer: TokenSigner, throttle: LogInThrottle
    ) -> None:
        self._context = context
        self._credentials = credentials
        self._signer = signer
        self._throttle = throttle

    async def log_in(self, secret: str, *, address: str) -> TokenPair:
        """Return tokens for the API key `secret`, presented from `address`. Contract: spooled-tenancy 5.2.

        Raises InvalidCredential alike for unknown, revoked and expired keys, RateLimited after too many attempts.
        """
        presented = sha256(secret.encode()).hexdigest()
        await self._throttle.admit(address, presented, is_known=self._credentials.is_known(secret))
        try:
            key = await self._credentials.find_key(secret)
        except InvalidCredential:
            await self._throttle.note_failure(address, presented)
            _log.info("a log-in failed", address=address)
            raise
        await self._throttle.note_success(address, presented)
        _log.info("logged in", address=address, organization_id=key.public_id, key_id=str(key.id))
        return self.pair_of(key)

    def pair_of(self, key: StoredKey) -> TokenPair:
        """Return fresh tokens of a key that was checked."""
        refresh = self._signer.sign(key, TokenType.REFRESH)
        return TokenPair(
            access=self._access_of(key),
            refresh_token=refresh.text,
            refresh_expires_in_seconds=refresh.seconds,
        )

    async def refresh(self, refresh_token: str) -> AccessToken:
        """Return a new access token, with the queues that the key has now; the refresh token goes on.

        Raises InvalidCredential. Contract: spooled-tenancy 5.3.
        """
        claims = self._signer.read(refresh_token, TokenType.REFRESH)
        return self._access_of(await self._credentials.find_token_key(claims))

    async def log_out(self, principal: Principal, access_token: str, refresh_token: str | None) -> None:
        """End an access token and, if given, a refresh token; one that is not the tenant's is left alone.

        Raises InvalidCredential when the caller's credential is no access token. Contract: spooled-tenancy 5.4.
        """
        ended = [self._signer.read(access_token, TokenType.ACCESS)]
        if refresh_token is not None:
            refresh = self._read_refresh(refresh_token)
            if refresh is not None and refresh.org_id == principal.organization_id:
                ended.append(refresh)
        async with self._context.database.tenant(principal.tenant_id) as session:
            await tokens.revoke_tokens(
                session, principal.tenant_id, [(claims.jti, _end_of(claims)) for claims in ended]
            )
        await self._context.invalidations.tenant_changed(principal.tenant_id)

    async def signed_in(self, principal: Principal, access_token: str) -> SignedIn:
        """Return who an access token stands for. Raises InvalidCredential. Contract: spooled-tenancy 5.5."""
        claims = self._signer.read(access_token, TokenType.ACCESS)
        async with self._context.database.tenant(principal.tenant_id) as session:
            tenant = await tokens.find_signed_in(session, principal.tenant_id, principal.api_key_id)
        if tenant is None:
            raise InvalidCredential
        return SignedIn(
            organization_id=principal.organization_id,
            organization_name=tenant.name,
            slug=tenant.slug,
            plan_tier=tenant.plan_tier,
            billing_email=tenant.billing_email,
            api_key_id=principal.api_key_id,
            queues=tenant.queues,
            issued_at=datetime.fromtimestamp(claims.iat, UTC),
            expires_at=datetime.fromtimestamp(claims.exp, UTC),
        )

    async def validate(self, token: str, *, address: str) -> Validation:
        """Look at a token of either type. Raises RateLimited. Contract: spooled-tenancy 5.6."""
        await self._throttle.admit_validation(address)
        try:
            claims = self._signer.read(token)
        except InvalidCredential:
            return Validation()
        try:
            await self._credentials.find_token_key(claims)
        except InvalidCredential:
            return Validation(is_revoked=True)
        return Validation(claims=claims)

    async def prune(self) -> int:
        """Forget revoked tokens that have ended by themselves; returns how many."""
        async with self._context.database.transaction() as session:
            return await tokens.prune_revoked_tokens(
                session, limit=limits.PRUNED_TOKENS_MAX, now=self._context.now()
            )

    def _access_of(self, key: StoredKey) -> AccessToken:
        signed = self._signer.sign(key, TokenType.ACCESS)
        return AccessToken(token=signed.text, expires_in_seconds=signed.seconds)

    def _read_refresh(self, token: str) -> Claims | None:
        try:
            return self._signer.read(token, TokenType.REFRESH)
        except InvalidCredential:
            return None


def _end_of(claims: Claims) -> datetime:
    return datetime.fromtimestamp(claims.exp, UTC) + timedelta(seconds=EXPIRY_LEEWAY_SECONDS)
