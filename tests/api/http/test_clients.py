"""Whom a request is counted for. Contract: spooled-tenancy 8.1, 19.7 (G11)."""

import pytest

from millstream.api.http.clients import ClientReader, Peer
from millstream.domain.rate import Client

PROXY: Peer = ("10.0.0.9", 4000)
BEHIND = ClientReader(["10.0.0.0/8", "::1/128"])


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_client_is_its_address_or_its_network(host: str, key: str) -> None:
    assert ClientReader([]).client_of((host, 1), {}) == Client(key)


def test_a_forwarded_address_of_anybody_else_is_ignored() -> None:
    headers = {b"x-forwarded-for": b"198.51.100.1"}
    assert ClientReader([]).client_of(PROXY, headers) == Client("10.0.0.9")
    assert BEHIND.client_of(("192.0.2.7", 1), headers) == Client("192.0.2.7")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"198.51.100.1", "198.51.100.1"),
        (b" 198.51.100.1 ", "198.51.100.1"),
        (b"2001:db8::1", "2001:db8::/64"),
        # A proxy appends whom it saw; what stands before that the client wrote itself.
        (b"203.0.113.99, 198.51.100.1", "198.51.100.1"),
        (b"203.0.113.99,198.51.100.1, 10.0.0.2", "198.51.100.1"),
        (b"10.1.1.1, 10.0.0.2", "10.1.1.1"),
        (b"", "10.0.0.9"),
        (b"unknown", "10.0.0.9"),
        (b"1" * 46, "10.0.0.9"),
        (b"\xff\xfe", "10.0.0.9"),
        (b"198.51.100.1, nonsense", "10.0.0.9"),
    ],
)
def test_a_trusted_proxy_tells_for_whom_it_asks(value: bytes, key: str) -> None:
    assert BEHIND.client_of(PROXY, {b"x-forwarded-for": value}) == Client(key)


def test_clients_of_a_local_socket_are_told_apart_by_their_agents() -> None:
    reader = ClientReader([])
    one = reader.client_of(None, {b"user-agent": b"one"})
    assert one == reader.client_of(None, {b"user-agent": b"one"})
    assert one != reader.client_of(None, {b"user-agent": b"two"})
    assert not one.is_identified
    assert not reader.client_of(("not an address", 0), {}).is_identified


def test_a_proxy_on_a_local_socket_is_trusted_when_proxies_are() -> None:
    headers = {b"x-forwarded-for": b"198.51.100.1"}
    assert BEHIND.client_of(None, headers) == Client("198.51.100.1")
    assert not ClientReader([]).client_of(None, headers).is_identified
