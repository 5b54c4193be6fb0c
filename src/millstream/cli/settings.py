"""Settings for commands: what is wrong with them is said the way commands say things."""

import os
from collections.abc import Mapping
from pathlib import Path

from millstream.cli.failure import CommandFailed
from millstream.config import Config, ConfigError, load


def load_settings(flags: Mapping[str, object], file: Path | None = None, *, isolated: bool = False) -> Config:
    """Read the settings: `flags` (by setting path) above environment and file, or alone when `isolated`.

    Raises CommandFailed.
    """
    try:
        if isolated:
            # No directory, so neither a settings file nor a `.env` in it.
            return load(flags, environ={}, file=file, directory=Path(os.devnull))
        return load(flags, file=file)
    except ConfigError as error:
        first, *others = error.problems
        raise CommandFailed(
            first, "\n  ".join([*others, "Correct the flag, the variable or the line of the file it names."])
        ) from error
