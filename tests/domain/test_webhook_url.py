"""Which addresses may be called, by their text. Contract: spooled-jobs 3.1, spooled-tenancy 10.8, 19.8."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.webhook_url import Place, is_public, place_of, refusal_of_url

HOSTS_INSIDE = [
    *(
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "0.1.2.3",
        "[::1]",
        "[::]",
    ),
    *(
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.1.1",
    ),
    *("metadata", "metadata.google", "metadata.google.internal", "Metadata.Google.Internal.", "db.internal"),
    *(
        "printer.local",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
    ),
    *(
        "198.18.0.1",
        "192.0.0.8",
        "240.0.0.1",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[febf::1]",
        "[fec0::1]",
        "[fc00::1]",
    ),
    *(
        "[fdff::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[2001::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[::7f00:1]",
    ),
    *(
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[3fff::1]",
    ),
    *("2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "017700000001", "1", "0", "127.0.0.1."),
    # Letters that look like others, and digits that are none of ASCII's.
    *("ｌocalhost", "①②⑦.0.0.1", "exаmple.com", "127。0。0。1"),
]
HOSTS_OUTSIDE = [
    *(
        "example.com",
        "EXAMPLE.com.",
        "a_b.example.com",
        "93.184.216.34",
        "172.200.1.1",
        "172.32.0.1",
        "172.15.0.1",
    ),
    *(
        "192.169.0.1",
        "11.0.0.1",
        "100.128.0.1",
        "[2606:2800:220:1::1]",
        "[64:ff9b::8.8.8.8]",
        "[::ffff:8.8.8.8]",
    ),
    *("localhost.example.com", "internal.example.com", "xn--bcher-kva.example", "1.example"),
]


@pytest.mark.parametrize("host", HOSTS_INSIDE)
@pytest.mark.parametrize("production", [True, False])
def test_a_host_inside_is_refused_in_every_spelling(host: str, production: bool) -> None:
    assert refusal_of_url(f"https://{host}/x", production=production) is not None
    assert refusal_of_url(f"https://{host}:8443/x", production=production) is not None
    if host not in {"127.0.0.1", "localhost"}:
        assert refusal_of_url(f"http://{host}/x", production=production) is not None


@pytest.mark.parametrize("host", HOSTS_OUTSIDE)
@pytest.mark.parametrize("production", [True, False])
def test_a_public_host_may_be_called_over_https_only(host: str, production: bool) -> None:
    assert refusal_of_url(f"https://{host}:8443/a?b=c", production=production) is None
    assert refusal_of_url(f"http://{host}/x", production=production) is not None


@pytest.mark.parametrize("url", ["http://localhost:9/x", "http://127.0.0.1:9/x", "HTTP://LocalHost/x"])
def test_plain_http_is_for_local_receivers_outside_production(url: str) -> None:
    assert refusal_of_url(url, production=False) is None
    assert refusal_of_url(url, production=True) is not None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "not a url",
        "/relative",
        "//example.com/x",
        "https://",
        "https:///x",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "gopher://example.com/x",
        "javascript:alert(1)",
        "http://127.0.0.2/x",
        "http://[::1]/x",
        "http://user@localhost/x",
        "https://user:secret@example.com/x",
        "https://user@example.com/x",
        "https://@example.com/x",
        "https://example.com@10.0.0.1/x",
        "https://example.com:99999/x",
        "https://example.com:0/x",
        "https://example.com:-1/x",
        "https://exa mple.com/x",
        "https://example.com/\r\nX: y",
        "https://example.com/\tx",
        "https://example.com\\@internal/",
        "https://exa%6dple.com/",
        "https://[::1",
        "https://-/",
        "https://a..b/",
        "https://example.com/" + "a" * 2048,
    ],
)
@pytest.mark.parametrize("production", [True, False])
def test_other_texts_are_no_addresses(url: str, production: bool) -> None:
    assert refusal_of_url(url, production=production) is not None


@given(st.text())
def test_any_text_is_an_address_or_not_but_never_raises(text: str) -> None:
    refusal_of_url(f"https://{text}", production=True)
    refusal_of_url(text, production=False)


def test_a_place_is_where_the_text_leads() -> None:
    assert place_of("https://Example.com/x", local_http=False) == Place("example.com", 443, local=False)
    assert place_of("http://localhost:81", local_http=True) == Place("localhost", 81, local=True)


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_what_stands_for_an_ipv4_address_is_as_public_as_that(number: int) -> None:
    plain = is_public(ipaddress.IPv4Address(number))
    for embedded in (
        ipaddress.IPv6Address(0xFFFF << 32 | number),
        ipaddress.IPv6Address(0x0064FF9B << 96 | number),
        ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1),
    ):
        assert is_public(embedded) is plain


@given(st.ip_addresses())
def test_what_the_library_calls_private_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address) and address.version == 4:
        assert address.is_global
        assert not address.is_multicast
