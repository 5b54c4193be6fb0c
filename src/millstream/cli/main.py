"""The entry point `millstream`: runs one command and turns what went wrong into a line and an exit code."""

import sys
from collections.abc import Sequence

USAGE_EXIT_CODE = 2
FAILURE_EXIT_CODE = 1
INTERRUPTED_EXIT_CODE = 130

_INSTALL_LINE = "pip install 'millstream[server]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: those of the process).

    Returns the exit code: 0, 1 when the command failed, 2 when it was not understood, 130 on Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from millstream.cli.application import run
    except ImportError as error:
        return _explain_missing(error)
    try:
        return run(given)
    except ImportError as error:
        return _explain_missing(error)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone. Python would complain once more when it flushes at exit.
        sys.stdout = None
        return FAILURE_EXIT_CODE


def _explain_missing(error: ImportError) -> int:
    # A command that is imported on use fails with the reason as the cause.
    missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
    if not isinstance(missing, ModuleNotFoundError) or (missing.name or "millstream").startswith(
        "millstream"
    ):
        raise error
    print(
        f"error: this command needs the package {missing.name!r}, which is not installed.\n"
        f"  Install the server's packages: {_INSTALL_LINE}",
        file=sys.stderr,
    )
    return FAILURE_EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
