"""Loads the statements of `sql/queries/*.sql` as typed constants.

A file holds statements, each under a header `-- name: NAME :one|:many|:exec` and one sentence of purpose.
Parameters are written `:name` and usually cast (`:name::uuid[]`); they become `$1`, `$2` … in the order of
their first appearance.
"""

import re
from importlib import resources
from typing import Literal, cast

from msgspec import Struct

Shape = Literal["one", "many", "exec"]

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*) :(?P<shape>one|many|exec)$")
# A parameter, but not the second colon of a cast nor anything within quotes or comments.
_TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|::|:(?P<parameter>[a-z][a-z0-9_]*)")

_PLACEHOLDER = re.compile(r"\$(\d+)")

# The names of the statements in use, by their texts.
_NAMES: dict[str, str] = {}


class StatementError(Exception):
    """A statement file is not written as it must be"""


class Statement(Struct, frozen=True):
    """One named statement: its text with numbered placeholders and the names behind the numbers."""

    name: str
    shape: Shape
    purpose: str
    sql: str
    parameters: tuple[str, ...]

    def taking(self, *parameters: str) -> str:
        """Return the text with its placeholders numbered in the order of `parameters`.

        Raises StatementError unless these are exactly the parameters of the statement: a caller that
        is written against another version of it fails when it is imported.
        """
        if len(parameters) != len(set(parameters)) or set(parameters) != set(self.parameters):
            missing = sorted(set(self.parameters) - set(parameters))
            unknown = sorted(set(parameters) - set(self.parameters))
            raise StatementError(f"{self.name}: missing {missing}, unknown {unknown}")
        numbers = {self.parameters.index(name) + 1: place for place, name in enumerate(parameters, start=1)}
        text = _PLACEHOLDER.sub(lambda match: f"${numbers[int(match[1])]}", self.sql)
        _NAMES[text] = self.name
        return text


def name_of(sql: str) -> str:
    """Return the name of a statement, or the first word of one without."""
    return _NAMES.get(sql) or sql.split(maxsplit=1)[0]


def parse(text: str, *, source: str) -> dict[str, Statement]:
    """Return the statements of one file by name; raises StatementError where the form is broken."""
    statements: dict[str, Statement] = {}
    blocks = re.split(r"(?m)^(?=-- name: )", text)
    if re.sub(r"(?m)^--.*$", "", blocks[0]).strip():
        raise StatementError(f"{source}: SQL before the first header")
    for block in blocks[1:]:
        statement = _parse_block(block, source)
        if statement.name in statements:
            raise StatementError(f"{source}: {statement.name} is defined twice")
        statements[statement.name] = statement
    return statements


def _parse_block(block: str, source: str) -> Statement:
    header, *lines = block.splitlines()
    match = _HEADER.match(header)
    if match is None:
        raise StatementError(f"{source}: bad header {header!r}")
    purpose: list[str] = []
    while lines and lines[0].startswith("--"):
        purpose.append(lines.pop(0).removeprefix("--").strip())
    if not purpose:
        raise StatementError(f"{source}: {match['name']} does not say what it is for")
    sql, parameters = _number_parameters("\n".join(lines).strip().removesuffix(";"))
    if not sql:
        raise StatementError(f"{source}: {match['name']} is empty")
    return Statement(match["name"], cast(Shape, match["shape"]), " ".join(purpose), sql, parameters)


def _number_parameters(sql: str) -> tuple[str, tuple[str, ...]]:
    numbers: dict[str, int] = {}

    def replace(match: re.Match[str]) -> str:
        name = match["parameter"]
        if name is None:
            return "" if match[0].startswith("--") else match[0]
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    return _TOKEN.sub(replace, sql), tuple(numbers)


def load(noun: str) -> dict[str, Statement]:
    """Return the statements of `sql/queries/<noun>.sql` by name."""
    path = resources.files("millstream.store") / "sql" / "queries" / f"{noun}.sql"
    return parse(path.read_text(encoding="utf-8"), source=f"{noun}.sql")


def load_all() -> dict[str, Statement]:
    """Return every statement of the server, by name; names are unique over all files."""
    statements: dict[str, Statement] = {}
    for path in sorted(
        (resources.files("millstream.store") / "sql" / "queries").iterdir(), key=lambda item: item.name
    ):
        for name, statement in load(path.name.removesuffix(".sql")).items():
            if name in statements:
                raise StatementError(f"{path.name}: {name} is defined in another file too")
            statements[name] = statement
    return statements
