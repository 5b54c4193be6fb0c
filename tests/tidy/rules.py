"""The rules of the source tree that no linter knows.

Each is a function from a file's text to its complaints, so that a sample can prove that it is able to fail.
"""

import ast
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LINES_MAX = 500
SPEAKERS_OF_SQL = (
    "src/millstream/store",
    "src/millstream/pgwf",
    "src/millstream/inline",
    # Measures the database itself, from outside of the server.
    "src/millstream/cli/bench",
)

# Joined here, because this file must keep its own rule.
REGISTRY_HOSTS = tuple(
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("repo1", "maven", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
    )
)
VAGUE_NAMES = frozenset(
    {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
)
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
LOCAL_PATH = re.compile(r"(?<![\w.$}])/(?:root|work|home/\w+|Users/\w+)/")
SKIPS = re.compile(r"\bpytest\s*\.\s*(?:skip|xfail|importorskip|mark\s*\.\s*(?:skip|skipif|xfail))\b")
STATEMENT = re.compile(
    r"""\s*(?:
        select\s+(?:.+\sfrom\s|[\w.]+\s*\(|\d+\s*;?\s*$)
      | insert\s+into\s
      | update\s+\S+\s+set\s
      | delete\s+from\s
      | (?:create|alter|drop)\s+(?:unique\s+)?
        (?:table|index|role|user|database|schema|function|policy|extension|publication|type|view)\s
      | with\s+(?:recursive\s+)?\w+\s+as\s+(?:not\s+)?(?:materialized\s+)?\(
      | (?:vacuum|analyze|truncate|listen|notify)\s+[a-z_.]+\s*;?\s*$
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
NAMED_STATEMENT = re.compile(r"^-- name: (?P<name>.*)$", re.MULTILINE)
STATEMENT_HEADER = re.compile(r"-- name: [a-z][a-z0-9_]* :[a-z]+$")
PURPOSE = re.compile(r"-- \S.*")


@dataclass(frozen=True)
class Rule:
    """One rule: where it holds, what it finds, and a file that breaks it."""

    holds_for: Callable[[PurePosixPath], bool]
    complaints: Callable[[PurePosixPath, str], Iterator[str]]
    bad_path: str
    bad_text: str


def names_a_registry(path: PurePosixPath, text: str) -> Iterator[str]:
    """A lock or a script that names a package registry works on one network only."""
    for number, line in enumerate(text.splitlines(), start=1):
        for host in REGISTRY_HOSTS:
            if host in line:
                yield f"{path}:{number}: names the package registry {host}"


def names_a_local_path(path: PurePosixPath, text: str) -> Iterator[str]:
    """A path of somebody's machine means nothing on another one."""
    for number, line in enumerate(text.splitlines(), start=1):
        if LOCAL_PATH.search(line):
            yield f"{path}:{number}: names a path of one machine"


def is_unfinished(path: PurePosixPath, text: str) -> Iterator[str]:
    """What is to be done belongs to an issue, where somebody looks for it."""
    for number, line in enumerate(text.splitlines(), start=1):
        if UNFINISHED.search(line):
            yield f"{path}:{number}: leaves something undone"


def has_a_vague_name(path: PurePosixPath, text: str) -> Iterator[str]:
    """A module without a noun collects what nobody wants to name."""
    for part in (*path.parent.parts, path.stem):
        if part in VAGUE_NAMES:
            yield f"{path}: {part} says nothing about what is in it"


def is_too_long(path: PurePosixPath, text: str) -> Iterator[str]:
    """A file of this length is more than one noun."""
    count = text.count("\n")
    if count > LINES_MAX:
        yield f"{path}: {count} lines, {LINES_MAX} at most"


def reads_the_environment(path: PurePosixPath, text: str) -> Iterator[str]:
    """Settings enter in one place, where they are checked, aliased and documented."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(
                value=ast.Name(id="os"),
                attr="environ" | "environb" | "getenv" | "getenvb" | "putenv" | "unsetenv",
            ):
                yield f"{path}:{node.lineno}: reads os.{node.attr}"
            case ast.ImportFrom(module="os", names=names) if {name.name for name in names} & {
                "environ",
                "environb",
                "getenv",
                "getenvb",
            }:
                yield f"{path}:{node.lineno}: imports the environment"
            case _:
                pass


def speaks_sql(path: PurePosixPath, text: str) -> Iterator[str]:
    """A statement outside the store escapes the loader, the PREPARE test and the plan test."""
    tree = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and STATEMENT.match(node.value)
        ):
            yield f"{path}:{node.lineno}: {' '.join(node.value.split())[:60]!r} belongs into a .sql file of the store"


def lacks_a_purpose(path: PurePosixPath, text: str) -> Iterator[str]:
    """Every named statement says in a sentence what it is for."""
    lines = text.splitlines()
    headers = [number for number, line in enumerate(lines) if NAMED_STATEMENT.match(line)]
    if not headers:
        yield f"{path}: holds no named statement"
    for number in headers:
        if not STATEMENT_HEADER.match(lines[number]):
            yield f"{path}:{number + 1}: a header reads `-- name: claim_jobs :many`"
        if number + 1 >= len(lines) or not PURPOSE.match(lines[number + 1]):
            yield f"{path}:{number + 1}: the line below the header must say what the statement is for"


def begins_without_a_reason(path: PurePosixPath, text: str) -> Iterator[str]:
    """A migration or function file opens with what it does and why."""
    if not PURPOSE.match(text):
        yield f"{path}:1: begins with a comment that says what it changes and why"


def skips(path: PurePosixPath, text: str) -> Iterator[str]:
    """A test that does not run proves nothing; one that cannot run everywhere is marked slow and runs in CI."""
    for number, line in enumerate(text.splitlines(), start=1):
        if SKIPS.search(line):
            yield f"{path}:{number}: skips a test"


def _anywhere(path: PurePosixPath) -> bool:
    return True


def _our_python(path: PurePosixPath) -> bool:
    return path.suffix == ".py" and path.parts[0] in {"src", "scripts"} and "pb" not in path.parts


def _environment_is_foreign(path: PurePosixPath) -> bool:
    return _our_python(path) and path.parts[0] == "src" and path.parts[2:] != ("config", "load.py")


def _sql_is_foreign(path: PurePosixPath) -> bool:
    return (
        _our_python(path)
        and path.parts[0] == "src"
        and not any(path.is_relative_to(place) for place in SPEAKERS_OF_SQL)
    )


def _queries(path: PurePosixPath) -> bool:
    return path.suffix == ".sql" and path.parts[:5] == ("src", "millstream", "store", "sql", "queries")


def _schema(path: PurePosixPath) -> bool:
    return (
        path.suffix == ".sql"
        and not _queries(path)
        and path.parts[:4] == ("src", "millstream", "store", "sql")
    )


def _tests(path: PurePosixPath) -> bool:
    return path.suffix == ".py" and path.parts[0] == "tests"


def _sized(path: PurePosixPath) -> bool:
    return _our_python(path) or _tests(path)


RULES = {
    "no file names a package registry": Rule(
        _anywhere, names_a_registry, "package-lock.json", f"https://{REGISTRY_HOSTS[0]}/simple\n"
    ),
    "no file names a path of one machine": Rule(
        _anywhere, names_a_local_path, "docs/a.md", "Look into /ro" + "ot/notes.txt\n"
    ),
    "nothing is left undone in a comment": Rule(
        _anywhere, is_unfinished, "src/millstream/store/sql/queries/a.sql", "-- TO" + "DO: index\n"
    ),
    "modules are named for what they hold": Rule(
        _our_python, has_a_vague_name, "src/millstream/engine/utils.py", ""
    ),
    "files stay readable in one sitting": Rule(
        _sized, is_too_long, "src/millstream/engine/jobs.py", "x = 1\n" * (LINES_MAX + 1)
    ),
    "only config/load.py reads the environment": Rule(
        _environment_is_foreign,
        reads_the_environment,
        "src/millstream/engine/jobs.py",
        "import os\nHOME = os.environ['HOME']\n",
    ),
    "SQL lives in the store": Rule(
        _sql_is_foreign,
        speaks_sql,
        "src/millstream/engine/jobs.py",
        "QUERY = f'select id from {table}'\n",
    ),
    "every statement says what it is for": Rule(
        _queries,
        lacks_a_purpose,
        "src/millstream/store/sql/queries/jobs.sql",
        "-- name: claim_jobs :many\nselect 1;\n",
    ),
    "every change of the schema says what it is for": Rule(
        _schema,
        begins_without_a_reason,
        "src/millstream/store/sql/migrations/0002_more.sql",
        "create table millstream.more (id int);\n",
    ),
    "no test is skipped": Rule(
        _tests, skips, "tests/store/test_jobs.py", "@pytest." + "mark.skipif(True, reason='slow')\n"
    ),
}

_ROOT = Path(__file__).resolve().parents[2]
_FOREIGN = frozenset({"__pycache__", "build", "data", "dist", "node_modules"})
_BINARY = frozenset({".gz", ".ico", ".png", ".pyc", ".swp", ".woff2", ".zip"})


def tree() -> Iterator[tuple[PurePosixPath, str]]:
    """Every text file of the checkout that people write, with its path from the root."""
    for directory, folders, files in os.walk(_ROOT):
        folders[:] = [name for name in folders if name not in _FOREIGN and (name[0] != "." or name == ".ci")]
        for name in files:
            path = Path(directory, name)
            if path.suffix not in _BINARY:
                yield PurePosixPath(path.relative_to(_ROOT).as_posix()), path.read_text(encoding="utf-8")
