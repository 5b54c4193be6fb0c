"""What is not JSON is told so; what is JSON survives. Contract: spooled-jobs 1.3; spooled-tenancy 12.2, 19.5."""

from __future__ import annotations

import json

import pytest

from tests.api.spooled.endpoints import WITH_BODY, WITHOUT_BODY, Endpoint, each
from tests.api.spooled.wire import Api, a_queue, answered, refused, refused_fields

NOT_JSON = {
    "empty object cut short": b"{",
    "malformed UTF-8 in a value": b'{"queue_name":"\xff","payload":1}',
    "malformed UTF-8 in a key": b'{"queue_\xc3\x28":"q","payload":1}',
    "malformed UTF-8 in a payload": b'{"queue_name":"q","payload":"\xe2\x82"}',
    "UTF-8 surrogate": b'{"queue_name":"q","payload":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"queue_name":"q","payload":"\xc0\xaf"}',
    "UTF-16": '{"queue_name":"q","payload":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"queue_name":"q","payload":1}'.encode("utf-16-le"),
    "byte order mark": b'\xef\xbb\xbf{"queue_name":"q","payload":1}',
    "NaN": b'{"queue_name":"q","payload":NaN}',
    "Infinity": b'{"queue_name":"q","payload":{"a":[Infinity]}}',
    "minus Infinity": b'{"queue_name":"q","payload":-Infinity}',
    "NaN in a typed field": b'{"queue_name":"q","payload":1,"priority":NaN}',
    "lone high surrogate": rb'{"queue_name":"q","payload":"\ud800"}',
    "lone low surrogate": rb'{"queue_name":"q","payload":"a\udc00b"}',
    "surrogates in the wrong order": rb'{"queue_name":"q","payload":"\udc00\ud800"}',
    "high surrogate and another escape": rb'{"queue_name":"q","payload":"\ud83d\u0041"}',
    "lone surrogate in a key": rb'{"queue_name":"q","payload":{"\ud800":1}}',
    "lone surrogate in a typed field": rb'{"queue_name":"\ud800","payload":1}',
    "lone surrogate in an ignored field": rb'{"queue_name":"q","payload":1,"x":"\ud800"}',
    "trailing garbage": b'{"queue_name":"q","payload":1}x',
    "two values": b'{"queue_name":"q","payload":1}{}',
    "trailing NUL": b'{"queue_name":"q","payload":1}\x00',
    "raw control character in a string": b'{"queue_name":"q","payload":"a\x01b"}',
    "raw NUL in a string": b'{"queue_name":"q","payload":"a\x00b"}',
    "comment": b'{"queue_name":"q",/* */"payload":1}',
    "single quotes": b"{'queue_name':'q','payload':1}",
    "trailing comma": b'{"queue_name":"q","payload":1,}',
    "leading zero": b'{"queue_name":"q","payload":01}',
    "leading plus": b'{"queue_name":"q","payload":+1}',
    "bare point": b'{"queue_name":"q","payload":1.}',
    "hexadecimal": b'{"queue_name":"q","payload":0x1}',
    "unknown escape": rb'{"queue_name":"q","payload":"\q"}',
    "short escape": rb'{"queue_name":"q","payload":"\u12"}',
    "unclosed string": b'{"queue_name":"q","payload":"x',
    "deep list": b'{"queue_name":"q","payload":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep object": b'{"queue_name":"q","payload":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "deep and unclosed": b'{"queue_name":"q","payload":' + b"[" * 100_000,
    "deep in an ignored field": b'{"queue_name":"q","payload":1,"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep at the top": b"[" * 100_000 + b"]" * 100_000,
    "129 levels": b'{"queue_name":"q","payload":' + b"[" * 128 + b"]" * 128 + b"}",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json_is_400(api: Api, name: str) -> None:
    refused(api.call("POST", "/jobs", content=NOT_JSON[name]), 400, "INVALID_JSON")


@each(WITH_BODY, fast_one_in=5)
def test_what_is_not_json_is_400_everywhere(api: Api, endpoint: Endpoint) -> None:
    for name, content in NOT_JSON.items():
        response = api.call(endpoint.method, endpoint.path, content=content)
        assert response.status_code == 400, (name, response.text[:200])
        refused(response, 400, "INVALID_JSON")


@each([endpoint for endpoint in WITHOUT_BODY if not endpoint.path.endswith("/progress")])
def test_where_no_body_is_read_none_is_judged(api: Api, endpoint: Endpoint) -> None:
    plain = api.call(endpoint.method, endpoint.path).status_code
    for name in ("malformed UTF-8 in a value", "deep list", "NaN", "UTF-16"):
        assert api.call(endpoint.method, endpoint.path, content=NOT_JSON[name]).status_code == plain, name


@pytest.mark.parametrize(
    "number", [b"1e400", b"-1e400", b"1e99999999", b"1" + b"0" * 400 + b".5", b"0.1e4000"]
)
def test_a_number_beyond_a_double_is_400(api: Api, number: bytes) -> None:
    for content in (
        b'{"queue_name":"q","payload":' + number + b"}",
        b'{"queue_name":"q","payload":{"a":[1,{"b":' + number + b"}]}}",
        b'{"queue_name":"q","payload":1,"tags":[' + number + b"]}",
    ):
        refused(api.call("POST", "/jobs", content=content), 400)


@pytest.mark.parametrize(
    "number", ["1e-400", "0e999", "1E5", "-0.0", "0.000000000000000000000000001", "123456789.25"]
)
def test_any_other_number_survives(api: Api, number: str) -> None:
    content = f'{{"queue_name":"q","payload":{number}}}'.encode()
    made = answered(api.call("POST", "/jobs", content=content), 201)
    assert api.job(made["id"])["payload"] == json.loads(number)


@pytest.mark.parametrize("digits", [19, 20, 39, 100, 4000])
def test_an_integer_of_any_length_survives_in_a_payload(api: Api, digits: int) -> None:
    number = "9" * digits
    content = f'{{"queue_name":"q","payload":{{"n":[{number},-{number}]}},"tags":{{"t":{number}}}}}'.encode()
    made = answered(api.call("POST", "/jobs", content=content), 201)
    text = api.get(f"/jobs/{made['id']}").text
    assert text.count(number) == 3


@pytest.mark.parametrize("number", [2**63, 2**64, 2**100, -(2**63) - 1, 10**400])
def test_an_integer_beyond_64_bits_in_a_typed_field_is_422(api: Api, number: int) -> None:
    for endpoint in WITH_BODY:
        for name, kind in (endpoint.required | endpoint.optional).items():
            if kind == "integer":
                body = {**(endpoint.body or {}), name: number}
                response = api.call(endpoint.method, endpoint.path, body)
                assert refused_fields(response, 422) == {name}, endpoint.name


def test_depth_is_counted_up_to_128(api: Api) -> None:
    deep = b"[" * 120 + b"]" * 120
    made = answered(api.call("POST", "/jobs", content=b'{"queue_name":"q","payload":' + deep + b"}"), 201)
    assert api.get(f"/jobs/{made['id']}").content.count(b"[") >= 120
    brackets_in_text = {"queue_name": "q", "payload": "[" * 5000, "tags": {"{" * 500: '"[[["'}}
    answered(api.post("/jobs", brackets_in_text), 201)


def test_of_duplicate_keys_the_last_counts(api: Api) -> None:
    queue = a_queue()
    content = f'{{"queue_name":"","payload":1,"priority":1,"queue_name":"{queue}","payload":2,"priority":7}}'
    made = answered(api.call("POST", "/jobs", content=content.encode()), 201)
    job = api.job(made["id"])
    assert (job["queue_name"], job["payload"], job["priority"]) == (queue, 2, 7)
    assert refused_fields(
        api.call("POST", "/jobs", content=b'{"queue_name":"q","queue_name":"","payload":1}'), 400
    )
    content = f'{{"queue_name":"{queue}","payload":{{"a":1,"b":2,"a":3}}}}'
    made = answered(api.call("POST", "/jobs", content=content.encode()), 201)
    assert api.job(made["id"])["payload"] == {"a": 3, "b": 2}
