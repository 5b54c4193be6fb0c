"""Takes secrets out of log lines, wherever in the line they stand. Contract: spooled-tenancy 13.5."""

import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, cast
from urllib.parse import urlsplit

REDACTED: Final = "[redacted]"
DEPTH_MAX: Final = 6
# A log line is for reading; a payload that strays into one is cut before the patterns run over it.
TEXT_CHARS_MAX: Final = 16_384

_SECRET_NAMES: Final = (
    "authorization|proxy[-_]authorization|cookie|set[-_]cookie"
    # Bounded, as every repetition here, so that no text makes the search slow.
    "|(?:[a-z0-9]{1,40}[-_]){0,8}(?:api[-_]?key|admin[-_]key|secret[-_]key|private[-_]key|token|jwt|secret"
    "|password|passwd|pwd|passphrase|pepper|hash|digest|signature|dsn|credentials?)"
    "|(?:database|redis|postgres|db)[-_](?:direct[-_])?url"
)
_SECRET_FIELD: Final = re.compile(rf"(?:{_SECRET_NAMES})s?", re.IGNORECASE)
_TARGET_FIELD: Final = re.compile(r"(?:webhook|target|callback)[-_]?ur[il]", re.IGNORECASE)

_REPLACEMENTS: Final = (
    # Connection URLs, whole: host and database are nobody's business either.
    (
        re.compile(r"\b(postgres(?:ql)?|rediss?|valkeys?)(?:\+\w+)?://[^\s\"'<>]*", re.IGNORECASE),
        rf"\1://{REDACTED}",
    ),
    # The credentials of any other URL.
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@\"'<>]+@", re.IGNORECASE), rf"\1{REDACTED}@"),
    # API keys, provider secrets and tokens by their form. The ends are generous: too much is better than too little.
    (re.compile(r"\b(sk|sp|gq|rk|pk)_(live|test)_[A-Za-z0-9_-]+"), rf"\1_\2_{REDACTED}"),
    (re.compile(r"\b(gq|whsec|whk)_[A-Za-z0-9_-]{8,}"), rf"\1_{REDACTED}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,4}"), REDACTED),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    # bcrypt hashes, SHA-256 and longer digests.
    (re.compile(r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{22,80}"), REDACTED),
    (re.compile(r"\b[0-9a-f]{64,128}\b", re.IGNORECASE), REDACTED),
    # name=value and "name": "value", as in query strings, headers and JSON.
    (
        re.compile(
            rf"(?<![A-Za-z0-9])({_SECRET_NAMES})(\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(?:bearer|basic)\s+)?[^\s\"'&,;}}\\]+",
            re.IGNORECASE,
        ),
        rf"\1\2{REDACTED}",
    ),
)


def redact_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a line without secrets, made of texts, numbers, lists and dictionaries only."""
    return {redact_text(name): _redact_field(name, value, 0) for name, value in fields.items()}


def redact_text(text: str) -> str:
    """Return the text with everything that looks like a secret replaced."""
    if len(text) > TEXT_CHARS_MAX:
        text = f"{text[:TEXT_CHARS_MAX]}… ({len(text)} characters)"
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text


def _redact_field(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_FIELD.fullmatch(name):
        return REDACTED
    if isinstance(value, str) and _TARGET_FIELD.fullmatch(name):
        return _origin(value)
    return _redact_value(value, depth)


def _redact_value(value: object, depth: int) -> object:
    match value:
        case None | bool():
            return value
        case str():
            return redact_text(value)
        case int():
            # Enums of numbers among them are written as numbers.
            return int(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case _ if depth >= DEPTH_MAX:
            return "…"
        case Mapping():
            pairs = cast("Mapping[object, object]", value).items()
            return {redact_text(str(key)): _redact_field(str(key), inner, depth + 1) for key, inner in pairs}
        case bytes() | bytearray():
            return redact_text(value.decode("utf-8", "backslashreplace"))
        case Sequence() | AbstractSet():
            return [_redact_value(inner, depth + 1) for inner in cast("Sequence[object]", value)]
        case _:
            # Whatever else there is would be written by its repr, after this was the last look at it.
            return redact_text(repr(value))


def _origin(url: str) -> str:
    """Keep scheme and host of a URL whose path may be the secret, as those of chat services are."""
    try:
        split = urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:
        return REDACTED
    if not split.scheme or not host:
        return REDACTED
    return f"{split.scheme}://{host}{f':{port}' if port else ''}/{REDACTED}"
