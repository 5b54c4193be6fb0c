"""Addresses of clients, as far as they tell one client from another."""

import ipaddress

_IPV6_PREFIX_BITS = 64


def network_of(address: str) -> str:
    """Return what stands for the client at `address`: an IPv4 address itself, the /64 network of an IPv6 address.

    One household or machine has all addresses of such a network: counting single ones would be no limit. Text that
    is no address (a Unix socket has none) stands for itself.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed), _IPV6_PREFIX_BITS), strict=False))
