"""Every row of the table of security cases has its tests, and they are there."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.security.case import Case
from tests.security.cases import CASES, ROWS

ROOT = Path(__file__).parents[2]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests, as a test runner takes them."""
    if not (ROOT / path).is_file():
        return frozenset()
    return frozenset(_named(ast.parse((ROOT / path).read_text()).body, ""))


def _named(statements: list[ast.stmt], prefix: str) -> list[str]:
    names: list[str] = []
    for statement in statements:
        match statement:
            case ast.ClassDef(name=name, body=body):
                names += _named(body, f"{prefix}{name}::")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test_"):
                names.append(prefix + name)
            case _:
                pass
    return names


def missing(tests: tuple[str, ...]) -> list[str]:
    """Those that are not there."""
    parts = [test.partition("::") for test in tests]
    return [f"{path}::{name}" for path, _, name in parts if name not in names_in(path)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_has_its_tests(case: Case) -> None:
    assert case.what
    assert missing(case.tests) == []
    assert len({*case.tests}) == len(case.tests)
    # A part of the server that is not there yet is the only reason to have none.
    assert case.tests or case.later


def test_the_rows_are_those_of_the_contract() -> None:
    expected = [f"{group}{number}" for group, count in ROWS.items() for number in range(1, count + 1)]
    assert [case.id for case in CASES] == expected
    assert len(expected) == 126


@pytest.mark.parametrize(
    "name",
    ["tests/security/test_cases.py::test_nothing", "tests/security/none.py::test_a_case_has_its_tests"],
)
def test_a_test_that_is_not_there_is_found_missing(name: str) -> None:
    assert missing((name,)) == [name]
    assert missing(("tests/security/test_cases.py::test_a_case_has_its_tests",)) == []
