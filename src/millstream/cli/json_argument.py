"""JSON on the command line."""

import sys

import msgspec

from millstream.cli.failure import CommandFailed
from millstream.client.json_value import JsonValue


def json_argument(text: str) -> JsonValue:
    """Return the payload that `text` is, or that standard input holds if it is `-`. Raises CommandFailed."""
    source = sys.stdin.read() if text == "-" else text
    try:
        return msgspec.json.decode(source)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CommandFailed(
            f"the payload is not valid JSON: {error}", 'Quote it for the shell: \'{"to": "ada@example.org"}\''
        ) from error
