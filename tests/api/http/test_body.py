import json
import math
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from millstream.api.http.body import Body, check_json
from millstream.domain import limits
from millstream.domain.errors import InvalidField, InvalidJson, InvalidShape


class Item(Struct):
    name: str
    size: int = 0


class Order(Struct):
    customer: str
    payload: Raw
    count: int | None = None
    items: list[Item] = []
    urgent: bool = False


class Anything(Struct):
    """Any object; all its keys are unknown."""


ORDER = Body(Order)
ANYTHING = Body(Anything)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


def problems_of(data: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidField) as refused:
        ORDER.read(data)
    return [(problem.field, problem.code) for problem in refused.value.problems]


# -------------------------------------------------------------------------------------------------- JSON or not


@given(st.binary())
@example(b"[" * 100_000)
@example(b'{"payload":' * 50_000)
@example(b"\xef\xbb\xbf{}")
@example(b'{"customer":"\\ud800"}')
@example(b'"')
@example(b"\\u")
def test_no_bytes_are_answered_with_anything_but_a_refusal_that_names_the_fault(data):
    try:
        ORDER.read(data)
    except (InvalidJson, InvalidField):
        pass


def reference_accepts(data: bytes) -> bool:
    """Tell whether Python's own decoder, made strict, sees an object that is all right."""

    def refuse(word: str) -> float:
        raise ValueError(word)

    def finite(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise ValueError(literal)
        return value

    try:
        value = json.loads(data.decode(), parse_constant=refuse, parse_float=finite)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "\\u0000" not in json.dumps(value)


def body_accepts(data: bytes) -> bool:
    try:
        ANYTHING.read(data)
    except (InvalidJson, InvalidField):
        return False
    return True


SCRAPS = [
    *(character.encode() for character in '"\\{}[],:0-.\n'),
    *(b"e999", b"E+400", b"1e-999", b"NaN", b"\\x", b"\xff", b"\x00"),
    *(b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00"),
]


@st.composite
def damaged_documents(draw):
    document = bytearray(json.dumps({"value": draw(JSON_VALUES)}, ensure_ascii=draw(st.booleans())).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(document)))
        scrap = draw(st.sampled_from(SCRAPS))
        document[at : at + draw(st.integers(0, 2))] = scrap
    return bytes(document)


@given(damaged_documents())
@example(b'{"a":1e400}')
@example(b'{"a":123E+306}')
@example(b'{"a":0.1e309}')
@example(b'{"a":"1e999 is text"}')
@example(b'{"a":-Infinity}')
@example(b'{"a":"\\u00e9\\ud83d\\ude00"}')
def test_a_body_is_accepted_exactly_when_a_strict_decoder_would(data):
    assert body_accepts(data) == reference_accepts(data)


@given(JSON_VALUES)
def test_opaque_json_passes_through_byte_for_byte(value):
    if "\0" in json.dumps(value, ensure_ascii=False) or "\\u0000" in json.dumps(value):
        return
    text = json.dumps(value, ensure_ascii=False)

    order = ORDER.read(b'{"customer":"c","payload": ' + text.encode() + b" }")

    assert bytes(order.payload) == text.encode()


def test_integers_as_long_as_clients_read_survive_in_opaque_json():
    number = "9" * 4300

    assert bytes(ORDER.read(f'{{"customer":"c","payload":{number}}}'.encode()).payload) == number.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"nonsense",
        b'{"customer":"c","payload":1} x',
        b'{"customer":"c","payload":NaN}',
        b'{"customer":"c","payload":-Infinity}',
        b'{"customer":"c","payload":1e400}',
        b'{"customer":"c","payload":[{"deep":[-12e0309]}]}',
        b'{"customer":"c","payload":' + b"9" * 4301 + b"}",
        b'{"customer":"c","payload":0.' + b"9" * limits.JSON_NUMBER_CHARS_MAX + b"}",
        b'{"customer":"c","payload":"\\ud800"}',
        b'{"customer":"c","payload":{"\\udfff":1}}',
        b'{"customer":"c","payload":"\xff"}',
        b'{"customer":"c","payload":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"customer":"c","payload":1}',
        '{"customer":"c","payload":1}'.encode("utf-16"),
        b"{'customer':'c'}",
        b'{"customer":"c","payload":"a\nb"}',
        b'{"customer":5,"payload":[1,}',
    ],
)
def test_what_is_not_json_is_invalid_json(data):
    with pytest.raises(InvalidJson):
        ORDER.read(data)


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_nesting_is_limited_to_128_levels(brackets):
    opening, closing = brackets
    body = Body(Anything)

    def document(levels: int) -> bytes:
        inner = levels - 1
        return f'{{"v":{opening * inner}1{closing * inner}}}'.encode()

    body.read(document(limits.JSON_DEPTH_MAX))
    with pytest.raises(InvalidJson):
        body.read(document(limits.JSON_DEPTH_MAX + 1))


