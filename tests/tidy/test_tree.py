"""The source tree keeps the rules that no linter knows, and each of those rules is able to fail."""

from pathlib import PurePosixPath

import pytest

from tests.tidy.rules import RULES, speaks_sql, tree

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", RULES)
def test_the_tree_keeps_its_rule(name: str) -> None:
    rule = RULES[name]
    complaints = [
        complaint
        for path, text in tree()
        if rule.holds_for(path)
        for complaint in rule.complaints(path, text)
    ]
    assert complaints == []


@pytest.mark.parametrize("name", RULES)
def test_each_rule_finds_a_file_that_breaks_it(name: str) -> None:
    rule = RULES[name]
    path = PurePosixPath(rule.bad_path)
    assert rule.holds_for(path)
    assert list(rule.complaints(path, rule.bad_text))


@pytest.mark.parametrize(
    "statement",
    [
        "select id from millstream.jobs",
        "SELECT pg_advisory_xact_lock(1)",
        "select 1",
        "\n    with due as materialized (select 1)",
        "insert into millstream.jobs values (1)",
        "update millstream.jobs set state = 1",
        "delete from millstream.jobs",
        "create role millstream_engine",
        "listen millstream_hints",
    ],
)
def test_statements_are_recognised(statement: str) -> None:
    assert list(speaks_sql(PurePosixPath("src/millstream/engine/jobs.py"), f"Q = {statement!r}\n"))


@pytest.mark.parametrize(
    "sentence",
    ["select a queue", "update the job", "with a lease", "delete", "create a key", "listen on port 80"],
)
def test_sentences_are_not_statements(sentence: str) -> None:
    assert not list(
        speaks_sql(PurePosixPath("src/millstream/cli/jobs.py"), f'"""Docs."""\nHELP = {sentence!r}\n')
    )


def test_the_walk_sees_the_whole_tree() -> None:
    seen = {str(path) for path, _ in tree()}
    assert {"pyproject.toml", "Makefile", ".ci/run", "src/millstream/__init__.py"} <= seen
