"""Which addresses a completion callback may name. Contract: spooled-jobs 3.1, spooled-tenancy 10.8.

Only the text is judged here; what a name resolves to is judged at every delivery.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from millstream.domain import limits

_FORBIDDEN_HOSTS = frozenset({"localhost", "metadata", "metadata.google", "metadata.google.internal"})
_FORBIDDEN_SUFFIXES = (".internal", ".local", ".localhost")
_TEST_HOSTS = frozenset({"localhost", "127.0.0.1"})
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_\-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_\-]*[a-z0-9_])?)*\.?"
)
# Decimal, octal and hexadecimal spellings of addresses are names to nobody but resolvers.
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?")


def refusal_of_url(url: str, *, production: bool) -> str | None:
    """Return why `url` may not be called back, or None if it may.

    Plain http is for local test receivers (`localhost`, `127.0.0.1`) outside production only.
    """
    if len(url) > limits.WEBHOOK_URL_CHARS_MAX:
        return f"must have at most {limits.WEBHOOK_URL_CHARS_MAX} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "must be an absolute URL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be an absolute URL"
    if not host or parts.scheme not in {"http", "https"}:
        return "must be an absolute http or https URL"
    if parts.username is not None or parts.password is not None:
        return "must not contain credentials"
    if parts.scheme == "http":
        return None if not production and host in _TEST_HOSTS else "must use https"
    return None if _is_public(host) else "must name a public host"


def _is_public(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".")
        return (
            _NAME.fullmatch(host) is not None
            and _NUMERIC.fullmatch(host) is None
            and name not in _FORBIDDEN_HOSTS
            and not name.endswith(_FORBIDDEN_SUFFIXES)
        )
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    return address.is_global and not address.is_multicast
