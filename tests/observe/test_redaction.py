"""No log line shows a secret, whatever field or text it hides in (spooled-tenancy 13.5, 19.9 I8)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.config import Secret
from millstream.observe.redaction import REDACTED, redact_fields, redact_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJvcmdfaWQiOiJhIn0.c2lnbmF0dXJlLWh1bnRlcjI"
KEY = "sk_live_hunter2hunter2hunter2"
BCRYPT = "$2b$12$abcdefghijklmnopqrstuuhunter2hunter2hunter2hunter2huXX"
DIGEST = "0123456789abcdef" * 4

TEXTS: list[tuple[str, str]] = [
    (f"refused {KEY}", "refused sk_live_[redacted]"),
    ("key sp_test_hunter2-x.", "key sp_test_[redacted]."),
    ("key gq_hunter2hunter2", "key gq_[redacted]"),
    ("secret whsec_hunter2hunter2", "secret whsec_[redacted]"),
    (f"token {JWT} refused", "token [redacted] refused"),
    ("Authorization: Bearer hunter2", "Authorization: [redacted]"),
    ("authorization=Basic aHVudGVyMg==", "authorization=[redacted]"),
    ("sent bearer hunter2!", "sent bearer [redacted]"),
    (f"GET /api/v1/events?token={JWT}&a=1 HTTP/1.1", "GET /api/v1/events?token=[redacted]&a=1 HTTP/1.1"),
    ("/ws?a=1&token=hunter2", "/ws?a=1&token=[redacted]"),
    ("/ws?ACCESS_TOKEN=hunter2", "/ws?ACCESS_TOKEN=[redacted]"),
    ("postgresql://u:hunter2@h:5432/d?x=y is down", "postgresql://[redacted] is down"),
    ("postgres+asyncpg://u:hunter2@h/d", "postgres://[redacted]"),
    ("rediss://:hunter2@h:6379", "rediss://[redacted]"),
    ("POST https://u:hunter2@h/path", "POST https://[redacted]@h/path"),
    ("host=h password=hunter2 user=u", "host=h password=[redacted] user=u"),
    ('{"api_key": "hunter2", "a": 1}', '{"api_key": "[redacted]", "a": 1}'),
    ("{'X-Admin-Key': 'hunter2'}", "{'X-Admin-Key': '[redacted]'}"),
    ('{\\"password\\":\\"hunter2\\"}', '{\\"password\\":\\"[redacted]\\"}'),
    (f"hash {BCRYPT}", "hash [redacted]"),
    (f"digest {DIGEST}", "digest [redacted]"),
    (f"DIGEST {DIGEST.upper()}", "DIGEST [redacted]"),
]

HARMLESS = [
    "",
    "job 0192f3a1-7c1e-7b3a-9f00-6d1a2b3c4d5e claimed by worker-1 in queue emails",
    "trace 0123456789abcdef0123456789abcdef",
    "GET /api/v1/jobs?limit=10&status=pending 200",
    "https://example.com/a@b?c=d",
    "tokens were refreshed; no password is needed",
    "monkey=banana",
    "ein Schlüssel",
]

FIELDS: list[tuple[str, object]] = [
    ("authorization", "hunter2"),
    ("Authorization", "hunter2"),
    ("x-api-key", "hunter2"),
    ("X-Admin-Key", "hunter2"),
    ("api_key", "hunter2"),
    ("apikey", b"hunter2"),
    ("admin_api_key", "hunter2"),
    ("cookie", "session=hunter2"),
    ("set-cookie", "session=hunter2"),
    ("token", "hunter2"),
    ("tokens", ["hunter2"]),
    ("refresh_token", "hunter2"),
    ("jwt_secret", "hunter2"),
    ("password", "hunter2"),
    ("key_hash", "hunter2"),
    ("dsn", "hunter2"),
    ("database_url", "hunter2"),
    ("database-direct-url", "hunter2"),
    ("redis_url", "hunter2"),
    ("credentials", {"a": "hunter2"}),
    ("webhook_url", "https://hooks.example/services/hunter2"),
    ("target_url", "hunter2"),
    ("url", "https://u:hunter2@h/"),
    ("body", {"inner": [{"password": "hunter2"}]}),
    ("body", {"inner": ("?token=hunter2",)}),
    ("body", b'{"password":"hunter2"}'),
    ("setting", Secret("hunter2")),
    ("error", ValueError("password=hunter2")),
    ("postgres://hunter2@h/d", 1),
    ("body", {"token=hunter2": 1}),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_a_secret_in_a_text_is_replaced_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@pytest.mark.parametrize(("text", "_expected"), TEXTS)
def test_redacting_twice_changes_nothing_more(text: str, _expected: str) -> None:
    assert redact_text(redact_text(text)) == redact_text(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(("name", "value"), FIELDS)
def test_no_field_shows_a_secret(name: str, value: object) -> None:
    assert "hunter2" not in repr(redact_fields({"event": "request", name: value}))


def test_fields_without_secrets_keep_their_values() -> None:
    fields: dict[str, object] = {
        "event": "claimed",
        "jobs": 3,
        "ratio": 0.5,
        "idempotency_key": "order-1",
        "found": True,
        "worker": None,
        "queues": ["a", "b"],
        "webhook_url": "https://hooks.example:8443/x",
    }

    assert redact_fields(fields) == fields | {"webhook_url": f"https://hooks.example:8443/{REDACTED}"}


def test_a_long_text_is_cut_before_it_costs_time() -> None:
    text = redact_text("a" * 1_000_000)

    assert len(text) < 20_000
    assert text.endswith("… (1000000 characters)")


@pytest.mark.parametrize(
    "part",
    ["a-", "a.", "a_", "token", "token ", "bearer ", "eyJ", "a://", "@", "0", "=", "postgres://", "$2b$12$"],
)
def test_no_text_makes_the_search_slow(part: str) -> None:
    assert "hunter2" not in redact_text(f"token=hunter2 {part * 8_000}")


def test_what_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)

    assert "…" in repr(redact_fields({"loop": loop}))


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
            max_leaves=10,
        ),
    )
)
def test_every_line_can_be_written_as_standard_json(fields: dict[str, object]) -> None:
    line = json.dumps(redact_fields(fields), allow_nan=False)

    assert "\n" not in line
