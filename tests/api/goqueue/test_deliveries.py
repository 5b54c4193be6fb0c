"""Polls, acknowledgements and positions over HTTP. Contract: goqueue-messaging 8 to 11."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.goqueue.wire import STAMP, UNKNOWN, Topics, a_group, answered, refused
from tests.api.spooled.wire import JsonObject


class Consumer:
    """A member of a group of its own on a topic of its own with one partition."""

    def __init__(self, api: Topics, *messages: str | JsonObject, partitions: int = 1) -> None:
        self.api = api
        self.topic = api.create(partitions)
        self.group = a_group()
        self.member: str = api.join(self.group, self.topic)["member_id"]
        if messages:
            api.publish(self.topic, *messages)

    def poll(self, timeout: str = "0", **params: str | int) -> list[JsonObject]:
        return self.api.poll(self.group, self.member, timeout, **params)

    def poll_url(self, query: str) -> str:
        return f"/groups/{self.group}/poll?{query}"

    @property
    def offsets(self) -> JsonObject:
        return answered(self.api.get(f"/groups/{self.group}/offsets"))["offsets"].get(self.topic, {})


def settle(api: Topics, word: str, message: JsonObject, **fields: object) -> JsonObject:
    return answered(api.post(f"/messages/{word}", {"receipt_handle": message["receipt_handle"], **fields}))


class TestPolling:
    def test_a_message_shows_all_that_it_has(self, api: Topics) -> None:
        consumer = Consumer(
            api, {"value": "x", "key": "k", "headers": {"a": "b"}, "priority": "high"}, "bare"
        )
        begun = datetime.now(UTC)
        body = answered(api.get(consumer.poll_url(f"member_id={consumer.member}&timeout=5s")))
        full, bare = body["messages"]
        assert (body["generation"], body["rebalance_required"]) == (1, False)
        assert STAMP.fullmatch(full.pop("timestamp"))
        deadline = datetime.fromisoformat(full.pop("visibility_deadline"))
        assert timedelta(seconds=28) < deadline - begun < timedelta(seconds=60)
        receipt = full.pop("receipt_handle")
        assert len(receipt) <= 512
        assert receipt != bare["receipt_handle"]
        assert full == {
            "topic": consumer.topic,
            "partition": 0,
            "offset": 0,
            "key": "k",
            "value": "x",
            "headers": {"a": "b"},
            "priority": "high",
            "delivery_count": 1,
        }
        assert "key" not in bare
        assert "headers" not in bare
        assert consumer.poll() == []

    def test_pages_count_over_all_partitions_by_either_name(self, api: Topics) -> None:
        consumer = Consumer(api, *"abcdef", partitions=3)
        assert len(consumer.poll(max_messages=2)) == 2
        assert len(consumer.poll(limit=1)) == 1
        assert len(consumer.poll(limit=1, max_messages=2)) == 2
        assert len(consumer.poll(max_messages=99999)) == 1

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("", "member_id query param is required"),
            ("member_id=", "member_id query param is required"),
            ("member_id=x&max_messages=0", "invalid max_messages"),
            ("member_id=x&max_messages=x", "invalid max_messages"),
            ("member_id=x&limit=-1", "invalid max_messages"),
            ("member_id=x&timeout=30", "invalid timeout format"),
            ("member_id=x&timeout=", "invalid timeout format"),
            ("member_id=x&generation=x", "invalid generation"),
            ("member_id=%00", ""),
        ],
    )
    def test_what_is_wrong_in_a_query_is_refused(self, api: Topics, query: str, text: str) -> None:
        refused(api.get(f"/groups/{UNKNOWN}/poll?{query}"), 400, text or None)

    def test_who_is_unknown_or_ahead_is_refused(self, api: Topics) -> None:
        consumer = Consumer(api)
        refused(api.get(f"/groups/{UNKNOWN}/poll", member_id=consumer.member), 404, "group not found")
        refused(api.get(consumer.poll_url("member_id=x")), 404, "member not found")
        for generation in (2, 2**62):
            query = f"member_id={consumer.member}&generation={generation}&timeout=0"
            refused(api.get(consumer.poll_url(query)), 409)
        assert consumer.poll(generation=1) == []

    def test_a_held_poll_ends_when_something_comes(self, api: Topics) -> None:
        consumer = Consumer(api)
        with ThreadPoolExecutor(1) as executor:
            held = executor.submit(consumer.poll, "20s")
            api.publish(consumer.topic, "now")
            assert [message["value"] for message in held.result(15)] == ["now"]
        assert consumer.poll("-1s") == []

    def test_the_critical_message_comes_first_from_whatever_partition(self, api: Topics) -> None:
        messages: list[JsonObject] = [
            {"value": w, "priority": w} for w in ("background", "normal", "critical")
        ]
        consumer = Consumer(api, *messages, partitions=3)
        assert [message["value"] for message in consumer.poll()] == ["critical", "normal", "background"]


class TestSettling:
    def test_acknowledged_messages_move_the_position(self, api: Topics) -> None:
        consumer = Consumer(api, "a", "b", "c")
        one, two, three = consumer.poll()
        expected = {"acknowledged": True, "success": True, "topic": consumer.topic, "partition": 0}
        assert api.ack(two) == expected | {
            "offset": 1,
            "committed_offset": -1,
            "offset_advanced": False,
            "in_flight_count": 2,
        }
        assert api.ack(one) == expected | {
            "offset": 0,
            "committed_offset": 1,
            "offset_advanced": True,
            "in_flight_count": 1,
        }
        assert settle(api, "ack", three, consumer_id=None)["in_flight_count"] == 0
        assert consumer.offsets == {"0": 3}
        for word in ("nack", "reject"):
            refused(
                api.post(f"/messages/{word}", {"receipt_handle": one["receipt_handle"]}),
                404,
                "message not found or already processed",
            )

    def test_a_repeated_call_is_answered_as_the_first_one(self, api: Topics) -> None:
        consumer = Consumer(api, *"abcd")
        first, second, third, fourth = consumer.poll()
        for word, message, fields in (
            ("ack", first, {}),
            ("ack", third, {}),
            ("nack", second, {"delay": "1h"}),
            ("reject", fourth, {"reason": "no"}),
        ):
            assert settle(api, word, message, **fields) == settle(api, word, message, **fields)
        assert settle(api, "ack", first)["offset_advanced"] is True
        assert settle(api, "ack", third)["offset_advanced"] is False

    def test_a_nacked_message_comes_again_after_its_delay(self, api: Topics) -> None:
        consumer = Consumer(api, "a", "b")
        one, two = consumer.poll()
        now = settle(api, "nack", one, delay="0s", reason="not yet \0")
        assert STAMP.fullmatch(now.pop("next_visible_at"))
        assert now == {
            "requeued": True,
            "success": True,
            "action": "requeued",
            "topic": consumer.topic,
            "partition": 0,
            "offset": 0,
            "delivery_count": 1,
        }
        begun = datetime.now(UTC)
        later = settle(api, "nack", two, delay="1h30m")
        assert datetime.fromisoformat(later["next_visible_at"]) - begun > timedelta(minutes=89)
        [again] = consumer.poll("5s")
        assert (again["offset"], again["delivery_count"]) == (0, 2)
        # It was used, and it was superseded: either is told.
        answer = api.post("/messages/ack", {"receipt_handle": one["receipt_handle"]})
        assert answer.status_code in {404, 410}
        refused(api.post("/messages/ack", {"receipt_handle": two["receipt_handle"]}), 404)

    def test_the_last_failure_makes_a_dead_letter(self, api: Topics) -> None:
        consumer = Consumer(api, {"value": "x", "key": "k"})
        for count in (1, 2, 3):
            [message] = consumer.poll("5s")
            assert message["delivery_count"] == count
            body = settle(api, "nack", message, delay="0s", reason="broken")
        assert body == {
            "requeued": False,
            "success": True,
            "action": "dlq",
            "topic": consumer.topic,
            "partition": 0,
            "offset": 0,
            "delivery_count": 3,
            "next_visible_at": None,
            "dlq_topic": f"{consumer.topic}.dlq",
        }
        [dead] = api.read(f"{consumer.topic}.dlq")["messages"]
        record = json.loads(dead["value"])
        assert (record["reason"], record["last_error"]) == ("MAX_RETRIES_EXCEEDED", "broken")
        assert (record["original_value"], record["original_key"], dead["key"]) == ("x", "k", "k")
        assert dead["headers"]["x-goqueue-dlq-reason"] == "MAX_RETRIES_EXCEEDED"

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [({}, ""), ({"reason": None}, ""), ({"reason": ""}, ""), ({"reason": "no"}, "no")],
    )
    def test_a_rejected_message_is_a_dead_letter_at_once(
        self, api: Topics, fields: JsonObject, reason: str
    ) -> None:
        consumer = Consumer(api, "x")
        [message] = consumer.poll()
        assert settle(api, "reject", message, **fields) == {
            "rejected": True,
            "success": True,
            "action": "rejected",
            "dlq_topic": f"{consumer.topic}.dlq",
            "topic": consumer.topic,
            "partition": 0,
            "offset": 0,
            "reason": reason,
        }
        assert consumer.offsets == {"0": 1}

    def test_a_lease_is_moved_by_either_spelling(self, api: Topics) -> None:
        consumer = Consumer(api, "x")
        [message] = consumer.poll()
        for fields, seconds in (
            ({"timeout": "90s"}, 90),
            ({"extension_seconds": 60, "timeout": None}, 60),
            ({"timeout": "12h"}, 43_200),
            ({"timeout": "1.5s", "extension_seconds": 99}, 1),
        ):
            begun = datetime.now(UTC)
            body = settle(api, "visibility", message, **fields)
            deadline = datetime.fromisoformat(body.pop("new_deadline"))
            assert timedelta(seconds=seconds - 1) < deadline - begun < timedelta(seconds=seconds + 30)
            assert body == {"extended": True, "success": True, "extended_by": seconds}

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"timeout": ""},
            {"timeout": "0s"},
            {"timeout": "-1s"},
            {"timeout": "12h1s"},
            {"timeout": "60"},
            {"extension_seconds": 0},
            {"extension_seconds": -1},
            {"extension_seconds": 10**25},
        ],
        ids=str,
    )
    def test_other_times_are_refused(self, api: Topics, fields: JsonObject) -> None:
        refused(api.post("/messages/visibility", {"receipt_handle": "x" * 40, **fields}), 400)

    @pytest.mark.parametrize("word", ["ack", "nack", "reject", "visibility"])
    def test_receipts_are_refused_by_what_is_wrong_with_them(self, api: Topics, word: str) -> None:
        valid = Consumer(api, "x").poll()[0]["receipt_handle"]
        unknown = valid[:-14] + ("A" if valid[-14] != "A" else "B") + valid[-13:]

        def answer(receipt: object) -> JsonObject:
            body = {"receipt_handle": receipt, "timeout": "10s"}
            response = api.post(f"/messages/{word}", body)
            return refused(response, response.status_code)

        for missing in (None, "", 5, True, ["x"], {}):
            assert answer(missing) == {"error": "receipt_handle is required", "status": 400}
        for malformed in ("x", "a:0:1:2:0123456789abcdef", "x" * 5000, "é" * 40, valid + "A", valid[:-1]):
            assert answer(malformed) == {"error": "invalid receipt handle format", "status": 400}
        assert answer(unknown) == {"error": "message not found or already processed", "status": 404}

    def test_a_delay_must_be_one(self, api: Topics) -> None:
        [message] = Consumer(api, "x").poll()
        for delay in ("-1s", "30", "", "200h"):
            body = {"receipt_handle": message["receipt_handle"], "delay": delay}
            refused(api.post("/messages/nack", body), 400)
        api.ack(message)

    def test_many_are_acknowledged_each_by_itself(self, api: Topics) -> None:
        consumer = Consumer(api, *(str(n) for n in range(50)))
        receipts = [message["receipt_handle"] for message in consumer.poll()]
        body = answered(api.post("/messages/ack/batch", {"receipt_handles": [*receipts, "x", receipts[0]]}))
        assert body["success_count"] == 51
        assert body["failures"] == [
            {"receipt_handle": "x", "error": "invalid receipt handle format", "status": 400}
        ]
        assert consumer.offsets == {"0": 50}
        for refusable in (None, [], ["x"] * 1001, [1], "x"):
            refused(api.post("/messages/ack/batch", {"receipt_handles": refusable}), 400)


class TestPositions:
    def test_positions_are_told_by_topic(self, api: Topics) -> None:
        consumer = Consumer(api, "a", partitions=2)
        api.ack(consumer.poll()[0])
        body = answered(api.get(f"/groups/{consumer.group}/offsets"))
        assert STAMP.fullmatch(body.pop("updated_at"))
        offsets = {consumer.topic: {"0": 1}}
        assert body == {"group_id": consumer.group, "offsets": offsets, "topics": offsets, "generation": 1}
        assert answered(api.get(f"/groups/{consumer.group}/offsets", topic="other"))["offsets"] == {}
        unknown = answered(api.get(f"/groups/{UNKNOWN}/offsets"))
        assert (unknown["offsets"], unknown["topics"]) == ({}, {})

    def test_a_commit_settles_what_is_below(self, api: Topics) -> None:
        consumer = Consumer(api, *"abcd")
        url = f"/groups/{consumer.group}/offsets"
        body: JsonObject = {
            "member_id": consumer.member,
            "offsets": {consumer.topic: {"0": 3}},
            "generation": None,
        }
        assert answered(api.post(url, body)) == {
            "committed": True,
            "status": "committed",
            "group": consumer.group,
            "offsets": body["offsets"],
        }
        assert [message["value"] for message in consumer.poll()] == ["d"]
        listed = [{"topic": consumer.topic, "partition": 0, "offset": 0, "metadata": ""}]
        answered(api.post(url, {**body, "offsets": listed, "generation": 1}))
        assert [message["value"] for message in consumer.poll()] == ["a", "b", "c"]
        answered(api.post(url, {**body, "offsets": {consumer.topic: {"0": 100}}}))

    def test_other_commits_are_refused_whole(self, api: Topics) -> None:
        consumer = Consumer(api, "a")
        url = f"/groups/{consumer.group}/offsets"
        good = {consumer.topic: {"0": 1}}
        for body, status, text in (
            ({"offsets": good}, 400, "member_id is required"),
            ({"member_id": consumer.member}, 400, "offsets are required"),
            ({"member_id": consumer.member, "offsets": {}}, 400, "offsets are required"),
            ({"member_id": consumer.member, "offsets": {consumer.topic: {}}}, 400, "offsets are required"),
            ({"member_id": consumer.member, "offsets": {consumer.topic: {"x": 1}}}, 400, "invalid partition"),
            ({"member_id": consumer.member, "offsets": {consumer.topic: {"0": -1}}}, 400, "invalid offset"),
            (
                {"member_id": consumer.member, "offsets": {consumer.topic: {"0": 2**63}}},
                400,
                "invalid offset",
            ),
            ({"member_id": consumer.member, "offsets": {consumer.topic: {"0": "1"}}}, 400, "invalid JSON"),
            ({"member_id": "x", "offsets": good}, 404, "member not found"),
            (
                {"member_id": consumer.member, "offsets": {consumer.topic: {"0": 1, "7": 1}}},
                403,
                "partition not assigned to this member",
            ),
            ({"member_id": consumer.member, "offsets": {"other": {"0": 1}}}, 403, "partition not assigned"),
            ({"member_id": consumer.member, "offsets": good, "generation": 9}, 409, ""),
        ):
            refused(api.post(url, body), status, text or None)
        refused(
            api.post(f"/groups/{UNKNOWN}/offsets", {"member_id": "x", "offsets": good}),
            404,
            "group not found",
        )
        assert consumer.offsets == {}

    def test_a_reset_sends_a_group_back(self, api: Topics) -> None:
        consumer = Consumer(api, *"abc")
        [first, *_] = consumer.poll()
        url = f"/groups/{consumer.group}/offsets/reset"

        def reset(**fields: object) -> JsonObject:
            return answered(api.post(url, {"topic": consumer.topic, **fields}))

        assert reset(strategy="earliest", partition=-1) == {
            "group_id": consumer.group,
            "reset_count": 1,
            "new_offsets": [{"topic": consumer.topic, "partition": 0, "offset": 0}],
        }
        refused(api.post("/messages/ack", {"receipt_handle": first["receipt_handle"]}), 410)
        assert len(consumer.poll()) == 3
        assert reset(strategy="offset", offset=1)["new_offsets"][0]["offset"] == 1
        assert reset(strategy="latest", dry_run=True)["new_offsets"][0]["offset"] == 3
        assert [message["value"] for message in consumer.poll()] == ["b", "c"]
        assert reset(strategy="latest")["new_offsets"][0]["offset"] == 3
        assert reset(strategy="timestamp", timestamp=first["timestamp"])["new_offsets"][0]["offset"] == 0
        seeded = answered(
            api.post(f"/groups/{a_group()}/offsets/reset", {"topic": consumer.topic, "strategy": "latest"})
        )
        assert seeded["reset_count"] == 1

    def test_other_resets_are_refused(self, api: Topics) -> None:
        consumer = Consumer(api)
        url = f"/groups/{consumer.group}/offsets/reset"
        for fields, status in (
            ({"topic": None}, 400),
            ({"topic": UNKNOWN}, 404),
            ({"strategy": None}, 400),
            ({"strategy": "newest"}, 400),
            ({"strategy": "timestamp"}, 400),
            ({"strategy": "timestamp", "timestamp": "soon"}, 400),
            ({"strategy": "offset"}, 400),
            ({"strategy": "offset", "offset": -1}, 400),
            ({"strategy": "offset", "offset": 2**63}, 400),
            ({"partition": 1}, 404),
            ({"partition": -2}, 404),
            ({"partition": 2**40}, 404),
            ({"partition": "0"}, 400),
            ({"dry_run": "yes"}, 400),
        ):
            refused(api.post(url, {"topic": consumer.topic, "strategy": "latest", **fields}), status)
        body = {"topic": consumer.topic, "strategy": "latest", "partition": 1}
        refused(api.post(url, body), 404, "partition 1 not found")
        refused(api.post(url, {**body, "topic": UNKNOWN}), 404, "topic not found")

    @pytest.mark.parametrize("name", ["a%20b", "__internal", "%2e", "%ff", "x" * 256])
    def test_a_reset_makes_no_group_that_nobody_could_join(self, own: Topics, name: str) -> None:
        body = {"topic": own.create(), "strategy": "latest"}
        refused(own.post(f"/groups/{name}/offsets/reset", body), 400, "invalid group id")
        assert answered(own.get("/groups"))["groups"] == []


class TestStatistics:
    def test_what_became_of_deliveries_is_counted(self, own: Topics) -> None:
        consumer = Consumer(own, *"abcd")
        one, two, three, four = consumer.poll()
        own.ack(one)
        settle(own, "nack", two, delay="1h")
        settle(own, "reject", three)
        settle(own, "visibility", four, timeout="60s")
        body = answered(own.get("/reliability/stats"))
        assert body == {
            "acks_total": 1,
            "nacks_total": 1,
            "rejects_total": 1,
            "dlq_messages": 1,
            "visibility_extensions": 1,
            "ack_manager": {
                "total_acks": 1,
                "total_nacks": 1,
                "total_rejects": 1,
                "total_expired": 0,
                "total_retries": body["ack_manager"]["total_retries"],
                "total_dlq": 1,
                "current_queued": 1,
            },
            "visibility_tracker": {
                "total_tracked": 4,
                "current_in_flight": 1,
                "total_expired": 0,
                "total_acked": 1,
                "total_extended": 1,
            },
            "dlq": {
                "total_routed": 1,
                "routes_by_reason": {"REJECTED": 1},
                "routes_by_topic": {consumer.topic: 1},
                "create_errors": 0,
                "publish_errors": 0,
            },
        }

    def test_messages_are_counted_by_priority(self, own: Topics) -> None:
        consumer = Consumer(own, {"value": "x", "priority": "critical"}, "y", "z")
        own.ack(consumer.poll(max_messages=1)[0])
        body = answered(own.get("/priority/stats"))
        words = ["critical", "high", "normal", "low", "background"]
        assert body["messages_by_priority"] == dict(zip(words, [1, 0, 2, 0, 0], strict=True))
        assert list(body["avg_wait_time_by_priority"]) == words
        assert body["avg_wait_time_by_priority"]["low"] == "0s"
        assert body["total_by_priority"] == [1, 0, 2, 0, 0]
        [partition] = body["topics"][consumer.topic]["partitions"].values()
        assert partition["total"] == [1, 0, 2, 0, 0]
        assert partition["consumed"] == [1, 0, 0, 0, 0]
        assert partition["pending"] == [0, 0, 2, 0, 0]
        assert STAMP.fullmatch(partition["oldest_pending"][2])
        assert partition["oldest_pending"][1] == ""