TRICKY_TEXTS = st.text(alphabet='[]{}"\\,:x\u00e9', max_size=8)


@given(st.lists(st.tuples(st.booleans(), TRICKY_TEXTS), min_size=120, max_size=136))
def test_brackets_within_strings_neither_count_nor_hide_nesting(levels):
    value: object = 1
    for is_list, text in levels:
        value = [text, value] if is_list else {text: value, "x" + text: text}
    is_deep = len(levels) + 1 > limits.JSON_DEPTH_MAX

    assert body_accepts(json.dumps({"v": value}).encode()) == (not is_deep)


def test_many_flat_values_are_not_deep():
    data = json.dumps({"v": [{"a": [], "b": {"c": "}"}}] * 1000}).encode()

    assert check_json(data) is False


# -------------------------------------------------------------------------------------------------------- shape


def test_all_missing_and_mistyped_fields_are_named():
    assert problems_of(b'{"count":"3","items":[{"name":"a"},{"size":true}],"urgent":1}') == [
        ("customer", "REQUIRED"),
        ("payload", "REQUIRED"),
        ("count", "INVALID_TYPE"),
        ("items[1].name", "REQUIRED"),
        ("items[1].size", "INVALID_TYPE"),
        ("urgent", "INVALID_TYPE"),
    ]


@pytest.mark.parametrize("count", ["5.0", "true", '"5"', "[]", "{}", "1e2"])
def test_nothing_is_taken_for_an_integer_but_an_integer(count):
    data = f'{{"customer":"c","payload":1,"count":{count}}}'.encode()

    with pytest.raises(InvalidShape):
        ORDER.read(data)


@pytest.mark.parametrize("data", [b"[]", b'"text"', b"5", b"null", b"true"])
def test_what_is_no_object_has_the_wrong_shape(data):
    with pytest.raises(InvalidShape) as refused:
        ORDER.read(data)
    assert [problem.field for problem in refused.value.problems] == ["body"]


def test_broken_syntax_after_a_mistyped_field_is_invalid_json_all_the_same():
    with pytest.raises(InvalidJson):
        ORDER.read(b'{"customer":5,"payload":1,')


def test_of_a_repeated_key_the_last_counts():
    order = ORDER.read(b'{"customer":"a","payload":1,"customer":"b","payload":{"x":2}}')

    assert (order.customer, bytes(order.payload)) == ("b", b'{"x":2}')


def test_unknown_keys_are_ignored():
    assert ORDER.read(b'{"customer":"a","payload":null,"plan_tier":"enterprise"}').customer == "a"


def test_null_is_absent_for_an_optional_field_and_a_value_for_opaque_json():
    order = ORDER.read(b'{"customer":"a","payload":null,"count":null}')

    assert order.count is None
    assert bytes(order.payload) == b"null"


@pytest.mark.parametrize(
    "data",
    [
        b'{"customer":"\\u0000","payload":1}',
        b'{"customer":"a","payload":{"k":["\\u0000"]}}',
        b'{"customer":"a","payload":1,"other":"\\u0000"}',
        b'{"customer":"a","payload":1,"\\u0000":1}',
    ],
)
def test_a_nul_character_anywhere_is_a_rule_violation(data):
    with pytest.raises(InvalidField) as refused:
        ORDER.read(data)
    assert not isinstance(refused.value, InvalidShape)


def test_of_a_body_that_is_wrong_in_many_places_only_some_are_told():
    assert len(problems_of(b'{"items":[' + b"{}," * 5000 + b"{}]}")) == limits.PROBLEMS_MAX


def test_a_refusal_is_short_whatever_was_sent():
    class Ordered(Struct):
        way: Literal["up", "down"]

    with pytest.raises(InvalidShape) as refused:
        Body(Ordered).read(b'{"way":"' + b"x" * 100_000 + b'"}')
    (problem,) = refused.value.problems
    assert problem.message.startswith("invalid enum value")
    assert len(problem.message) <= limits.PROBLEM_CHARS_MAX


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert ORDER.read(b'{"customer":"\\\\u0000","payload":1}').customer == "\\u0000"


def test_an_absent_body_reads_as_an_empty_object_where_none_is_required():
    assert isinstance(Body(Anything, required=False).read(b""), Anything)
