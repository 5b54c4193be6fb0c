"""Messages that wait for their time over HTTP. Contract: goqueue-messaging 6."""

from __future__ import annotations

import pytest

from tests.api.goqueue.wire import STAMP, UNKNOWN, Topics, a_group, answered, refused


def test_what_waits_is_listed_the_next_due_first(api: Topics) -> None:
    topic = api.create(partitions=2)
    delays = [("2h", 0), ("1h", 1), ("1h", 0)]
    api.publish(topic, *({"value": d, "delay": d, "partition": p, "priority": "high"} for d, p in delays))
    page = answered(api.get(f"/topics/{topic}/delayed"))
    assert {name: page[name] for name in ("topic", "count", "limit", "skip")} == {
        "topic": topic,
        "count": 3,
        "limit": 100,
        "skip": 0,
    }
    assert [one["deliver_at"] for one in page["messages"]] == sorted(
        one["deliver_at"] for one in page["messages"]
    )
    last = page["messages"][-1]
    assert STAMP.fullmatch(last.pop("deliver_at"))
    assert last.pop("time_remaining").startswith("1h59m")
    assert last == {"topic": topic, "partition": 0, "offset": 0, "priority": "high", "state": "pending"}
    second = answered(api.get(f"/topics/{topic}/delayed", limit=1, skip=1))
    assert second["messages"][0]["offset"] == page["messages"][1]["offset"]


@pytest.mark.parametrize(
    ("query", "limit", "skip"),
    [
        ("limit=x&skip=y", 100, 0),
        ("limit=0&skip=-1", 100, 0),
        ("limit=-5", 100, 0),
        ("limit=5000", 1000, 0),
        ("limit=7&skip=3", 7, 3),
        (f"skip={2**62}", 100, 2**62),
    ],
)
def test_what_is_no_number_means_the_default(api: Topics, query: str, limit: int, skip: int) -> None:
    page = answered(api.get(f"/topics/{UNKNOWN}/delayed?{query}"))
    assert page == {"topic": UNKNOWN, "messages": [], "count": 0, "limit": limit, "skip": skip}


def test_one_is_found_by_its_offset(api: Topics) -> None:
    topic = api.create(partitions=2)
    api.publish(topic, *({"value": "x", "delay": "1h", "partition": p} for p in (1, 0)))
    assert answered(api.get(f"/topics/{topic}/delayed/0"))["partition"] == 0
    assert answered(api.get(f"/topics/{topic}/delayed/0", partition=1))["partition"] == 1
    refused(api.get(f"/topics/{topic}/delayed/1"), 404, "delayed message not found")
    refused(api.get(f"/topics/{topic}/delayed/0", partition=99999999999), 404, "delayed message not found")
    for offset in ("x", "-1", "1.0"):
        refused(api.get(f"/topics/{topic}/delayed/{offset}"), 400, "invalid offset")
    refused(api.get(f"/topics/{topic}/delayed/0", partition="x"), 400)
    refused(api.get(f"/topics/{UNKNOWN}/delayed/0"), 404)


def test_a_cancelled_message_is_never_seen(api: Topics) -> None:
    topic = api.create()
    group = a_group()
    api.publish(topic, {"value": "cancelled", "delay": "1h"}, "kept")
    assert answered(api.delete(f"/topics/{topic}/delayed/0/0")) == {
        "cancelled": True,
        "canceled": True,
        "topic": topic,
        "partition": 0,
        "offset": 0,
    }
    for partition, offset in ((0, 0), (0, 1), (0, 7), (5, 0), (2**40, 0)):
        answer = api.delete(f"/topics/{topic}/delayed/{partition}/{offset}")
        refused(answer, 404, "delayed message not found or already delivered")
    for path in ("x/0", "0/x", "-1/0"):
        refused(api.delete(f"/topics/{topic}/delayed/{path}"), 400)
    page = api.read(topic)
    assert [message["value"] for message in page["messages"]] == ["kept"]
    assert page["next_offset"] == 2
    member = api.join(group, topic)["member_id"]
    assert [message["value"] for message in api.poll(group, member, "2s")] == ["kept"]


def test_a_message_is_delivered_when_it_is_due(api: Topics) -> None:
    topic = api.create()
    group = a_group()
    member = api.join(group, topic)["member_id"]
    api.publish(topic, {"value": "soon", "delay": "400ms"})
    assert api.poll(group, member) == []
    [message] = api.poll(group, member, "20s")
    assert message["value"] == "soon"
    assert api.read(topic)["messages"][0]["offset"] == 0


def test_all_are_counted(own: Topics) -> None:
    topic = own.create()
    own.publish(topic, *({"value": "x", "delay": "1h"} for _ in range(3)))
    own.delete(f"/topics/{topic}/delayed/0/0")
    assert answered(own.get("/delay/stats")) == {
        "pending_count": 2,
        "delivered_count": 0,
        "cancelled_count": 1,
        "canceled_count": 1,
        "avg_delay": "0s",
        "total_scheduled": 3,
        "total_delivered": 0,
        "total_canceled": 1,
        "total_pending": 2,
        "by_topic": {topic: 2},
    }
