"""Listening sockets."""

import socket

import pytest

from millstream.serving.sockets import CannotListen, bind, close_all, port_of, url_of


def test_port_0_takes_a_free_one() -> None:
    first, second = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    try:
        assert 0 < port_of(first) != port_of(second) > 0
    finally:
        close_all(first + second)


def test_a_host_with_several_addresses_gets_one_port() -> None:
    sockets = bind("localhost", 0)
    try:
        assert {int(bound.getsockname()[1]) for bound in sockets} == {port_of(sockets)}
    finally:
        close_all(sockets)


def test_a_port_that_someone_listens_on_is_refused_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}: the port is taken") as refused:
            bind("127.0.0.1", port)
    assert "0: a free one" in refused.value.remedy


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(CannotListen) as refused:
        bind(host, 0)
    assert "--host" in refused.value.remedy


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_urls_can_be_followed_from_this_machine(host: str, url: str) -> None:
    assert url_of(host, 80) == url
