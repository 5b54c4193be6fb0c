"""The places that settings come from, each read into the same form: path of the setting → what was given for it."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote

from dotenv.parser import parse_stream
from msgspec import Struct

from millstream.config.kinds import Kind
from millstream.config.settings import READ_ELSEWHERE, SETTINGS, UNREAD


class Given(Struct, frozen=True):
    """A text given for a setting under `name`, as the operator knows it. A fallback yields to other spellings."""

    name: str
    text: str
    kind: Kind
    fallback: bool = False


class Layer(Struct, frozen=True):
    """All that one source gives; `problems` are what it gives to no setting, `notices` what it gives in vain."""

    given: dict[str, list[Given]]
    problems: list[str] = []
    notices: list[str] = []


_BY_PATH: Final = {setting.path: setting for setting in SETTINGS}
_NAMES: Final = {setting.name for setting in SETTINGS} | READ_ELSEWHERE
_PREFIX: Final = "MILLSTREAM_"
# A Kubernetes service (or linked container) called millstream, or millstream-something, puts these into every pod
# beside it. They are nobody's settings.
_LINK_NAME: Final = re.compile(
    r"MILLSTREAM_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)"
)
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://[^\s]*")


def read_flags(flags: Mapping[str, object]) -> Layer:
    """Read command-line values by setting path; None is a flag that was not given.

    Raises KeyError for a path that is no setting: the caller's mistake, not the operator's.
    """
    given: dict[str, list[Given]] = {}
    problems: list[str] = []
    for path, value in flags.items():
        setting = _BY_PATH[path]
        if value is None:
            continue
        text = _text_of(value)
        if text is None:
            problems.append(f"{setting.flag} must be {setting.kind.range}")
        else:
            given[path] = [Given(setting.flag, text, setting.flag_kind or setting.kind)]
    return Layer(given, problems)


def read_environment(environ: Mapping[str, str], *, origin: str = "") -> Layer:
    """Read variables; `origin` (such as " in .env") follows their names in messages."""
    given: dict[str, list[Given]] = {}
    for setting in SETTINGS:
        spellings = [(setting.name, setting.kind, False)]
        spellings += [(alias.name, alias.kind or setting.kind, alias.fallback) for alias in setting.aliases]
        found = [
            Given(name + origin, environ[name], kind, fallback)
            for name, kind, fallback in spellings
            if name in environ and not _is_link(name, environ[name])
        ]
        if found:
            given[setting.path] = found
    notices = [
        f"{name}{origin} is set but not read: {advice}" for name, advice in UNREAD.items() if name in environ
    ]
    return Layer(given, list(_unknown_variables(environ, origin)), notices)


def read_dotenv(path: Path) -> Layer:
    """Read a `.env` file, if there is one."""
    if not path.is_file():
        return Layer({})
    variables: dict[str, str] = {}
    problems: list[str] = []
    try:
        with path.open(encoding="utf-8") as stream:
            for binding in parse_stream(stream):
                if binding.error:
                    problems.append(f"{path.name} cannot be read at line {binding.original.line}")
                elif binding.key is not None and binding.value is not None:
                    variables[binding.key] = binding.value
    except (OSError, UnicodeDecodeError) as error:
        return Layer({}, [_unreadable(path, error)])
    layer = read_environment(variables, origin=f" in {path.name}")
    return Layer(layer.given, problems + layer.problems, layer.notices)


def read_file(path: Path) -> Layer:
    """Read a TOML file with a table for each group of settings."""
    try:
        document: dict[str, object] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return Layer({}, [_unreadable(path, error)])
    except tomllib.TOMLDecodeError as error:
        # The parser's own text may quote the file, and with it a secret: only the place is kept.
        place = re.search(r"\((at [^()]*)\)$", str(error))
        return Layer({}, [f"{path.name} is not valid TOML{f' ({place[1]})' if place else ''}"])
    given: dict[str, list[Given]] = {}
    problems: list[str] = []
    for setting_path, value in _flattened(document):
        setting = _BY_PATH.get(setting_path)
        name = f"{setting_path} in {path.name}"
        if setting is None:
            problems.append(f"{name} is no setting{_suggestion(setting_path, list(_BY_PATH))}")
            continue
        text = _text_of(value)
        if text is None:
            problems.append(f"{name} must be {setting.kind.range}")
        else:
            given[setting_path] = [Given(name, text, setting.kind)]
    return Layer(given, problems)


def _flattened(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for group, value in document.items():
        if isinstance(value, dict):
            for field, inner in cast("dict[str, object]", value).items():
                yield f"{group}.{field}", inner
        else:
            yield group, value


def _text_of(value: object) -> str | None:
    """Return the text by which the environment would give this value, or None when it has no such form."""
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case str() | int() | float() | Path():
            return str(value)
        case list() | tuple():
            items = [_text_of(item) for item in cast("Sequence[object]", value)]
            return (
                None if any(item is None or "," in item for item in items) else ",".join(filter(None, items))
            )
        case dict():
            pairs = {
                quote(str(key)): _text_of(inner) for key, inner in cast("dict[object, object]", value).items()
            }
            if any(inner is None for inner in pairs.values()):
                return None
            return ",".join(f"{key}={quote(inner or '')}" for key, inner in pairs.items())
        case _:
            return None


def _unknown_variables(environ: Mapping[str, str], origin: str) -> Iterator[str]:
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in _NAMES and not _LINK_NAME.fullmatch(name):
            yield f"{name}{origin} is no setting{_suggestion(name, list(_NAMES))}"


def _suggestion(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def _is_link(name: str, value: str) -> bool:
    return name.endswith("PORT") and _LINK_VALUE.fullmatch(value) is not None


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> str:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return f"{path.name} cannot be read: {reason}"
