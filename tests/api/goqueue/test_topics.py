"""Topics and their partitions over HTTP. Contract: goqueue-messaging 3, 13."""

from __future__ import annotations

import threading

import pytest

from tests.api.goqueue.wire import STAMP, UNKNOWN, Topics, a_topic, answered, refused


class TestCreating:
    def test_a_topic_is_created_with_its_partitions(self, api: Topics) -> None:
        name = a_topic()
        body = answered(api.post("/topics", {"name": name, "num_partitions": 4}), 201)
        assert body == {"name": name, "partitions": 4, "created": True}

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"num_partitions": None, "retention_hours": None},
            {"num_partitions": 0, "retention_hours": 0},
            {"num_partitions": -2, "retention_hours": -1},
        ],
        ids=["absent", "null", "zero", "negative"],
    )
    def test_numbers_that_ask_for_nothing_mean_the_defaults(
        self, api: Topics, fields: dict[str, object]
    ) -> None:
        name = a_topic()
        assert answered(api.post("/topics", {"name": name, **fields}), 201)["partitions"] == 3
        assert answered(api.get(f"/topics/{name}"))["retention_hours"] == 168

    def test_the_other_name_of_the_number_counts_where_the_first_is_absent(self, api: Topics) -> None:
        assert answered(api.post("/topics", {"name": a_topic(), "partitions": 2}), 201)["partitions"] == 2
        both = {"name": a_topic(), "partitions": 2, "num_partitions": 5}
        assert answered(api.post("/topics", both), 201)["partitions"] == 5

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({}, "name is required"),
            ({"name": None}, "name is required"),
            ({"name": ""}, "name is required"),
            ({"name": "a/b"}, "invalid topic name"),
            ({"name": "."}, "invalid topic name"),
            ({"name": ".."}, "invalid topic name"),
            ({"name": "__internal"}, "invalid topic name"),
            ({"name": "é"}, "invalid topic name"),
            ({"name": "a\0b"}, "invalid JSON: a text holds a NUL"),
            ({"name": "x" * 250}, "invalid topic name"),
            ({"name": "x", "num_partitions": 1001}, "too many partitions"),
            ({"name": "x", "num_partitions": "3"}, "invalid JSON"),
            ({"name": "x", "num_partitions": 1.5}, "invalid JSON"),
            ({"name": "x", "num_partitions": True}, "invalid JSON"),
            ({"name": "x", "num_partitions": 10**30}, "too many partitions"),
            ({"name": 5}, "invalid JSON"),
            ({"name": "x", "retention_hours": 10**12}, ""),
            ([], "invalid JSON"),
            ("x", "invalid JSON"),
        ],
    )
    def test_what_cannot_be_created_is_refused(self, own: Topics, body: object, text: str) -> None:
        assert refused(own.post("/topics", body), 400)["error"].startswith(text)
        assert answered(own.get("/topics")) == {"topics": []}

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"nonsense", b"\xff", b'{"name":"a"}x', b'{"name":"\\ud800"}', b"[" * 5000]
    )
    def test_what_is_no_json_is_refused(self, api: Topics, content: bytes) -> None:
        answer = api.call("POST", "/topics", content=content)
        assert "jSON" not in refused(answer, 400, "invalid JSON")["error"]

    def test_dots_belong_to_names_and_unknown_keys_are_ignored(self, api: Topics) -> None:
        name = f"{a_topic()}.eu.dlq"
        answered(api.post("/topics", {"name": name, "replication_factor": 3, "x": {"y": []}}), 201)
        assert answered(api.get(f"/topics/{name}"))["name"] == name

    def test_a_name_is_taken_once(self, api: Topics) -> None:
        name = api.create()
        refused(api.post("/topics", {"name": name}), 409, "topic already exists")
        statuses: list[int] = []
        name = a_topic()
        racers = [
            threading.Thread(target=lambda: statuses.append(api.post("/topics", {"name": name}).status_code))
            for _ in range(6)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert sorted(statuses) == [201, 409, 409, 409, 409, 409]


class TestReadingTopics:
    def test_a_fresh_tenant_has_none_and_names_are_sorted(self, own: Topics) -> None:
        assert answered(own.get("/topics")) == {"topics": []}
        for name in ("b", "a.dlq", "a"):
            own.create(name=name)
        assert answered(own.get("/topics")) == {"topics": ["a", "a.dlq", "b"]}

    def test_details_tell_how_far_each_partition_reaches(self, api: Topics) -> None:
        name = api.create(partitions=3)
        fresh = answered(api.get(f"/topics/{name}"))
        assert STAMP.fullmatch(fresh.pop("created_at"))
        assert fresh == {
            "name": name,
            "partitions": 3,
            "total_messages": 0,
            "total_size_bytes": 0,
            "partition_offsets": {str(number): {"earliest": 0, "latest": -1} for number in range(3)},
            "retention_hours": 168,
        }
        api.publish(name, *({"value": "x", "partition": number} for number in (0, 0, 2)))
        api.publish(name, {"value": "later", "partition": 2, "delay": "1h"})
        details = answered(api.get(f"/topics/{name}"))
        assert details["total_messages"] == 4
        assert details["total_size_bytes"] > 0
        assert [reach["latest"] for reach in details["partition_offsets"].values()] == [1, -1, 1]

    def test_partitions_are_kept_here(self, api: Topics) -> None:
        name = api.create(partitions=2)
        body = answered(api.get(f"/topics/{name}/partitions"))
        node = body["partitions"][0]["leader"]
        assert body == {
            "topic": name,
            "partitions": [
                {"partition": number, "leader": node, "replicas": [node], "isr": [node], "version": 0}
                for number in range(2)
            ],
        }

    @pytest.mark.parametrize(
        "path", ["/topics/{}", "/topics/{}/partitions", "/admin/topics/{}/scaling-status", "/topics/%2e%2e"]
    )
    def test_an_unknown_topic_is_not_found(self, api: Topics, path: str) -> None:
        refused(api.get(path.format(UNKNOWN)), 404, "topic not found")


class TestDeleting:
    def test_a_deleted_topic_is_gone_and_its_successor_starts_clean(self, api: Topics) -> None:
        name = api.create()
        api.publish(name, "old")
        assert answered(api.delete(f"/topics/{name}")) == {"deleted": True, "name": name}
        refused(api.delete(f"/topics/{name}"), 404, "topic not found")
        refused(api.get(f"/topics/{name}"), 404, "topic not found")
        refused(api.post(f"/topics/{name}/messages", {"messages": [{"value": "x"}]}), 404, "topic not found")
        api.create(name=name)
        assert api.publish(name, "new")[0]["offset"] == 0
        assert [message["value"] for message in api.read(name)["messages"]] == ["new"]

    def test_the_dead_letters_of_a_topic_stay(self, api: Topics) -> None:
        name = api.create()
        api.create(name=f"{name}.dlq")
        answered(api.delete(f"/topics/{name}"))
        answered(api.get(f"/topics/{name}.dlq"))


class TestAddingPartitions:
    def test_partitions_are_added_up_to_a_number(self, api: Topics) -> None:
        name = api.create(partitions=3)
        body = answered(
            api.post(f"/admin/topics/{name}/partitions", {"count": 5, "replica_assignments": None})
        )
        assert body == {
            "success": True,
            "topic_name": name,
            "old_partition_count": 3,
            "new_partition_count": 5,
            "partitions_added": [3, 4],
        }
        assert answered(api.get(f"/topics/{name}"))["partitions"] == 5
        assert api.publish(name, {"value": "x", "partition": 4})[0]["offset"] == 0
        assert answered(api.get(f"/admin/topics/{name}/scaling-status")) == {
            "topic": name,
            "scaling_in_progress": False,
        }

    @pytest.mark.parametrize(
        "body", [{}, {"count": None}, {"count": 0}, {"count": -1}, {"count": 3}, {"count": 1001}]
    )
    def test_other_numbers_are_refused_in_the_same_shape(self, api: Topics, body: dict[str, object]) -> None:
        name = api.create(partitions=3)
        answer = refused(api.post(f"/admin/topics/{name}/partitions", body), 400)
        assert answer == {
            "success": False,
            "topic_name": name,
            "old_partition_count": 3,
            "new_partition_count": 3,
            "partitions_added": [],
            "error": answer["error"],
            "status": 400,
        }

    def test_an_unknown_topic_is_refused_in_the_same_shape(self, api: Topics) -> None:
        answer = refused(
            api.post(f"/admin/topics/{UNKNOWN}/partitions", {"count": 5}), 404, "topic not found"
        )
        assert answer["success"] is False
        assert answer["partitions_added"] == []

    def test_wrong_types_are_refused(self, api: Topics) -> None:
        name = api.create()
        refused(api.post(f"/admin/topics/{name}/partitions", {"count": "5"}), 400, "invalid JSON")
        refused(api.post("/admin/topics/__internal/partitions", {"count": 5}), 400)
