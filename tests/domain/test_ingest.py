"""Signatures, replay window and names of incoming webhooks. Contract: spooled-tenancy 11, 19.8."""

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.ingest import (
    Provider,
    is_event_type,
    is_ingest_queue,
    is_signed_by_github,
    is_signed_by_stripe,
    is_webhook_token,
    logged_event,
    may_be_public_id,
    queue_of_event,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 900_000, tzinfo=UTC)
SENT = int(NOW.timestamp())
SECRET = "a secret with ümlauts"


def digest(message: bytes, secret: str = SECRET) -> bytes:
    return hmac.new(secret.encode(), message, "sha256").hexdigest().encode()


def github(body: bytes, secret: str = SECRET) -> bytes:
    return b"sha256=" + digest(body, secret)


def stripe(body: bytes, sent_at: object = SENT, secret: str = SECRET) -> bytes:
    return f"t={sent_at},v1=".encode() + digest(f"{sent_at}.".encode() + body, secret)


def test_github_signs_with_the_known_test_vector() -> None:
    # The example in GitHub's documentation of validating deliveries.
    header = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert is_signed_by_github(header, b"Hello, World!", "It's a Secret to Everybody")


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_is_signed_with_the_secret_is_accepted(body: bytes, secret: str) -> None:
    assert is_signed_by_github(github(body, secret), body, secret)
    assert is_signed_by_stripe(stripe(body, SENT, secret), body, secret, NOW)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_body_that_differs_by_one_bit_is_refused(body: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[place // 8] ^= 1 << place % 8
    assert not is_signed_by_github(github(body), bytes(changed), SECRET)
    assert not is_signed_by_stripe(stripe(body), bytes(changed), SECRET, NOW)


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_no_header_makes_the_check_fail_in_another_way_than_refusing(header: bytes) -> None:
    assert not is_signed_by_github(header, b"{}", SECRET)
    assert not is_signed_by_stripe(header, b"{}", SECRET, NOW)
    assert not is_signed_by_stripe(b"t=%d,v1=" % SENT + header, b"{}", SECRET, NOW)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"sha256=",
        digest(b"{}"),
        b"sha1=" + hmac.new(SECRET.encode(), b"{}", "sha1").hexdigest().encode(),
        b"sha1=" + digest(b"{}"),
        github(b"{}")[:-1],
        github(b"{}") + b"0",
        b" " + github(b"{}"),
        b"SHA256=" + digest(b"{}"),
        b"sha256=" + digest(b"{}").upper(),
        github(b"{}", "another secret"),
    ],
)
def test_a_github_signature_of_another_form_is_refused(header: bytes) -> None:
    assert not is_signed_by_github(header, b"{}", SECRET)


@pytest.mark.parametrize(
    ("age_seconds", "accepted"), [(0, True), (300, True), (301, False), (-60, True), (-61, False)]
)
def test_a_stripe_message_is_neither_old_nor_from_the_future(age_seconds: int, accepted: bool) -> None:
    header = stripe(b"{}", SENT - age_seconds)
    assert is_signed_by_stripe(header, b"{}", SECRET, NOW) is accepted
    # The fraction of our second does not matter.
    assert is_signed_by_stripe(header, b"{}", SECRET, NOW.replace(microsecond=0)) is accepted


@pytest.mark.parametrize(
    "header",
    [
        b"",
        stripe(b"{}").partition(b",")[0],
        stripe(b"{}").partition(b",")[2],
        stripe(b"{}", "now"),
        stripe(b"{}", f"+{SENT}"),
        stripe(b"{}", f"{SENT}.0"),
        stripe(b"{}", "9" * 13),
        stripe(b"{}").replace(b"v1", b"v0"),
        stripe(b"{}").replace(b"v1", b"V1"),
        b"t=%d,v1=%b" % (SENT, digest(b"{}")),
        b"t=%d,v1=%b" % (SENT + 1, digest(b"%d.{}" % SENT)),
        # The signed time is not the one that is judged.
        b"t=%d,%b" % (SENT - 1, stripe(b"{}")),
        stripe(b"{}") + b",v1=" + b"0" * 4096,
    ],
)
def test_a_stripe_signature_of_another_form_is_refused(header: bytes) -> None:
    assert not is_signed_by_stripe(header, b"{}", SECRET, NOW)


