"""What receivers are sent, format by format. Contract: spooled-tenancy 10.7."""

from datetime import UTC, datetime
from typing import assert_never, cast
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from millstream.domain.webhook import EVENT_NAMES, WebhookEvent, WebhookFormat

_SUMMARY_CHARS_MAX = 2_000
_encode = msgspec.json.Encoder().encode


class _Envelope(Struct, frozen=True, kw_only=True):
    id: UUID
    event: str
    created_at: str
    timestamp: str
    data: Raw


def envelope(delivery_id: UUID, event: WebhookEvent, created_at: datetime, data: str) -> bytes:
    """Return the body that a webhook of the JSON format receives: the same bytes at every attempt."""
    moment = created_at.astimezone(UTC).isoformat("T", "microseconds")[:26] + "Z"
    return _encode(
        _Envelope(
            id=delivery_id,
            event=EVENT_NAMES[event],
            created_at=moment,
            timestamp=moment,
            data=Raw(data.encode()),
        )
    )


def body_of(
    chosen: WebhookFormat, delivery_id: UUID, event: WebhookEvent, created_at: datetime, data: str
) -> bytes:
    """Return the body that a webhook of the format `chosen` receives."""
    match chosen:
        case WebhookFormat.JSON:
            return envelope(delivery_id, event, created_at, data)
        case WebhookFormat.SLACK:
            # These three are what its markup is made of; without them nobody is mentioned.
            text = summary(event, data).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return _encode({"text": text})
        case WebhookFormat.DISCORD:
            # An invisible space behind the sign keeps a job's text from mentioning everyone.
            text = summary(event, data).replace("@", "@\u200b")
            return _encode({"content": text[:_SUMMARY_CHARS_MAX]})
        case WebhookFormat.TEAMS:
            return _encode(_teams_message(summary(event, data)))
        case _:
            assert_never(chosen)


def summary(event: WebhookEvent, data: str) -> str:
    """Return one line that tells people what happened."""
    facts = cast("dict[str, object]", msgspec.json.decode(data))
    parts = [EVENT_NAMES[event]]
    for key, words in (
        ("job_id", "job {}"),
        ("workflow_id", "workflow {}"),
        ("worker_id", "worker {}"),
        ("schedule_id", "schedule {}"),
        ("queue_name", "in queue {}"),
        ("reason", "because {}"),
        ("error", "– {}"),
        ("message", "– {}"),
    ):
        if isinstance(found := facts.get(key), str) and found:
            parts.append(words.format(found))
    return " ".join(" ".join(parts).split())[:_SUMMARY_CHARS_MAX]


def _teams_message(text: str) -> dict[str, object]:
    card: dict[str, object] = {
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "TextBlock", "text": text, "wrap": True}],
    }
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}
