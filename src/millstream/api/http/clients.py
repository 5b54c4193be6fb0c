"""Who sends a request, as far as the network tells. Contract: spooled-tenancy 8.1."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from millstream.domain import limits
from millstream.domain.address import network_of
from millstream.domain.rate import Client

Peer = tuple[str, int] | None
"""Address and port of the other end of a connection; None when it has none."""

_REMEMBERED_ADDRESSES_MAX = 4_096


class ClientReader:
    """Tells clients by address. `X-Forwarded-For` counts only from proxies in `trusted` networks."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ip_network(network) for network in trusted]

    def client_of(self, peer: Peer, headers: Mapping[bytes, bytes]) -> Client:
        """Return who sent a request with these headers."""
        address = self._address(peer, headers)
        if address is not None:
            return Client(_client_of(address))
        # A local socket without a proxy that says for whom it asks. Agents are told apart, so that one of them
        # does not use up everybody's share.
        return Client(f"agent:{sha256(headers.get(b'user-agent', b'')).hexdigest()}", is_identified=False)

    def address_of(self, peer: Peer, headers: Mapping[bytes, bytes]) -> str:
        """Return the address that a request came from, empty when none is known."""
        address = self._address(peer, headers)
        return "" if address is None else str(address)

    def _address(self, peer: Peer, headers: Mapping[bytes, bytes]) -> IPv4Address | IPv6Address | None:
        address = None if peer is None else _parsed(peer[0])
        if self._trusted and (address is None or self._trusts(address)):
            return self._forwarded(headers.get(b"x-forwarded-for", b"")) or address
        return address

    def _forwarded(self, value: bytes) -> IPv4Address | IPv6Address | None:
        """Return the nearest address that is no proxy of ours: what stands before it the client may have made up."""
        nearest = None
        for hop in reversed(value.decode("latin-1").split(",")):
            text = hop.strip()
            address = _parsed(text) if len(text) <= limits.FORWARDED_ADDRESS_CHARS_MAX else None
            if address is None:
                break
            nearest = address
            if not self._trusts(address):
                break
        return nearest

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(_REMEMBERED_ADDRESSES_MAX)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


@lru_cache(_REMEMBERED_ADDRESSES_MAX)
def _client_of(address: IPv4Address | IPv6Address) -> str:
    return network_of(str(address))
