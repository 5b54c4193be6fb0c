"""Reads the settings, once, at start-up. The only reader and writer of the process environment."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import UNSET, UnsetType, convert

from millstream.config.rules import notices, violations
from millstream.config.schema import Config, Environment
from millstream.config.setting import Setting
from millstream.config.settings import SETTINGS
from millstream.config.sources import Given, Layer, read_dotenv, read_environment, read_file, read_flags

FILE_NAME: Final = "millstream.toml"
DOTENV_NAME: Final = ".env"
_METRICS_DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


class ConfigError(Exception):
    """The settings cannot be used. `problems` has a sentence for each; none of them shows a value."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


def load(
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    directory: Path | None = None,
) -> Config:
    """Read the settings: `flags` (by setting path, None when not given), the environment, `.env`, the file.

    What comes first in that order wins. `environ` stands for the process environment; `file` for `millstream.toml`
    in `directory`, which stands for the working directory and is where `.env` is looked for. All problems are
    reported in one ConfigError. Contract: spooled-tenancy 14.
    """
    where = Path.cwd() if directory is None else directory
    layers = [
        read_flags(flags),
        read_environment(os.environ if environ is None else environ),
        read_dotenv(where / DOTENV_NAME),
        _file_layer(where, file),
    ]
    reading = _Reading(layers)
    config = reading.config()
    if reading.problems:
        raise ConfigError(reading.problems)
    return config


def share_metrics(directory: Path) -> None:
    """Let the processes started from now on count into files of `directory`, for one answer to all scrapes.

    For a server of several processes: call it in the parent, with a new and empty directory, before the first child
    is started. Children inherit it; this process takes part too.

    Raises RuntimeError when this process has already imported the metrics library, which decides at its import where
    it counts.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("metrics must be shared before millstream.observe.metrics is imported")
    os.environ[_METRICS_DIRECTORY_VARIABLE] = str(directory)


def shared_metrics_directory() -> Path | None:
    """Return the directory that `share_metrics` named, here or in a parent; None when metrics stay in the process."""
    directory = os.environ.get(_METRICS_DIRECTORY_VARIABLE)
    return Path(directory) if directory else None


class _Reading:
    """The settings on their way from texts to a Config, and what was wrong with them."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.problems = [problem for layer in layers for problem in layer.problems]
        self._notices = [notice for layer in layers for notice in layer.notices]
        self._names = {setting.path: setting.name for setting in SETTINGS}
        self._values: dict[str, object] = {}
        self._broken: set[str] = set()
        for setting in SETTINGS:
            # Reversed, so that the strongest layer's value is set last; the others are checked all the same.
            for layer in reversed(layers):
                self._take(setting.path, layer.given.get(setting.path, []))

    def config(self) -> Config:
        """Return the settings; broken ones have their default, so that the others are checked all the same."""
        config = self._build(())
        for violation in violations(config):
            if not self._broken.intersection(violation.paths):
                names = [self._names[path] for path in violation.paths]
                self.problems.append(f"{names[0]} {violation.text.format(*names)}")
        return self._build((*self._notices, *notices(config)))

    def _take(self, path: str, given: Sequence[Given]) -> None:
        values = [(spelling, self._value_of(path, spelling)) for spelling in given]
        readable = [(spelling, value) for spelling, value in values if value is not UNSET]
        if any(not spelling.fallback for spelling, _ in readable):
            readable = [(spelling, value) for spelling, value in readable if not spelling.fallback]
        if not readable:
            return
        first, value = readable[0]
        for other, other_value in readable[1:]:
            if other_value != value:
                self._broken.add(path)
                self.problems.append(f"{first.name} and {other.name} disagree; keep one of them")
        self._names[path] = first.name
        self._values[path] = value

    def _value_of(self, path: str, given: Given) -> object | UnsetType:
        if given.kind.empty_is_absent and not given.text.strip():
            return UNSET
        try:
            # What the operating system gave in another encoding arrives as lone surrogates.
            given.text.encode()
            return given.kind.read(given.text)
        except ValueError:
            self._broken.add(path)
            self.problems.append(f"{given.name} must be {given.kind.range}")
            return UNSET

    def _build(self, remarks: tuple[str, ...]) -> Config:
        strict = (
            self._values.get("server.environment", Environment.DEVELOPMENT) is not Environment.DEVELOPMENT
        )
        groups: dict[str, dict[str, object]] = {}
        for setting in SETTINGS:
            value = self._values.get(setting.path, _default(setting, strict=strict))
            if value is not UNSET:
                group, field = setting.path.split(".")
                groups.setdefault(group, {})[field] = value
        return convert({**groups, "notices": remarks}, Config)


def _default(setting: Setting, *, strict: bool) -> object | UnsetType:
    return setting.strict_default if strict else UNSET


def _file_layer(where: Path, file: Path | None) -> Layer:
    if file is not None:
        return read_file(file)
    return read_file(where / FILE_NAME) if (where / FILE_NAME).exists() else Layer({})
