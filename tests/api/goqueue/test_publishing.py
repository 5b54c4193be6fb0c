"""Publishing over HTTP. Contract: goqueue-messaging 4."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.api.goqueue.wire import STAMP, UNKNOWN, Topics, answered, refused
from tests.api.spooled.wire import JsonObject

# Key, and its partition of 3, 4, 6, 8 and 12. Contract: goqueue-messaging 4.5.
ROUTES = [
    ("a", 2, 2, 2, 2, 2),
    ("ab", 2, 3, 5, 7, 11),
    ("abc", 2, 2, 2, 2, 2),
    ("abcd", 0, 2, 0, 2, 6),
    ("alice", 1, 1, 1, 5, 1),
    ("user-123", 1, 3, 1, 7, 7),
    ("user-456", 0, 2, 0, 6, 6),
    ("order-123", 1, 1, 1, 5, 1),
    ("é", 1, 3, 1, 7, 7),
    ("日本", 2, 2, 2, 2, 2),
    ("x" * 100, 2, 2, 2, 2, 2),
]


@pytest.fixture(scope="module")
def topic(api: Topics) -> str:
    return api.create(partitions=3)


def results_of(api: Topics, topic: str, messages: list[JsonObject], **headers: str) -> list[JsonObject]:
    return answered(api.post(f"/topics/{topic}/messages", {"messages": messages}, **headers))["results"]


class TestRouting:
    @pytest.mark.parametrize(("place", "partitions"), list(enumerate((3, 4, 6, 8, 12), 1)))
    def test_a_key_goes_to_its_partition(self, api: Topics, place: int, partitions: int) -> None:
        topic = api.create(partitions)
        results = api.publish(topic, *({"key": route[0], "value": "x"} for route in ROUTES))
        assert [result["partition"] for result in results] == [route[place] for route in ROUTES]

    def test_messages_without_a_key_go_to_the_partitions_in_turn_from_the_first_on(self, api: Topics) -> None:
        topic = api.create(partitions=3)
        results = api.publish(topic, "a", {"value": "b", "key": ""}, {"value": "c", "key": None}, "d")
        assert [(one["partition"], one["offset"]) for one in results] == [(0, 0), (1, 0), (2, 0), (0, 1)]

    def test_a_partition_goes_before_the_key_which_is_kept(self, api: Topics) -> None:
        topic = api.create(partitions=3)
        assert api.publish(topic, {"value": "x", "key": "a", "partition": 0})[0]["partition"] == 0
        assert api.read(topic)["messages"][0]["key"] == "a"


class TestMessages:
    @pytest.mark.parametrize(
        "value",
        [
            '{"a": 1 ,"b":[ ]}',
            "",
            " \t\n",
            "nul \0 inside",
            "日本 é 😀",
            '"quoted\\"',
            "\u2028\u007f\u0001",
            "A" * 70_000,
        ],
        ids=["json", "empty", "blank", "nul", "unicode", "quotes", "controls", "long"],
    )
    def test_texts_come_back_as_they_were(self, api: Topics, value: str) -> None:
        topic = api.create()
        headers = {"trace": value[:1000], "ü": "é"}
        api.publish(topic, {"key": f"k{value[:1000]}", "value": value, "headers": headers})
        [message] = api.read(topic)["messages"]
        assert (message["value"], message["key"]) == (value, f"k{value[:1000]}")
        assert message["headers"] == headers

    def test_a_surrogate_pair_is_one_character_and_a_lone_one_is_that_messages_error(
        self, api: Topics
    ) -> None:
        topic = api.create()
        content = (
            rb'{"messages":[{"value":"\ud83d\ude00"},{"value":"\uD800"},{"value":"x","key":"\udc00"},'
            rb'{"value":"x","headers":{"a":"\ud800"}},{"value":"x","delay":"\ud800"},{"value":"ok"}]}'
        )
        results = answered(api.call("POST", f"/topics/{topic}/messages", content=content))["results"]
        assert ["error" in result for result in results] == [False, True, True, True, True, False]
        assert [message["value"] for message in api.read(topic)["messages"]] == ["😀", "ok"]

    def test_a_result_says_where_the_message_went(self, api: Topics) -> None:
        topic = api.create()
        assert api.publish(topic, "a", {"value": "b", "priority": "HIGH"}) == [
            {"partition": 0, "offset": 0, "priority": "normal"},
            {"partition": 0, "offset": 1, "priority": "high"},
        ]

    @pytest.mark.parametrize(
        ("given", "word"),
        [
            ("critical", "critical"),
            ("High", "high"),
            ("nOrMaL", "normal"),
            ("LOW", "low"),
            ("background", "background"),
            (0, "critical"),
            (4, "background"),
            (None, "normal"),
        ],
    )
    def test_priorities_are_words_or_numbers(self, api: Topics, topic: str, given: object, word: str) -> None:
        assert api.publish(topic, {"value": "x", "priority": given})[0]["priority"] == word

    @pytest.mark.parametrize(
        ("message", "error"),
        [
            ({}, "value is required"),
            ({"value": None}, "value is required"),
            ({"value": "x", "partition": 3}, "invalid partition 3 (topic has 3 partitions)"),
            ({"value": "x", "partition": -1}, "invalid partition -1 (topic has 3 partitions)"),
            ({"value": "x", "partition": 10**25}, f"invalid partition {10**25} (topic has 3 partitions)"),
            (
                {"value": "x", "priority": "urgent"},
                "invalid priority: must be one of critical, high, normal, low, background",
            ),
            (
                {"value": "x", "priority": 5},
                "invalid priority: must be one of critical, high, normal, low, background",
            ),
            ({"value": "x", "delay": "30"}, "invalid delay format: 30"),
            ({"value": "x", "delay": "1d"}, "invalid delay format: 1d"),
            ({"value": "x", "delay": "200h"}, "delay 200h0m0s exceeds maximum 186h24m48.64s"),
            ({"value": "x", "deliverAt": "tomorrow"}, "invalid deliverAt format: tomorrow"),
            ({"value": "x", "deliverAt": "2030-01-01T00:00:00"}, "invalid deliverAt format: 2030-01-01T00"),
            ({"value": "x", "deliver_at": "soon"}, "invalid deliverAt format: soon"),
            ({"value": "x", "key": "k" * 65_536}, "key is"),
            ({"value": "x", "key": "é" * 32_768}, "key is"),
            ({"value": "x", "headers": {"h": "v" * 65_535}}, "headers are"),
        ],
        ids=lambda given: str(given)[:40],
    )
    def test_a_message_that_breaks_a_rule_is_refused_by_itself(
        self, api: Topics, topic: str, message: JsonObject, error: str
    ) -> None:
        before, refusal, after = results_of(api, topic, [{"value": "a"}, message, {"value": "b"}])
        assert refusal["error"].startswith(error)
        assert refusal == {"partition": -1, "offset": -1, "error": refusal["error"]}
        assert "error" not in before
        assert "error" not in after

    def test_all_refused_is_still_an_answer(self, api: Topics, topic: str) -> None:
        assert [result["error"] for result in results_of(api, topic, [{}, {}])] == ["value is required"] * 2

    def test_the_largest_key_and_headers_are_kept(self, api: Topics) -> None:
        topic = api.create()
        api.publish(topic, {"value": "x", "key": "k" * 65_535, "headers": {"h": "v" * 65_534}})
        [message] = api.read(topic)["messages"]
        assert (len(message["key"]), len(message["headers"]["h"])) == (65_535, 65_534)


class TestDelays:
    @pytest.mark.parametrize("field", ["deliverAt", "deliver_at"])
    def test_a_time_hides_a_message(self, api: Topics, field: str) -> None:
        topic = api.create()
        at = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
        [result] = api.publish(topic, {"value": "x", field: at})
        assert result["delayed"] is True
        assert datetime.fromisoformat(result["deliverAt"]) == datetime.fromisoformat(at)
        assert api.read(topic) == {"messages": [], "next_offset": 1, "pending_delayed_from": 0}

    def test_a_delay_hides_a_message_and_goes_before_a_time(self, api: Topics) -> None:
        topic = api.create()
        begun = datetime.now(UTC)
        [result] = api.publish(
            topic, {"value": "x", "delay": "1h30m", "deliverAt": "not looked at", "partition": 0}
        )
        assert STAMP.fullmatch(result["deliverAt"])
        hidden = datetime.fromisoformat(result["deliverAt"]) - begun
        assert timedelta(minutes=89) < hidden < timedelta(minutes=91)
        assert {name: result[name] for name in ("partition", "offset", "priority", "delayed")} == {
            "partition": 0,
            "offset": 0,
            "priority": "normal",
            "delayed": True,
        }

    @pytest.mark.parametrize(
        "fields",
        [
            {"delay": "0"},
            {"delay": "-5s"},
            {"deliverAt": "2001-01-01T00:00:00Z"},
            {"delay": None, "deliverAt": None},
            {"delay": "", "deliverAt": "2001-01-01T00:00:00+02:00"},
        ],
    )
    def test_what_is_due_already_is_not_hidden(self, api: Topics, fields: JsonObject) -> None:
        topic = api.create()
        [result] = api.publish(topic, {"value": "x", **fields})
        assert result == {"partition": 0, "offset": 0, "priority": "normal"}
        assert len(api.read(topic)["messages"]) == 1

    def test_the_longest_delay_is_accepted(self, api: Topics, topic: str) -> None:
        assert api.publish(topic, {"value": "x", "delay": "671088.64s"})[0]["delayed"] is True


class TestRequests:
    def test_the_topic_is_looked_for_after_the_body(self, api: Topics) -> None:
        path = f"/topics/{UNKNOWN}/messages"
        refused(api.post(path, {"messages": [{"value": "x"}]}), 404, "topic not found")
        refused(api.post(path, {"messages": []}), 400, "at least one message required")
        refused(api.post(path, {"messages": None}), 400, "at least one message required")
        refused(api.post(path, {}), 400, "at least one message required")
        refused(api.call("POST", path, content=b"{"), 400, "invalid JSON: ")
        refused(api.call("POST", path), 400, "invalid JSON: ")

    @pytest.mark.parametrize(
        "message",
        [
            {"value": 5},
            {"value": "x", "key": 1},
            {"value": "x", "partition": "0"},
            {"value": "x", "partition": 0.5},
            {"value": "x", "partition": False},
            {"value": "x", "priority": 1.5},
            {"value": "x", "priority": []},
            {"value": "x", "delay": 30},
            {"value": "x", "deliverAt": 1_700_000_000},
            {"value": "x", "headers": {"a": 1}},
            {"value": "x", "headers": ["a"]},
            "x",
            None,
        ],
        ids=str,
    )
    def test_a_wrong_type_refuses_the_whole_request(self, api: Topics, message: object) -> None:
        topic = api.create()
        body = {"messages": [{"value": "not stored"}, message]}
        refused(api.post(f"/topics/{topic}/messages", body), 400, "invalid JSON: ")
        assert api.read(topic)["next_offset"] == 0

    def test_broken_json_with_a_surrogate_in_it_is_refused(self, api: Topics, topic: str) -> None:
        for content in (
            rb'{"messages":[{"value":"\ud800"}',
            rb'{"messages":[{"value":"\ud800"},{"value":5}]}',
            rb'{"messages":[{"value":"\ud800","x":NaN}]}',
            rb'{"messages":"\ud800"}',
            rb'{"messages":[{"value":"x","partition":"\udc00"}]}',
            rb'{"messages":[{"value":"x","headers":"\ud800"}]}',
            rb'{"messages":[{"value":"x","\ud800":1}]}',
            b'{"messages":[{"value":"\\ud800\xff"}]}',
            b'{"messages":[{"value":"\\ud800","x":' + b"[" * 100_000 + b"]}]}",
        ):
            refused(api.call("POST", f"/topics/{topic}/messages", content=content), 400, "invalid JSON: ")

    def test_ten_thousand_messages_fit_and_no_more(self, api: Topics, topic: str) -> None:
        path = f"/topics/{topic}/messages"
        refused(api.post(path, {"messages": [{"value": "x"}] * 10_001}), 400)
        assert len(answered(api.post(path, {"messages": [{"value": "x"}] * 10_000}))["results"]) == 10_000

    def test_an_idempotency_key_makes_a_replay_harmless(self, api: Topics) -> None:
        topic = api.create()
        messages: list[JsonObject] = [{"value": "once"}]
        first = results_of(api, topic, messages, **{"Idempotency-Key": "k-1"})
        assert results_of(api, topic, messages, **{"Idempotency-Key": "k-1"}) == first
        assert results_of(api, topic, messages, **{"Idempotency-Key": "k-2"})[0]["offset"] == 1
        refused(
            api.post(f"/topics/{topic}/messages", {"messages": messages}, **{"Idempotency-Key": "k" * 256}),
            400,
        )


class TestSizes:
    def test_the_largest_value_fits_even_escaped(self, api: Topics) -> None:
        topic = api.create()
        value = '"' * (16 * 1024 * 1024 - 100)
        assert api.publish(topic, value)[0]["offset"] == 0
        [message] = api.read(topic)["messages"]
        assert message["value"] == value

    def test_a_larger_value_is_that_messages_error(self, api: Topics, topic: str) -> None:
        large, small = results_of(api, topic, [{"value": "x" * (16 * 1024 * 1024 + 1)}, {"value": "x"}])
        assert large["error"].startswith("value is larger")
        assert "error" not in small

    def test_a_body_over_the_limit_of_its_route_is_too_large(self, api: Topics, topic: str) -> None:
        too_large = b" " * (32 * 1024 * 1024 + 1)
        refused(api.call("POST", f"/topics/{topic}/messages", content=too_large), 413)
        refused(api.call("POST", "/topics", content=b" " * (1024 * 1024 + 1)), 413)
        refused(api.call("POST", "/topics", content=b" " * (1024 * 1024)), 400)
