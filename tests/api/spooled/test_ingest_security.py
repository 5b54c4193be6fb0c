"""Who may not send webhooks. Contract: spooled-tenancy 19.8 (H11 to H21), 19.3 (C15, C16), 19.9."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Callable

import asyncpg
import httpx2
import pytest

from tests.api.spooled.webhook_sender import (
    Sender,
    github_signature,
    signature,
    stripe_event,
    stripe_signature,
)
from tests.api.spooled.wire import UNKNOWN_ID, LiveServer, LiveTenant, answered, refused
from tests.conftest import GITHUB_SECRET, STRIPE_SECRET

BODY = b'{"action":"opened"}'
CUSTOM = {"queue_name": "q", "payload": {"n": 1}}


@pytest.fixture
def sender(http: httpx2.Client, tenant: LiveTenant) -> Sender:
    return Sender(http, tenant)


@pytest.fixture
def other(http: httpx2.Client, make_tenant: Callable[..., LiveTenant]) -> Sender:
    """A sender to another organization."""
    return Sender(http, make_tenant())


# H11


@pytest.mark.parametrize(
    "header",
    [
        None,
        "sha256",
        "sha256=",
        signature(BODY, GITHUB_SECRET),
        github_signature(BODY)[:-2],
        github_signature(BODY) + "00",
        github_signature(b"{}"),
        f"sha1={hmac.new(GITHUB_SECRET.encode(), BODY, 'sha1').hexdigest()}",
        f"sha256={signature(BODY, GITHUB_SECRET).upper()}",
        "sha256=" + "x" * 20_000,
    ],
)
def test_h11_github_needs_its_signature(sender: Sender, header: str | None) -> None:
    refused(sender.github(BODY, header), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()


# H12


@pytest.mark.parametrize("place", range(0, len(BODY), 6))
def test_h12_a_body_that_was_changed_by_one_byte_is_refused(sender: Sender, place: int) -> None:
    changed = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
    refused(sender.github(changed, github_signature(BODY)), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()


def test_h12_a_signature_with_another_secret_is_refused(sender: Sender, other: Sender) -> None:
    for secret in (other.tenant.webhook_token, sender.tenant.webhook_token, STRIPE_SECRET, "", "x" * 40):
        refused(sender.github(BODY, github_signature(BODY, secret)), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()


# H14


@pytest.mark.parametrize(("age_seconds", "status"), [(310, 401), (-70, 401), (295, 200), (-50, 200)])
def test_h14_stripe_is_neither_old_nor_from_the_future(sender: Sender, age_seconds: int, status: int) -> None:
    body = stripe_event()
    assert sender.stripe(body, stripe_signature(body, age_seconds)).status_code == status
    assert len(sender.jobs()) == (status == 200)


@pytest.mark.parametrize(
    "form", ["", "v1={v1}", "t={t}", "t=soon,v1={soon}", "t={t},v0={v1}", "t=-1,v1={v1}", "t={t};v1={v1}"]
)
def test_h14_a_stripe_signature_of_another_form_is_refused(sender: Sender, form: str) -> None:
    body = stripe_event()
    now = int(time.time())
    header = form.format(
        t=now,
        v1=signature(b"%d." % now + body, STRIPE_SECRET),
        soon=signature(b"soon." + body, STRIPE_SECRET),
    )
    refused(sender.stripe(body, header or None), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()


def test_h14_the_time_cannot_be_moved_without_the_secret(sender: Sender) -> None:
    body = stripe_event()
    old = stripe_signature(body, 1_000)
    moved = f"t={int(time.time())},{old.partition(',')[2]}"
    refused(sender.stripe(body, moved), 401, "AUTHENTICATION_FAILED")
    refused(sender.stripe(body, f"t={int(time.time())},{old}"), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()


# H15


def test_h15_a_replay_of_stripe_makes_no_second_job(sender: Sender) -> None:
    body = stripe_event("evt_replayed")
    header = stripe_signature(body)
    first = answered(sender.stripe(body, header))
    again = answered(sender.stripe(body, header))
    assert (first["created"], again["created"]) == (True, False)
    assert again["job_id"] == first["job_id"]
    assert len(sender.jobs()) == 1


# H16


def test_h16_custom_needs_the_token_of_its_organization(sender: Sender, other: Sender) -> None:
    own = sender.tenant.webhook_token
    wrong: list[str | bytes | None] = [None, b"", "wrong", own[:-1], own + "x", own.swapcase(), own * 100]
    for token in [*wrong, other.tenant.webhook_token, sender.tenant.api_key, b"\xff\xfe"]:
        refused(sender.custom(CUSTOM, token), 401, "AUTHENTICATION_FAILED")
    refused(sender.custom(CUSTOM, None, Authorization=f"Bearer {sender.tenant.api_key}"), 401)
    sender.assert_nothing_came_in()
    other.assert_nothing_came_in()


def test_h16_the_token_is_not_read_from_the_query(sender: Sender) -> None:
    path = f"custom?token={sender.tenant.webhook_token}&webhook_token={sender.tenant.webhook_token}"
    refused(sender.post(path, b'{"queue_name":"q","payload":1}', {}), 401, "AUTHENTICATION_FAILED")


async def test_h16_without_a_token_nothing_is_accepted(sender: Sender, server: LiveServer) -> None:
    connection = await asyncpg.connect(server.dsn)
    try:
        await connection.execute(
            "update millstream.tenants set webhook_token = null where id = $1", sender.tenant.tenant_id
        )
    finally:
        await connection.close()
    for token in (sender.tenant.webhook_token, None, b"", "None", "null"):
        refused(sender.custom(CUSTOM, token), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()
    # A provider's signature speaks for itself.
    answered(sender.github(BODY))


def test_h16_a_wrong_token_beside_a_right_signature_is_refused(sender: Sender, other: Sender) -> None:
    body = stripe_event()
    for token in ("", other.tenant.webhook_token):
        refused(sender.github(BODY, X_Webhook_Token=token), 401, "AUTHENTICATION_FAILED")
        refused(sender.stripe(body, **{"X-Webhook-Token": token}), 401, "AUTHENTICATION_FAILED")
    sender.assert_nothing_came_in()
    own = sender.tenant.webhook_token
    answered(sender.github(BODY, X_Webhook_Token=own))
    answered(sender.stripe(body, **{"X-Webhook-Token": own}))
    # And a right token is no signature.
    refused(sender.github(BODY, None, X_Webhook_Token=own), 401, "AUTHENTICATION_FAILED")


def test_the_sender_is_checked_before_the_body_is_read(sender: Sender) -> None:
    """What a stranger sends is not looked at: whatever it is, the answer is the same."""
    for content in (b"{", b"", b'{"queue_name":5}', b"[" * 100_000):
        refused(sender.post("custom", content, {}), 401, "AUTHENTICATION_FAILED")
        refused(sender.github(content, "sha256=00"), 401, "AUTHENTICATION_FAILED")
        refused(sender.stripe(content, "t=1,v1=00"), 401, "AUTHENTICATION_FAILED")


# H17


@pytest.mark.parametrize(
    "queue",
    [
        *("admin", "ADMIN", "System", "internal", "root", "default", "Default"),
        *(
            "../../etc/passwd",
            "a..b",
            "..",
            ".hidden",
            "-leading",
            "a b",
            "a;b",
            "a/b",
            "a\\b",
            "a\nb",
            "",
            "ä",
        ),
        "'; DROP TABLE jobs; --",
    ],
)
def test_h17_queues_that_a_webhook_may_not_name(sender: Sender, queue: str) -> None:
    problem = refused(sender.custom({**CUSTOM, "queue_name": queue}), 400, "VALIDATION_ERROR")
    assert [entry["field"] for entry in problem["details"]] == ["queue_name"]
    sender.assert_nothing_came_in()


# H18


def test_h18_an_event_of_github_is_made_a_name(sender: Sender) -> None:
    accepted = answered(sender.github(BODY, X_GitHub_Event="issues; DROP TABLE"))
    assert accepted["queue_name"] == "github-issues--DROP-TABLE"
    answered(sender.github(BODY, X_GitHub_Event="x" * 5_000))
    [long, short] = sender.log()
    assert short["event_type"] == "issues; DROP TABLE"
    assert (long["event_type"], long["matched_queue"]) == ("x" * 100, "github-" + "x" * 64)


# H19


@pytest.mark.parametrize(
    "organization",
    [
        UNKNOWN_ID,
        "no-such-org",
        "1' OR '1'='1",
        "'; DROP TABLE tenants; --",
        "x" * 129,
        "ａｂｃ",
        "%00",
        "..%2fcustom",
        "%2e%2e",
        "default;org",
    ],
)
def test_h19_an_unknown_organization_is_404(sender: Sender, http: httpx2.Client, organization: str) -> None:
    token = {"X-Webhook-Token": sender.tenant.webhook_token}
    sent = [
        ("custom", b'{"queue_name":"q","payload":1}', token),
        ("github", BODY, {"X-Hub-Signature-256": github_signature(BODY)}),
        ("stripe", stripe_event(), {"Stripe-Signature": stripe_signature(stripe_event())}),
    ]
    for provider, body, headers in sent:
        response = http.post(
            f"{sender.tenant.url}/api/v1/webhooks/{organization}/{provider}", content=body, headers=headers
        )
        refused(response, 404, "NOT_FOUND")
        assert organization not in response.text
    sender.assert_nothing_came_in()


def test_every_unknown_organization_is_answered_alike(sender: Sender, http: httpx2.Client) -> None:
    bodies: set[bytes] = set()
    for organization in (UNKNOWN_ID, str(uuid.uuid4()), "x' or 1=1", "x" * 200):
        for headers in ({}, {"X-Webhook-Token": sender.tenant.webhook_token}):
            url = f"{sender.tenant.url}/api/v1/webhooks/{organization}/custom"
            bodies.add(http.post(url, content=b"{}", headers=headers).content)
    assert len(bodies) == 1


def test_every_refused_sender_is_answered_alike(sender: Sender, other: Sender) -> None:
    bodies = {sender.custom(CUSTOM, token).content for token in (None, b"", "x", other.tenant.webhook_token)}
    bodies |= {sender.github(BODY, header).content for header in (None, "sha256=00", github_signature(b""))}
    bodies |= {sender.stripe(BODY, header).content for header in (None, "t=1,v1=00", stripe_signature(b""))}
    assert len(bodies) == 1
    assert sender.tenant.organization_id.encode() not in bodies.pop()


# H21


async def test_h21_a_rotated_token_stops_working_at_once(sender: Sender, server: LiveServer) -> None:
    answered(sender.custom(CUSTOM))
    connection = await asyncpg.connect(server.dsn)
    try:
        await connection.execute(
            "update millstream.tenants set webhook_token = 'rotated' where id = $1", sender.tenant.tenant_id
        )
    finally:
        await connection.close()
    refused(sender.custom(CUSTOM), 401, "AUTHENTICATION_FAILED")
    answered(sender.custom(CUSTOM, "rotated"))


# C15, C16


def test_c15_a_log_shows_own_entries_only(sender: Sender, other: Sender) -> None:
    answered(sender.custom(CUSTOM))
    assert other.log() == []
    assert other.log(queue_name="q", status="created") == []
    assert len(sender.log()) == 1


def test_c16_keys_of_two_organizations_are_apart(sender: Sender, other: Sender) -> None:
    body = stripe_event("evt_both")
    ours, theirs = answered(sender.stripe(body)), answered(other.stripe(body))
    assert (ours["created"], theirs["created"]) == (True, True)
    assert ours["job_id"] != theirs["job_id"]


# A flood of what is refused


def test_what_is_refused_leaves_nothing_behind(sender: Sender) -> None:
    for _ in range(20):
        sender.custom(CUSTOM, "wrong")
        sender.github(BODY, "sha256=00")
        sender.stripe(BODY, "t=1,v1=00")
        sender.custom({"queue_name": "admin", "payload": 1})
    sender.assert_nothing_came_in()
