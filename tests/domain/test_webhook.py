"""Signatures, pauses, bodies. Contract: spooled-tenancy 10.2, 10.7."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from millstream.domain.webhook import (
    EVENT_NAMES,
    SUBSCRIBABLE,
    WebhookEvent,
    WebhookFormat,
    retry_delay_seconds,
    signature,
)
from millstream.domain.webhook_body import body_of, envelope, summary

DELIVERY = UUID("0198c0de-0000-7000-8000-000000000001")
AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
DATA = '{"job_id": "j", "queue_name": "mail", "error": "a <b> & @everyone\\nfell"}'


def test_every_event_has_a_name_and_all_but_the_test_can_be_subscribed_to() -> None:
    assert set(EVENT_NAMES) == set(WebhookEvent)
    assert len(set(EVENT_NAMES.values())) == 15
    assert set(EVENT_NAMES.values()) - set(SUBSCRIBABLE) == {"webhook.test"}


def test_a_signature_is_over_the_time_and_the_bytes() -> None:
    expected = hmac.new("clé".encode(), b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signature("clé", 1_700_000_000, b'{"a":1}') == f"sha256={expected}"


def test_pauses_double() -> None:
    assert [retry_delay_seconds(attempts) for attempts in range(1, 10)] == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_the_envelope_says_what_when_and_about_what() -> None:
    body = json.loads(envelope(DELIVERY, WebhookEvent.JOB_FAILED, AT, DATA))
    assert body == {
        "id": str(DELIVERY),
        "event": "job.failed",
        "created_at": "2026-03-01T12:00:00.000005Z",
        "timestamp": "2026-03-01T12:00:00.000005Z",
        "data": json.loads(DATA),
    }


@pytest.mark.parametrize("chosen", WebhookFormat)
def test_chats_get_one_line_that_mentions_nobody(chosen: WebhookFormat) -> None:
    body = json.loads(body_of(chosen, DELIVERY, WebhookEvent.JOB_FAILED, AT, DATA))
    line = "job.failed job j in queue mail – a <b> & @everyone fell"
    match chosen:
        case WebhookFormat.JSON:
            assert body["event"] == "job.failed"
        case WebhookFormat.SLACK:
            assert body == {"text": "job.failed job j in queue mail – a &lt;b&gt; &amp; @everyone fell"}
        case WebhookFormat.DISCORD:
            assert body == {"content": line.replace("@", "@\u200b")}
        case WebhookFormat.TEAMS:
            assert body["type"] == "message"
            [attachment] = body["attachments"]
            assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
            assert attachment["content"]["body"][0]["text"] == line


def test_a_long_error_fits_into_a_message() -> None:
    data = json.dumps({"job_id": "j", "error": "@" * 5000})
    body = json.loads(body_of(WebhookFormat.DISCORD, DELIVERY, WebhookEvent.JOB_FAILED, AT, data))
    assert len(body["content"]) == 2000
    assert len(summary(WebhookEvent.JOB_FAILED, data)) == 2000
