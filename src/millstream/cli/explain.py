"""Turns what lower layers raise into what a command says."""

from collections.abc import Generator
from contextlib import contextmanager

from millstream.cli.failure import CommandFailed
from millstream.config import ConfigError
from millstream.domain.errors import MillstreamError
from millstream.embedded import EmbeddedError
from millstream.serving.sockets import CannotListen


@contextmanager
def explained() -> Generator[None]:
    """Raise CommandFailed for every error that has a reason and a remedy; others are defects and pass."""
    try:
        yield
    except CannotListen as error:
        raise CommandFailed(error.message, error.remedy) from error
    except (EmbeddedError, MillstreamError, ConfigError) as error:
        message, _, remedy = str(error).partition("\n")
        raise CommandFailed(
            message, remedy or "millstream doctor checks this machine and says what to do."
        ) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(
            str(error), "millstream doctor checks this machine and says what to do."
        ) from error
