"""Writes and reads signed tokens: JWT, HS256 and nothing else."""

import time
from uuid import uuid4

import jwt
import msgspec
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import InvalidCredential
from millstream.domain.token import EXPIRY_LEEWAY_SECONDS, REFRESH_LIFETIMES, Claims, TokenType
from millstream.store.api_keys import StoredKey

TOKEN_HEAD = "eyJ"
_ALGORITHM = "HS256"
_HOUR_SECONDS = 3_600


class SignedToken(Struct, frozen=True):
    """A fresh token, and for how many seconds it counts."""

    text: str
    seconds: int


class TokenSigner:
    """Signs tokens with one secret; an access token lives for `access_hours`.

    Whoever asks for a token and whoever checks it may be different processes on different machines: their clocks
    decide, with a leeway, and not the database's.
    """

    def __init__(self, secret: str, *, access_hours: int) -> None:
        self._secret = secret
        self._access_seconds = access_hours * _HOUR_SECONDS

    def sign(self, key: StoredKey, token_type: TokenType) -> SignedToken:
        """Return a token of `key`, unlike any other. Contract: spooled-tenancy 5.1."""
        seconds = self._access_seconds
        if token_type is TokenType.REFRESH:
            seconds *= REFRESH_LIFETIMES
        now = int(time.time())
        claims = {
            "sub": key.public_id,
            "org_id": key.public_id,
            "api_key_id": str(key.id),
            "iat": now,
            "exp": now + seconds,
            "nbf": now,
            "jti": str(uuid4()),
            "queues": list(key.queues),
            "token_type": token_type.value,
        }
        text = jwt.encode(  # pyright: ignore[reportUnknownMemberType] - a key of kinds that are not installed
            claims, self._secret, _ALGORITHM
        )
        return SignedToken(text, seconds)

    def read(self, token: str, token_type: TokenType | None = None) -> Claims:
        """Return what a token says that is signed by us, has not ended and is of `token_type` (None: of any).

        Whether it was revoked is not asked. Raises InvalidCredential. Contract: spooled-tenancy 1.2.
        """
        try:
            # The library reads a text of digits as a time, too.
            claims = msgspec.convert(self._decode(token), Claims, strict=True, str_keys=True)
        except msgspec.ValidationError:
            raise InvalidCredential from None
        if claims.sub != claims.org_id or token_type not in (None, claims.token_type):
            raise InvalidCredential
        return claims

    def _decode(self, token: str) -> object:
        if len(token) > limits.TOKEN_CHARS_MAX or not token.isascii():
            raise InvalidCredential
        try:
            return jwt.decode(  # pyright: ignore[reportUnknownMemberType] - as above
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                leeway=EXPIRY_LEEWAY_SECONDS,
                options={"require": ["exp"], "verify_iat": False, "verify_nbf": False},
            )
        except (jwt.InvalidTokenError, RecursionError, OverflowError):
            # Nesting that is too deep and numbers that are none are not what the library expects.
            raise InvalidCredential from None
