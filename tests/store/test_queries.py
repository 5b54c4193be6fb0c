import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.store.queries import Statement, StatementError, load, load_all, parse


def only(text: str) -> Statement:
    [statement] = parse(text, source="test.sql").values()
    return statement


def test_a_statement_has_a_name_a_shape_and_a_purpose() -> None:
    statement = only("-- name: find_it :one\n-- Finds it,\n-- wherever it is.\nselect 1;\n")
    assert statement.name == "find_it"
    assert statement.shape == "one"
    assert statement.purpose == "Finds it, wherever it is."
    assert statement.sql == "select 1"
    assert statement.parameters == ()


def test_parameters_are_numbered_in_the_order_of_their_first_appearance() -> None:
    statement = only("-- name: a :many\n-- Does.\nselect :b::int, :a::text, :b::int + :c\n")
    assert statement.sql == "select $1::int, $2::text, $1::int + $3"
    assert statement.parameters == ("b", "a", "c")


def test_casts_quotes_and_comments_hold_no_parameters() -> None:
    statement = only(
        "-- name: a :many\n-- Does.\nselect x::int, ':quoted', 'it''s :quoted', :real -- and :commented\nfrom t\n"
    )
    assert statement.parameters == ("real",)
    assert "':quoted', 'it''s :quoted'" in statement.sql
    assert "commented" not in statement.sql


def test_a_caller_gets_the_numbers_in_its_own_order() -> None:
    statement = only("-- name: a :many\n-- Does.\nselect :a, :b, :c, :a\n")
    assert statement.taking("c", "a", "b") == "select $2, $3, $1, $2"


@given(order=st.permutations([f"p{number}" for number in range(12)]))
def test_every_order_of_parameters_reaches_its_place(order: list[str]) -> None:
    text = ", ".join(f"{name} = :{name}" for name in sorted(order))
    sql = only(f"-- name: a :many\n-- Does.\nselect {text}\n").taking(*order)
    for place, name in enumerate(order, start=1):
        assert f"{name} = ${place}," in f"{sql.removeprefix('select ')},"


@pytest.mark.parametrize("given_", [(), ("a",), ("a", "b", "c"), ("a", "a"), ("a", "a", "b"), ("a", "x")])
def test_missing_unknown_and_repeated_parameters_are_refused(given_: tuple[str, ...]) -> None:
    statement = only("-- name: find_it :one\n-- Does.\nselect :a, :b\n")
    with pytest.raises(StatementError, match="find_it"):
        statement.taking(*given_)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: A :one\n-- Does.\nselect 1\n", "bad header"),
        ("-- name: a\n-- Does.\nselect 1\n", "bad header"),
        ("-- name: a :some\n-- Does.\nselect 1\n", "bad header"),
        ("-- name: a :one\nselect 1\n", "does not say what it is for"),
        ("-- name: a :one\n-- Does.\n", "is empty"),
        ("-- name: a :one\n-- Does.\n;\n", "is empty"),
        ("select 1;\n-- name: a :one\n-- Does.\nselect 1\n", "before the first header"),
        ("-- name: a :one\n-- Does.\nselect 1;\n-- name: a :one\n-- Does.\nselect 2\n", "defined twice"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(StatementError, match=complaint):
        parse(text, source="test.sql")


def test_comments_before_the_first_header_are_allowed() -> None:
    assert only("-- All about it.\n\n-- name: a :one\n-- Does.\nselect 1\n").sql == "select 1"


def test_all_statements_are_those_of_the_files_together() -> None:
    everything = load_all()
    for noun in (
        "claims",
        "dead_letters",
        "job_reads",
        "jobs",
        "queues",
        "quotas",
        "settlements",
        "tenants",
        "upkeep",
        "workers",
    ):
        for name, statement in load(noun).items():
            assert everything[name] == statement
    assert len(everything) > 40
