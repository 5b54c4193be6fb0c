"""`python -m millstream.pgwf [SCHEMA]`: print the script that installs the schema, for psql or a DBA."""

import sys
from argparse import ArgumentParser

from millstream.pgwf.errors import InvalidArgument
from millstream.pgwf.script import DEFAULT_SCHEMA, render


def main() -> None:
    """Print the script."""
    parser = ArgumentParser(
        prog="python -m millstream.pgwf", description="Print the script that installs the schema."
    )
    parser.add_argument("schema", nargs="?", default=DEFAULT_SCHEMA, help="the name of the schema")
    try:
        sys.stdout.write(render(parser.parse_args().schema))
    except InvalidArgument as error:
        parser.error(error.message)


if __name__ == "__main__":
    main()
