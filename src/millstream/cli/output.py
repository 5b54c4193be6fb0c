"""What commands print: for people on a terminal, or one JSON value for programs."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print one JSON value instead of text for people.")
]

# A pipe has no width: what goes into one must not be cut to that of an imagined terminal.
_PIPE_COLUMNS = 1_000

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
error_console = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print `value` (structs included) as one line of JSON."""
    print(msgspec.json.encode(value, enc_hook=str).decode(), flush=True)


def print_error(message: str, remedy: str | None, *, as_json: bool = False) -> None:
    """Say on standard error why the command failed, and what to do next."""
    if as_json:
        print_json({"error": message, "remedy": remedy})
        return
    error_console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if remedy:
        error_console.print(Text(f"  {remedy}"), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print `rows` under `columns`; `empty` says that there are none."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        # The first one identifies the row: it is copied into the next command.
        table.add_column(name, no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    if table.row_count:
        console.print(table)
    else:
        console.print(Text(empty))


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print name and value of one thing, a line each."""
    table = Table.grid(padding=(0, 2))
    for name, value in fields:
        table.add_row(Text(name, style="bold"), Text(shown(value)))
    console.print(table)


def shown(value: object) -> str:
    """Write a value for people."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case float():
            return f"{value:g}"
        case str() | int():
            return str(value)
        case _:
            return msgspec.json.encode(value, enc_hook=str).decode()
