"""Where a server's data is when nobody says where."""

import os
from pathlib import Path

from millstream.cli.settings import load_settings


def resolve_data_dir(given: Path | None) -> Path:
    """Return the data directory: as given, else as configured, else the usual one. Raises CommandFailed."""
    if given is not None:
        return given.expanduser().resolve()
    return load_settings({}).database.data_dir or default_data_dir()


def default_data_dir() -> Path:
    """Return `millstream` in the user's directory for application data, by the XDG rules."""
    # A relative path is to be ignored; that includes the unexpanded name when the variable is not set.
    configured = Path(os.path.expandvars("$XDG_DATA_HOME"))
    if configured.is_absolute():
        return configured / "millstream"
    if os.geteuid() == 0:
        # PostgreSQL does not run as root, and no other account can enter root's home.
        return Path("/var/lib/millstream")
    return Path.home() / ".local" / "share" / "millstream"
