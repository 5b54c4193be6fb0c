"""How the text of a setting becomes its value, and which values are allowed.

A reader raises ValueError for a text that it cannot take. What the operator then sees is the kind's `range`, never the
text, which may be a secret.
"""

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from millstream.config.schema import Environment, LogFilter, LogLevel
from millstream.config.secret import Secret

_N = TypeVar("_N", int, float)


class Kind(Struct, frozen=True, kw_only=True):
    """One form of value: `range` completes the sentence "NAME must be …".

    With `empty_is_absent` an empty text counts as not given, as compose files write optional variables.
    """

    read: Callable[[str], object]
    range: str
    empty_is_absent: bool = False


def whole_number(minimum: int, maximum: int) -> Kind:
    """Whole numbers from `minimum` to `maximum`, both included."""

    def read(text: str) -> int:
        return _within(int(_matched(r"[0-9]{1,15}", text)), minimum, maximum)

    return Kind(read=read, range=f"a whole number from {minimum} to {maximum}")


def number(minimum: float, maximum: float, *, what: str = "a number") -> Kind:
    """Numbers from `minimum` to `maximum`, both included, fractions allowed."""

    def read(text: str) -> float:
        return _within(float(_matched(r"[0-9]{1,9}(\.[0-9]{1,9})?", text)), minimum, maximum)

    return Kind(read=read, range=f"{what} from {minimum:g} to {maximum:g}")


def seconds(minimum: float, maximum: float) -> Kind:
    """Durations in seconds, fractions allowed."""
    return number(minimum, maximum, what="a number of seconds")


def choice(options: type[StrEnum]) -> Kind:
    """One of the values of an enum, in any case."""

    def read(text: str) -> StrEnum:
        return options(text.strip().lower())

    names = [option.value for option in options]
    return Kind(read=read, range=f"{', '.join(names[:-1])} or {names[-1]}")


def url(*schemes: str) -> Kind:
    """A URL of one of the schemes with a host, without query and fragment; a closing slash is dropped."""

    def read(text: str) -> str:
        split = _split_url(text, schemes)
        if split.query or split.fragment:
            raise ValueError
        return text.strip().rstrip("/")

    return Kind(read=read, range=f"a URL that begins with {_or(schemes)}", empty_is_absent=True)


def secret_url(*schemes: str, empty_is_absent: bool) -> Kind:
    """A URL of one of the schemes that may hold a password."""

    def read(text: str) -> Secret:
        _split_url(text, schemes)
        return Secret(text.strip())

    return Kind(read=read, range=f"a URL that begins with {_or(schemes)}", empty_is_absent=empty_is_absent)


def _read_switch(text: str) -> bool:
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
        case _:
            raise ValueError


def _read_reference_environment(text: str) -> Environment:
    try:
        return Environment(text.strip().lower())
    except ValueError:
        return Environment.DEVELOPMENT


def _read_host(text: str) -> str:
    host = text.strip()
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return _matched(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", host)


def _read_text(text: str) -> str:
    return _matched(r"[^\x00-\x1f\x7f]{1,1024}", text)


def _read_email(text: str) -> str:
    return _matched(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}", text)


def _read_secret(text: str) -> Secret:
    """Spaces at the ends belong to a secret; control characters (a file's closing newline) no client can send."""
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,4096}", text):
        raise ValueError
    return Secret(text)


def _read_secret_or_empty(text: str) -> Secret:
    return _read_secret(text) if text.strip() else Secret("")


def _read_path(text: str) -> Path:
    path = Path(_matched(r"[^\x00]{1,4096}", text))
    try:
        return path.expanduser()
    except RuntimeError as unknown_home:
        raise ValueError from unknown_home


def _read_origins(text: str) -> tuple[str, ...]:
    return tuple(_read_origin(part) for part in text.split(",") if part.strip())


def _read_origin(text: str) -> str:
    origin = text.strip().rstrip("/").lower()
    if origin == "*":
        return origin
    split = _split_url(origin, ("http", "https"))
    if split.path or split.query or split.fragment or split.username is not None:
        raise ValueError
    return origin


def _read_networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part.strip())) for part in text.split(",") if part.strip())


