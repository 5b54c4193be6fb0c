"""Sign-in by e-mail: codes, log-ins and sign-ups. Contract: spooled-tenancy 5.7."""

import asyncio
import hmac
import secrets
from uuid import uuid4

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import InvalidCredential
from millstream.domain.sign_in import (
    CODE_DIGITS,
    CODE_SECONDS,
    CodeSent,
    EmailKnown,
    SignedInByEmail,
    SignedUp,
    SignUpOffered,
    masked,
)
from millstream.engine.context import Context
from millstream.engine.credentials import Credentials, KeyMaker
from millstream.engine.log_in_throttle import LogInThrottle
from millstream.engine.tenants import create_tenant
from millstream.engine.tokens import Tokens
from millstream.outbound.mail import Mailer, MailNotSent
from millstream.store import sign_ins
from millstream.store.api_keys import StoredKey
from millstream.store.sign_ins import TenantRef

SESSION_KEY_NAME = "Sign-in by e-mail"
_WRONG_CODE = "The code is not valid, or not any more"
_WRONG_SIGN_UP = "The sign-up token is not valid, or not any more"
_SENDING_MAX = 100
_SENDERS = 4

_log = structlog.get_logger(__name__)


class SignInSettings(Struct, frozen=True, kw_only=True):
    """Where mail goes through, from whom it comes, and whether unknown addresses may make a tenant."""

    smtp_url: str
    sender: str
    may_sign_up: bool = False


class SignIns:
    """Log-ins of people, by a code that is sent to them."""

    def __init__(
        self,
        context: Context,
        credentials: Credentials,
        tokens: Tokens,
        throttle: LogInThrottle,
        settings: SignInSettings,
        *,
        key_maker: KeyMaker,
    ) -> None:
        self._context = context
        self._credentials = credentials
        self._tokens = tokens
        self._throttle = throttle
        self._mailer = Mailer(settings.smtp_url, sender=settings.sender)
        self._may_sign_up = settings.may_sign_up
        self._key_maker = key_maker
        self._sending: set[asyncio.Task[None]] = set()
        self._senders = asyncio.Semaphore(_SENDERS)

    async def start(self, email: str, *, address: str) -> CodeSent:
        """Send a code, if the address may use one; whether it may shows neither in the answer nor in its time.

        Raises RateLimited.
        """
        email = email.lower()
        await self._throttle.admit_code(address, email)
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
        async with self._context.database.session() as session:
            known = await sign_ins.find_tenants_by_email(session, email)
            await sign_ins.put_code(
                session, email, self._digest(email, code), seconds=CODE_SECONDS, now=self._context.now()
            )
        if known or self._may_sign_up:
            self._send_beside(email, code)
        return CodeSent(masked(email), CODE_SECONDS)

    async def verify(self, email: str, code: str, *, address: str) -> SignedInByEmail | SignUpOffered:
        """Return what a code opens. Raises InvalidCredential for one that does not count, RateLimited."""
        email = email.lower()
        await self._throttle.admit_code_try(address)
        offer = secrets.token_urlsafe(32)
        known: list[TenantRef] = []
        async with self._context.database.transaction() as session:
            expected = await sign_ins.try_code(session, email, self._context.now())
            is_right = expected is not None and hmac.compare_digest(expected, self._digest(email, code))
            if is_right:
                known = await sign_ins.find_tenants_by_email(session, email)
                if known or not self._may_sign_up:
                    await sign_ins.drop_code(session, email)
                else:
                    await sign_ins.offer_sign_up(
                        session,
                        email,
                        self._digest("", offer),
                        seconds=CODE_SECONDS,
                        now=self._context.now(),
                    )
        # After the commit: a try that was wrong counts.
        if not is_right or not (known or self._may_sign_up):
            raise InvalidCredential(_WRONG_CODE)
        if not known:
            return SignUpOffered(token=offer, email=email, expires_in_seconds=CODE_SECONDS)
        key = await self._session_key(known[0].id)
        return SignedInByEmail(
            tokens=self._tokens.pair_of(key),
            key_id=key.id,
            email=email,
            organization_ids=tuple(tenant.public_id for tenant in known),
        )

    async def complete_sign_up(self, token: str, *, name: str, slug: str) -> SignedUp:
        """Make the tenant of an offered sign-up. Raises InvalidCredential, or Conflict when the slug is taken."""
        if not self._may_sign_up:
            raise InvalidCredential(_WRONG_SIGN_UP)
        async with self._context.database.transaction() as session:
            email = await sign_ins.take_sign_up(session, self._digest("", token), self._context.now())
            if email is None:
                raise InvalidCredential(_WRONG_SIGN_UP)
            tenant, issued = await create_tenant(
                session,
                name=name,
                slug=slug,
                billing_email=email,
                plan_tier="free",
                key_maker=self._key_maker,
            )
        key = await self._credentials.find_key(issued.secret)
        return SignedUp(tenant=tenant, key=issued, tokens=self._tokens.pair_of(key))

    async def look_for(self, email: str, *, address: str) -> EmailKnown:
        """Tell whether an address has a tenant. Raises RateLimited."""
        await self._throttle.admit_email_look(address)
        async with self._context.database.session() as session:
            known = await sign_ins.find_tenants_by_email(session, email.lower())
        return EmailKnown(bool(known), self._may_sign_up)

    async def prune(self) -> int:
        """Forget codes that have ended; returns how many."""
        async with self._context.database.transaction() as session:
            return await sign_ins.prune_codes(
                session, limit=limits.PRUNED_TOKENS_MAX, now=self._context.now()
            )

    async def close(self) -> None:
        """Finish the mails that are on their way."""
        if self._sending:
            await asyncio.wait(self._sending)

    def _digest(self, email: str, secret: str) -> bytes:
        return hmac.digest(self._key_maker.pepper, f"{email}\n{secret}".encode(), "sha256")

    async def _session_key(self, tenant_id: int) -> StoredKey:
        async with self._context.database.session() as session:
            key = await sign_ins.open_session_key(
                session,
                tenant_id,
                new_id=uuid4(),
                name=SESSION_KEY_NAME,
                # No secret has this digest.
                digest=secrets.token_bytes(32),
                now=self._context.now(),
            )
        if key is None:
            raise InvalidCredential(_WRONG_CODE)
        return key

    def _send_beside(self, email: str, code: str) -> None:
        if len(self._sending) >= _SENDING_MAX:
            _log.warning("a mail was not sent: too many are waiting")
            return
        task = asyncio.create_task(self._send(email, code), name="send sign-in code")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, email: str, code: str) -> None:
        minutes = CODE_SECONDS // 60
        text = f"Your code is {code}. It counts once, within {minutes} minutes.\n\nIf you did not ask for it, ignore it.\n"
        try:
            async with self._senders:
                await asyncio.to_thread(self._mailer.send, email, "Your sign-in code", text)
        except MailNotSent as error:
            _log.warning("a mail was not sent", cause=str(error))
