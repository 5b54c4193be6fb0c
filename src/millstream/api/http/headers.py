"""What every answer carries, and what every request may say about itself."""

import random
import time
import zlib
from collections.abc import Mapping

from millstream.api.http.settings import HttpSettings
from millstream.domain import limits
from millstream.domain.errors import BadRequest
from millstream.domain.rate import Standing

HeaderList = list[tuple[bytes, bytes]]

_SECURITY: HeaderList = [
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-xss-protection", b"1; mode=block"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"permissions-policy", b"accelerometer=(), camera=(), geolocation=(), microphone=()"),
    (b"x-api-version", b"1"),
]
_UNLIMITED: HeaderList = [
    (b"x-ratelimit-limit", b"1000000"),
    (b"x-ratelimit-remaining", b"1000000"),
    (b"x-ratelimit-scope", b"organization"),
]
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload")
_RESET_AFTER_SECONDS = 60

_ALLOWED_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
_ALLOWED_HEADERS = (
    b"Authorization, Content-Type, X-API-Key, X-Request-Id, X-Admin-Key, X-Organization-ID, X-API-Version, Idempotency-Key, "
    b"X-Tenant-ID, traceparent, tracestate"
)
_EXPOSED_HEADERS = (
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Scope, Retry-After, X-Request-Id, "
    b"X-API-Version, X-Has-More"
)
_HEADER_NAMES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_, "
_PREFLIGHT_SECONDS = b"3600"

_GZIP_LEVEL = 5
_GZIP_WBITS = 31
_VISIBLE = bytes(range(0x21, 0x7F))
_VERSION_CHARS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789."
_VERSION_CHARS_MAX = 16


class CommonHeaders:
    """The headers of every answer, made anew once a second because one of them tells a time.

    While request limits are off the answer names a limit that nobody reaches (ruling R22); otherwise how its
    client stands. Contract: spooled-jobs 1.8, spooled-tenancy 8.2, 12.4.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._fixed = [*_SECURITY, *([_HSTS] if settings.hsts else [])]
        self._fixed_block = _lines(self._fixed)
        self._second = 0
        self._current: HeaderList = []
        self._block = b""

    def current(self, standing: Standing | None = None) -> HeaderList:
        """Return the headers of this second; the caller must not change the list."""
        second = int(time.time())
        if standing is not None:
            return [
                *self._fixed,
                (b"x-ratelimit-limit", b"%d" % standing.limit),
                (b"x-ratelimit-remaining", b"%d" % standing.remaining),
                (b"x-ratelimit-reset", b"%d" % (second + standing.reset_seconds)),
                (b"x-ratelimit-scope", standing.scope.encode()),
            ]
        if second != self._second:
            self._second = second
            reset = (b"x-ratelimit-reset", b"%d" % (second + _RESET_AFTER_SECONDS))
            self._current = [*self._fixed, *_UNLIMITED, reset]
            self._block = _lines(self._current)
        return self._current

    def block(self, standing: Standing | None = None) -> bytes:
        """Return the same headers as lines of the wire."""
        if standing is not None:
            return (
                b"%bx-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\nx-ratelimit-scope: %b\r\n"
                % (
                    self._fixed_block,
                    standing.limit,
                    standing.remaining,
                    int(time.time()) + standing.reset_seconds,
                    standing.scope.encode(),
                )
            )
        self.current()
        return self._block


class Cors:
    """Which pages may read answers. Contract: spooled-tenancy 12.5."""

    def __init__(self, settings: HttpSettings) -> None:
        origins = settings.cors_origins
        if origins is None and settings.production:
            origins = ()
        self._any = origins is None or "*" in origins
        self._permits_all = not settings.production
        self._origins = frozenset(origin.encode() for origin in origins or ())

    def answer_headers(self, origin: bytes) -> HeaderList:
        """Return the headers that let a page of `origin` read an answer."""
        return [*self._permission(origin), (b"access-control-expose-headers", _EXPOSED_HEADERS)]

    def preflight_headers(self, origin: bytes, headers_wanted: bytes = b"") -> HeaderList:
        """Return the headers that let a page of `origin` send what clients send; in development whatever it wants."""
        allowed = _ALLOWED_HEADERS
        if self._permits_all and headers_wanted and not headers_wanted.translate(None, _HEADER_NAMES):
            # Beside the usual ones, so that one preflight serves all of a page's calls.
            allowed = b"%b, %b" % (_ALLOWED_HEADERS, headers_wanted)
        return [
            *self._permission(origin),
            (b"access-control-allow-methods", _ALLOWED_METHODS),
            (b"access-control-allow-headers", allowed),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]

    def _permission(self, origin: bytes) -> HeaderList:
        if self._any:
            return [(b"access-control-allow-origin", b"*")]
        if origin in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        return [(b"vary", b"Origin")]


def _lines(headers: HeaderList) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def request_id_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the caller's request id, or a new one when it gave none that can be echoed."""
    given = headers.get(b"x-request-id")
    if given and len(given) <= limits.REQUEST_ID_CHARS_MAX and not given.translate(None, _VISIBLE):
        return given
    # It names a request in logs and guards nothing, so a fast generator serves.
    digits = b"%032x" % random.getrandbits(128)
    return b"%b-%b-4%b-a%b-%b" % (digits[:8], digits[8:12], digits[13:16], digits[17:20], digits[20:])


def check_api_version(given: bytes) -> None:
    """Raise BadRequest for a well-formed version that is not served. Contract: spooled-tenancy 12.6."""
    if not given or len(given) > _VERSION_CHARS_MAX or given.translate(None, _VERSION_CHARS):
        return
    if given != b"1":
        raise BadRequest("This API version is not supported; supported versions: 1")


def is_json(content_type: bytes) -> bool:
    """Tell whether a `Content-Type` names JSON."""
    media_type = content_type.split(b";", 1)[0].strip().lower()
    return media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Tell whether an `Accept-Encoding` lets gzip through."""
    for item in accept_encoding.lower().split(b","):
        coding, _, weight = item.partition(b";")
        if coding.strip() in {b"gzip", b"*"}:
            return weight.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False


def gzipped(body: bytes) -> bytes:
    """Return `body` as a gzip member."""
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    return compressor.compress(body) + compressor.flush()