def _read_attributes(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(separator and key.strip() for key, separator, _ in pairs):
        raise ValueError
    return tuple((unquote(key.strip()), unquote(value.strip())) for key, _, value in pairs)


_LEVELS = {level.value: level for level in LogLevel} | {"trace": LogLevel.DEBUG, "warn": LogLevel.WARNING}
# Filters written for the server that this one replaces name its crate; they mean the whole server.
_REFERENCE_TARGETS = frozenset({"spooled", "spooled_backend", "spooled-backend"})


def _read_log_filter(text: str) -> LogFilter:
    return _log_filter(text, bare_targets=False)


def _read_reference_log_filter(text: str) -> LogFilter:
    return _log_filter(text, bare_targets=True)


def _log_filter(text: str, *, bare_targets: bool) -> LogFilter:
    default = LogLevel.INFO
    targets: dict[str, LogLevel] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, level = part.partition("=")
        if separator:
            targets[_log_target(name)] = _log_level(level)
        elif name.lower() in _LEVELS:
            default = _log_level(name)
        elif bare_targets:
            targets[_log_target(name)] = LogLevel.DEBUG
        else:
            raise ValueError
    return LogFilter(default=default, targets=tuple(targets.items()))


def _log_target(name: str) -> str:
    head, *rest = (
        _matched(r"[A-Za-z0-9_-]+(::[A-Za-z0-9_-]+|\.[A-Za-z0-9_-]+)*", name).replace("::", ".").split(".")
    )
    return ".".join(["millstream" if head in _REFERENCE_TARGETS else head, *rest])


def _log_level(name: str) -> LogLevel:
    level = _LEVELS.get(name.strip().lower())
    if level is None:
        raise ValueError
    return level


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    split = urlsplit(_matched(r"[^\s\x00-\x1f\x7f]{1,4096}", text))
    if split.scheme not in schemes:
        raise ValueError
    # PostgreSQL's may name no host (a local socket) or several, each with its port: the driver's business.
    if not split.scheme.startswith("postgres") and split.scheme != "unix":
        # Reading the port is what checks it.
        _ = split.port
        if not split.hostname:
            raise ValueError
    return split


def _matched(pattern: str, text: str) -> str:
    stripped = text.strip()
    if not re.fullmatch(pattern, stripped):
        raise ValueError
    return stripped


def _within(number: _N, minimum: float, maximum: float) -> _N:
    if not minimum <= number <= maximum:
        raise ValueError
    return number


def _or(schemes: tuple[str, ...]) -> str:
    return " or ".join(f"{scheme}://" for scheme in schemes)


SWITCH = Kind(read=_read_switch, range="true or false (1, 0, yes, no, on and off too)", empty_is_absent=True)
TEXT = Kind(read=_read_text, range="1 to 1024 characters without control characters", empty_is_absent=True)
NAME_PART = Kind(
    read=lambda text: _matched(r"[A-Za-z0-9._-]{1,64}", text),
    range="1 to 64 letters, digits, dots, underscores, hyphens",
)
EMAIL = Kind(read=_read_email, range="an e-mail address", empty_is_absent=True)
SECRET = Kind(read=_read_secret, range="text without control characters", empty_is_absent=True)
SECRET_OR_EMPTY = Kind(read=_read_secret_or_empty, range="text without control characters; empty for none")
PATH = Kind(read=_read_path, range="a path", empty_is_absent=True)
HOST = Kind(read=_read_host, range="an IP address or a host name", empty_is_absent=True)
ORIGINS = Kind(
    read=_read_origins,
    range="origins such as https://app.example.com, separated by commas",
    empty_is_absent=True,
)
NETWORKS = Kind(
    read=_read_networks,
    range="addresses or networks such as 10.0.0.0/8, separated by commas",
    empty_is_absent=True,
)
ATTRIBUTES = Kind(read=_read_attributes, range="key=value pairs separated by commas", empty_is_absent=True)
ENVIRONMENT = choice(Environment)
REFERENCE_ENVIRONMENT = Kind(
    read=_read_reference_environment, range="production or staging; anything else is development"
)
LOG_FILTER = Kind(
    read=_read_log_filter,
    range="a level (debug, info, warning, error, critical, off) and target=level pairs, separated by commas",
    empty_is_absent=True,
)
REFERENCE_LOG_FILTER = Kind(
    read=_read_reference_log_filter,
    range="levels, targets and target=level pairs separated by commas (span filters are not supported)",
    empty_is_absent=True,
)
PORT = whole_number(1, 65_535)
PORT_OR_FREE = whole_number(0, 65_535)
