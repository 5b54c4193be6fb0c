"""Settings: frozen data, read once at start-up from flags, environment and file."""

from millstream.config.load import ConfigError, load
from millstream.config.schema import Config, Environment, RegistrationMode
from millstream.config.secret import Secret
from millstream.config.settings_table import settings_markdown, settings_table

__all__ = [
    "Config",
    "ConfigError",
    "Environment",
    "RegistrationMode",
    "Secret",
    "load",
    "settings_markdown",
    "settings_table",
]
