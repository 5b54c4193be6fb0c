"""Log lines for people or, one JSON object a line, for machines. Contract: spooled-tenancy 13.5.

Lines of libraries go the same way as ours: through the standard library's loggers into one handler, which adds the ids
bound by `log_ids`, takes secrets out and writes.
"""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from contextlib import AbstractContextManager
from typing import Final, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import Processor

from millstream.config.schema import LogConfig, LogFilter, LogLevel
from millstream.observe.redaction import redact_fields

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.CRITICAL: logging.CRITICAL,
    LogLevel.OFF: logging.CRITICAL + 10,
}

# These write a line per request or connection at info, which no busy server wants. A filter that names them wins.
_QUIET: Final = ("uvicorn.access", "httpx2", "httpcore2", "asyncio", "grpc")


def configure_logging(config: LogConfig, *, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream` (standard error when None), as `config` says.

    May be called again; the last call counts. uvicorn must run with `log_config=None` to keep to it.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Levels and form are the handler's and the loggers', so that cached loggers follow a later call too.
        cache_logger_on_first_use=True,
    )
    target = sys.stderr if stream is None else stream
    handler = _Handler(target, config.level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact,
                *(_json() if config.json else _console(colors=target.isatty())),
            ],
        )
    )
    _install(handler)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module, by `__name__`: `log.warning("lease lost", job_id=…)`."""
    return structlog.stdlib.get_logger(name)


def log_ids(**ids: object) -> AbstractContextManager[None]:
    """Add `request_id`, `tenant_id`, `job_id` and the like to every line of this task until the block ends.

    It costs a few microseconds: on hot paths pass ids to the rare line instead.
    """
    return bound_contextvars(**ids)


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler of ours, which knows the levels that came with it."""

    def __init__(self, stream: TextIO, levels: LogFilter) -> None:
        super().__init__(stream)
        quiet = dict.fromkeys(_QUIET, LogLevel.WARNING)
        self.root_level = _LEVELS[levels.default]
        self.logger_levels = {name: _LEVELS[level] for name, level in (quiet | dict(levels.targets)).items()}


def _install(handler: _Handler) -> None:
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(earlier)
        _set_levels(dict.fromkeys(earlier.logger_levels, logging.NOTSET).items())
    root.addHandler(handler)
    root.setLevel(handler.root_level)
    # A quiet logger must not become louder than everything else.
    _set_levels(
        (name, max(level, handler.root_level) if name in _QUIET and level == logging.WARNING else level)
        for name, level in handler.logger_levels.items()
    )


def _set_levels(levels: Iterable[tuple[str, int]]) -> None:
    for name, level in levels:
        logging.getLogger(name).setLevel(level)


def _redact(_logger: object, _method: str, event: MutableMapping[str, object]) -> dict[str, object]:
    return redact_fields(event)


def _escape_controls(_logger: object, _method: str, event: MutableMapping[str, object]) -> dict[str, object]:
    """Keep one event on one line of a terminal, whatever a client put into it. Tracebacks keep their lines."""
    return {_escaped(name): _escaped_field(name, value) for name, value in event.items()}


def _escaped_field(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    if name in {"exception", "stack"}:
        return "\n".join(_escaped(line) for line in value.split("\n"))
    return _escaped(value)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _json() -> tuple[Processor, ...]:
    # json's default escapes everything beyond ASCII, lone surrogates included, so that the line can always be written.
    return (structlog.processors.JSONRenderer(),)


def _console(*, colors: bool) -> tuple[Processor, ...]:
    return (
        _escape_controls,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    )


_SHARED: Final[tuple[Processor, ...]] = (
    merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
