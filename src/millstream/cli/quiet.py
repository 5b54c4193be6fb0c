"""Logging of commands that are not a server."""

from millstream.config.schema import LogConfig, LogFilter, LogLevel
from millstream.observe.logging import configure_logging


def log_warnings_only() -> None:
    """Send warnings and worse to standard error; the rest is for servers, and standard output for results."""
    configure_logging(LogConfig(level=LogFilter(default=LogLevel.WARNING)))
