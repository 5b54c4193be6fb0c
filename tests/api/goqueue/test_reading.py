"""Reading a partition without a group over HTTP. Contract: goqueue-messaging 5."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.goqueue.wire import STAMP, UNKNOWN, Topics, answered, refused


@pytest.fixture(scope="module")
def topic(api: Topics) -> str:
    topic = api.create()
    api.publish(topic, *({"value": str(n), "priority": 4 - n % 5} for n in range(10)))
    return topic


def values(page: dict[str, list[dict[str, str]]]) -> list[str]:
    return [message["value"] for message in page["messages"]]


def test_a_message_shows_all_that_it_has(api: Topics) -> None:
    topic = api.create()
    api.publish(topic, {"value": "x", "key": "k", "headers": {"a": "b"}}, "bare")
    full, bare = api.read(topic)["messages"]
    assert STAMP.fullmatch(full.pop("timestamp"))
    assert full == {
        "topic": topic,
        "partition": 0,
        "offset": 0,
        "value": "x",
        "priority": "normal",
        "key": "k",
        "headers": {"a": "b"},
    }
    assert set(bare) == {"topic", "partition", "offset", "timestamp", "value", "priority"}


def test_a_page_is_a_window_of_the_log_sorted_inside(api: Topics, topic: str) -> None:
    page = api.read(topic, limit=5)
    assert values(page) == ["4", "3", "2", "1", "0"]
    assert page["next_offset"] == 5
    assert values(api.read(topic, limit=5, order="offset")) == ["0", "1", "2", "3", "4"]
    assert values(api.read(topic, offset=5, limit=1000, order="offset")) == ["5", "6", "7", "8", "9"]
    assert values(api.read(topic, max=2, order="offset")) == ["0", "1"]
    assert api.read(topic, offset=10) == {"messages": [], "next_offset": 10}
    assert api.read(topic, offset=2**63 - 1)["messages"] == []


@pytest.mark.parametrize("limit", [1001, 10**18])
def test_a_larger_limit_is_cut(api: Topics, topic: str, limit: int) -> None:
    assert len(api.read(topic, limit=limit)["messages"]) == 10


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("offset=-1", "invalid offset"),
        ("offset=x", "invalid offset"),
        ("offset=1.5", "invalid offset"),
        ("offset=", "invalid offset"),
        ("offset=9223372036854775808", "invalid offset"),
        ("limit=0", "invalid limit"),
        ("limit=-1", "invalid limit"),
        ("limit=ten", "invalid limit"),
        ("max=0", "invalid limit"),
        ("order=random", "invalid order"),
        ("from_time=yesterday", "invalid from_time"),
        ("to_time=2026-01-01T00:00:00", "invalid to_time"),
        ("from_time=99999999999999999", "invalid from_time"),
        ("wait=10", "invalid wait format"),
        ("wait_ms=x", "invalid wait_ms"),
        ("offset=%00", ""),
        ("%ff=1", ""),
    ],
)
def test_what_is_wrong_in_a_query_is_refused(api: Topics, topic: str, query: str, text: str) -> None:
    refused(api.get(f"/topics/{topic}/partitions/0/messages?{query}"), 400, text or None)


def test_partitions_are_numbers_that_exist(api: Topics, topic: str) -> None:
    for partition in ("x", "-1", "0.5", "%20"):
        refused(api.get(f"/topics/{topic}/partitions/{partition}/messages"), 400, "invalid partition ID")
    for partition in ("1", "1000", "4294967296", str(2**63 - 1)):
        refused(api.get(f"/topics/{topic}/partitions/{partition}/messages"), 404)
    refused(api.get(f"/topics/{UNKNOWN}/partitions/0/messages"), 404, "topic not found")


def test_times_bound_a_page(api: Topics) -> None:
    topic = api.create()
    for value in ("a", "b", "c"):
        api.publish(topic, value)
    times = [message["timestamp"] for message in api.read(topic, order="offset")["messages"]]
    assert values(api.read(topic, from_time=times[1], order="offset")) == ["b", "c"]
    assert values(api.read(topic, to_time=times[2], order="offset")) == ["a", "b"]
    assert values(api.read(topic, from_time=times[1], offset=2, order="offset")) == ["c"]
    assert values(api.read(topic, from_time=0)) == ["a", "b", "c"]
    assert api.read(topic, from_time="2100-01-01T00:00:00+01:00")["messages"] == []


def test_an_empty_page_is_held_until_a_message_comes(api: Topics) -> None:
    topic = api.create()
    with ThreadPoolExecutor(1) as executor:
        held = executor.submit(api.read, topic, wait="20s")
        api.publish(topic, "now")
        assert values(held.result(15)) == ["now"]
    assert api.read(topic, offset=1, wait_ms=1)["messages"] == []
    assert answered(api.get(f"/topics/{topic}/partitions/0/messages", wait="-5s", offset=1))["messages"] == []
