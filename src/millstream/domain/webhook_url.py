"""Which addresses the server may be made to call. Contract: spooled-jobs 3.1, spooled-tenancy 10.8.

The text is judged when an address is stored; the text again, and every address that its name resolves to, at each
attempt.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from msgspec import Struct

from millstream.domain import limits

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1"})
"""The hosts that plain http may name, where that is allowed at all."""
LOCAL_ADDRESSES: frozenset[Address] = frozenset(
    {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
)
"""What these hosts may resolve to."""

_FORBIDDEN_HOSTS = frozenset({"localhost", "metadata", "metadata.google", "metadata.google.internal"})
_FORBIDDEN_SUFFIXES = (".internal", ".local", ".localhost")
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_\-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_\-]*[a-z0-9_])?)*\.?"
)
# Decimal, octal and hexadecimal spellings of addresses are names to nobody but resolvers.
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?")

# The library's own answer differs from one Python to the next: what is nobody's public host is listed here.
_NOT_PUBLIC: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Only 2000::/3 is handed out; of that Teredo and the other special blocks, benchmarks and documentation.
        *("::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
# Prefixes whose addresses stand for an IPv4 address, and the bit where that ends.
_EMBEDDING = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)


class Place(Struct, frozen=True):
    """Where a checked address leads. `local` is the exception for receivers on this machine."""

    host: str
    port: int
    local: bool


def place_of(url: str, *, local_http: bool) -> Place | str:
    """Return where `url` leads, or why it may not be called.

    `local_http` permits plain http to `localhost` and `127.0.0.1`, for receivers of tests.
    """
    if len(url) > limits.WEBHOOK_URL_CHARS_MAX:
        return f"must have at most {limits.WEBHOOK_URL_CHARS_MAX} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "must be an absolute URL"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "must be an absolute URL"
    if not host or port == 0 or parts.scheme not in {"http", "https"}:
        return "must be an absolute http or https URL"
    if parts.username is not None or parts.password is not None:
        return "must not contain credentials"
    if parts.scheme == "http":
        if local_http and host in LOCAL_HOSTS:
            return Place(host, port or 80, local=True)
        return "must use https"
    return Place(host, port or 443, local=False) if _may_name(host) else "must name a public host"


def refusal_of_url(url: str, *, production: bool) -> str | None:
    """Return why `url` may not be called back, or None if it may."""
    place = place_of(url, local_http=not production)
    return place if isinstance(place, str) else None


def is_public(address: Address) -> bool:
    """Tell whether `address`, or the IPv4 address that it stands for, is a host of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        # A zone names an interface of this machine.
        if address.scope_id is not None:
            return False
        for network, bit in _EMBEDDING:
            if address in network:
                return is_public(ipaddress.IPv4Address(int(address) >> bit & 0xFFFFFFFF))
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def _may_name(host: str) -> bool:
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        name = host.rstrip(".")
        return (
            _NAME.fullmatch(host) is not None
            and _NUMERIC.fullmatch(host) is None
            and name not in _FORBIDDEN_HOSTS
            and not name.endswith(_FORBIDDEN_SUFFIXES)
        )