def test_one_of_several_stripe_signatures_is_enough() -> None:
    old, new = stripe(b"{}", secret="rolled").partition(b",")[2], stripe(b"{}").partition(b",")[2]
    for signatures in (old + b"," + new, new + b"," + old, b"v0=x, " + new + b" ,v2=y"):
        assert is_signed_by_stripe(b"t=%d,%b" % (SENT, signatures), b"{}", SECRET, NOW)


def test_times_are_compared_across_zones() -> None:
    there = (NOW + timedelta(seconds=300)).astimezone()
    assert is_signed_by_stripe(stripe(b"{}"), b"{}", SECRET, there)


@pytest.mark.parametrize(
    "presented", [b"", b"toke", b"token ", b"tokens", b"TOKEN", b"t\xc3\xb6ken", b"x" * 9_999]
)
def test_only_the_token_itself_is_the_token(presented: bytes) -> None:
    assert is_webhook_token(b"token", "token")
    assert not is_webhook_token(presented, "token")


@pytest.mark.parametrize("presented", [b"", b"None", b"null", b"token"])
@pytest.mark.parametrize("expected", [None, ""])
def test_nothing_is_the_token_of_a_tenant_without_one(presented: bytes, expected: str | None) -> None:
    assert not is_webhook_token(presented, expected)


@pytest.mark.parametrize(
    ("provider", "event", "queue"),
    [
        (Provider.GITHUB, "push", "github-push"),
        (Provider.GITHUB, "pull_request", "github-pull_request"),
        (Provider.GITHUB, "issues; DROP TABLE", "github-issues--DROP-TABLE"),
        (Provider.GITHUB, "../../etc/passwd", "github-------etc-passwd"),
        (Provider.STRIPE, "payment_intent.succeeded", "stripe-payment_intent-succeeded"),
        (Provider.STRIPE, "öffne", "stripe--ffne"),
        (Provider.STRIPE, "", "stripe-"),
        (Provider.GITHUB, "x" * 70, "github-" + "x" * 64),
    ],
)
def test_an_event_names_its_queue(provider: Provider, event: str, queue: str) -> None:
    assert queue_of_event(provider, event) == queue


@settings(deadline=None)
@given(st.sampled_from([Provider.GITHUB, Provider.STRIPE]), st.text())
def test_whatever_the_event_is_its_queue_can_be_claimed_from(provider: Provider, event: str) -> None:
    assert is_ingest_queue(queue_of_event(provider, event))


@pytest.mark.parametrize("name", ["a", "_a", "A.b-c_1", "0", "a.b.c", "x" * 255, "admin2", "my-default"])
def test_a_custom_webhook_may_name_a_queue(name: str) -> None:
    assert is_ingest_queue(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "x" * 256, ".a", "-a", "a..b", "..", "a b", "a;b", "a/b", "../a", "ä", "a\n", "a\0"),
        *("admin", "SYSTEM", "Internal", "rOOt", "default"),
    ],
)
def test_a_custom_webhook_may_not_name_a_queue(name: str) -> None:
    assert not is_ingest_queue(name)


def test_event_types_are_plain_and_bounded() -> None:
    assert is_event_type("")
    assert is_event_type("order.paid_v2-x")
    assert is_event_type("x" * 100)
    for text in ("x" * 101, "a b", "a;b", "ä", "a\n", "<b>"):
        assert not is_event_type(text)


def test_what_is_kept_of_an_event_is_printable_and_bounded() -> None:
    assert logged_event("a\x1b[31mb\x85\n" + "x" * 200) == "a[31mb" + "x" * 94


def test_public_ids_are_plain_and_bounded() -> None:
    assert may_be_public_id("default-org")
    assert may_be_public_id("x" * 128)
    for text in ("", "x" * 129, "ａ", "а", "a b", "a\n", "a\0", "1' or '1'='1"):
        assert not may_be_public_id(text)
