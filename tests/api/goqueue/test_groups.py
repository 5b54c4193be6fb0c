"""Consumer groups over HTTP. Contract: goqueue-messaging 7, 12."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.goqueue.wire import STAMP, UNKNOWN, Topics, a_group, answered, refused
from tests.api.spooled.wire import JsonObject


@pytest.fixture(scope="module")
def topic(api: Topics) -> str:
    return api.create(partitions=3)


class TestJoining:
    def test_a_member_is_told_all_that_clients_read(self, api: Topics, topic: str) -> None:
        group = a_group()
        body = api.join(group, topic, client_id="worker-1", session_timeout="90s")
        member = body["member_id"]
        assert member.startswith("worker-1-")
        assert body == {
            "member_id": member,
            "generation": 1,
            "leader": True,
            "leader_id": member,
            "assigned_partitions": [f"{topic}-0", f"{topic}-1", f"{topic}-2"],
            "rebalance_required": False,
            "partitions": [0, 1, 2],
            "members": [member],
            "session_timeout": "1m30s",
            "protocol": "eager",
            "state": "stable",
        }

    def test_joins_at_the_same_time_are_answered_together(self, api: Topics) -> None:
        topic = api.create(partitions=6)
        group = a_group()
        with ThreadPoolExecutor(3) as executor:
            joins = [executor.submit(api.join, group, topic, client_id=f"worker-{n}") for n in range(3)]
            bodies = [join.result() for join in joins]
        assert {body["generation"] for body in bodies} == {1}
        assigned = [label for body in bodies for label in body["assigned_partitions"]]
        assert sorted(assigned) == [f"{topic}-{n}" for n in range(6)]
        assert [len(body["assigned_partitions"]) for body in bodies] == [2, 2, 2]
        assert sum(body["leader"] for body in bodies) == 1

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"client_id": None}, "client_id is required"),
            ({"client_id": ""}, "client_id is required"),
            ({"client_id": "x" * 256}, "invalid client_id"),
            ({"client_id": "a\nb"}, "invalid client_id"),
            ({"client_id": "a\0b"}, "invalid JSON"),
            ({"client_id": 5}, "invalid JSON"),
            ({"topics": None}, "at least one topic is required"),
            ({"topics": []}, "at least one topic is required"),
            ({"topics": "t"}, "invalid JSON"),
            ({"topics": [1]}, "invalid JSON"),
            ({"session_timeout": "30"}, "invalid session_timeout"),
            ({"session_timeout": "0s"}, "invalid session_timeout"),
            ({"session_timeout": "-1s"}, "invalid session_timeout"),
            ({"session_timeout": "1h1s"}, "invalid session_timeout"),
            ({"session_timeout": 30}, "invalid JSON"),
            ({"auto_offset_reset": "sometimes"}, "invalid auto_offset_reset"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_refused(self, api: Topics, topic: str, fields: JsonObject, text: str) -> None:
        group = a_group()
        body = {"client_id": "w", "topics": [topic], **fields}
        for path in ("join", "join/cooperative"):
            refused(api.post(f"/groups/{group}/{path}", body), 400, text)
        refused(api.get(f"/groups/{group}"), 404, "group not found")

    def test_topics_must_exist_and_groups_have_good_names(self, api: Topics, topic: str) -> None:
        body = {"client_id": "w", "topics": [topic, UNKNOWN]}
        refused(api.post(f"/groups/{a_group()}/join", body), 404, f"topic not found: {UNKNOWN}")
        for name in ("__internal", "%C3%A9", "a%20b", "%2e", "%ff", "x" * 256):
            for path in ("join", "join/cooperative"):
                answer = api.post(f"/groups/{name}/{path}", {"client_id": "w", "topics": [topic]})
                refused(answer, 400, "invalid group id")

    def test_a_member_comes_back_as_itself(self, api: Topics, topic: str) -> None:
        group = a_group()
        first = api.join(group, topic)
        again = api.join(group, topic, member_id=first["member_id"])
        assert again["member_id"] == first["member_id"]
        assert api.join(group, topic, member_id="worker-unknown")["member_id"] != "worker-unknown"


class TestMembers:
    def test_a_heartbeat_compares_assignments(self, api: Topics, topic: str) -> None:
        group = a_group()
        first = api.join(group, topic)

        def beat(generation: object = None) -> JsonObject:
            body = {"member_id": first["member_id"], "generation": generation}
            return answered(api.post(f"/groups/{group}/heartbeat", body))

        assert beat(first["generation"]) == {
            "rebalance_required": False,
            "state": "stable",
            "status": "ok",
            "generation": 1,
            "assigned_partitions": first["assigned_partitions"],
            "partitions": [0, 1, 2],
        }
        second = api.join(group, topic, client_id="other")
        assert beat(first["generation"])["rebalance_required"] is True
        assert beat()["rebalance_required"] is False
        assert beat(0)["generation"] == second["generation"]
        answered(api.post(f"/groups/{group}/leave", {"member_id": second["member_id"]}))
        assert beat(first["generation"])["rebalance_required"] is False

    def test_who_is_unknown_or_ahead_is_refused(self, api: Topics, topic: str) -> None:
        group = a_group()
        member = api.join(group, topic)["member_id"]
        for path in ("heartbeat", "leave", "heartbeat/cooperative", "leave/cooperative", "revoke"):
            url = f"/groups/{group}/{path}"
            refused(api.post(url, {"generation": 1}), 400, "member_id is required")
            refused(api.post(url, {"member_id": ""}), 400, "member_id is required")
            refused(api.post(url, {"member_id": 1}), 400, "invalid JSON")
            refused(api.post(url, {"member_id": UNKNOWN}), 404, "member not found (may have been evicted)")
            refused(api.post(f"/groups/{UNKNOWN}/{path}", {"member_id": member}), 404, "group not found")
        for path in ("heartbeat", "heartbeat/cooperative"):
            refused(api.post(f"/groups/{group}/{path}", {"member_id": member, "generation": 100}), 409)
            body = {"member_id": member, "generation": 10**30}
            refused(api.post(f"/groups/{group}/{path}", body), 409)

    def test_who_leaves_is_gone(self, api: Topics, topic: str) -> None:
        group = a_group()
        member = api.join(group, topic)["member_id"]
        assert answered(api.post(f"/groups/{group}/leave", {"member_id": member})) == {
            "left": True,
            "status": "left",
        }
        refused(api.post(f"/groups/{group}/leave", {"member_id": member}), 404)
        assert answered(api.get(f"/groups/{group}"))["state"] == "dead"


class TestReadingGroups:
    def test_groups_are_listed_by_name(self, own: Topics) -> None:
        assert answered(own.get("/groups")) == {"groups": [], "group_details": []}
        topic = own.create()
        for name in ("b", "a"):
            own.join(name, topic)
        body = answered(own.get("/groups"))
        assert body["groups"] == ["a", "b"]
        assert body["group_details"][0] == {
            "id": "a",
            "state": "stable",
            "members": 1,
            "generation": 1,
            "topics": [topic],
        }

    def test_a_group_shows_its_members(self, api: Topics, topic: str) -> None:
        group = a_group()
        member = api.join(group, topic)["member_id"]
        body = answered(api.get(f"/groups/{group}"))
        assert STAMP.fullmatch(body.pop("created_at"))
        [shown] = body.pop("members")
        assert STAMP.fullmatch(shown.pop("last_heartbeat"))
        assert STAMP.fullmatch(shown.pop("joined_at"))
        assert shown == {
            "member_id": member,
            "id": member,
            "client_id": "worker",
            "assigned_partitions": [f"{topic}-0", f"{topic}-1", f"{topic}-2"],
            "partitions": [0, 1, 2],
            "topics": [topic],
            "session_timeout": "30s",
        }
        assert body == {
            "group_id": group,
            "id": group,
            "state": "stable",
            "generation": 1,
            "protocol": "eager",
            "topics": [topic],
        }
        assert answered(api.get(f"/groups/{group}/cooperative"))["group_id"] == group

    def test_a_deleted_group_is_gone_for_its_members_too(self, api: Topics, topic: str) -> None:
        group = a_group()
        member = api.join(group, topic)["member_id"]
        assert answered(api.delete(f"/groups/{group}")) == {
            "deleted": True,
            "group": group,
            "group_id": group,
        }
        for answer in (
            api.delete(f"/groups/{group}"),
            api.get(f"/groups/{group}"),
            api.post(f"/groups/{group}/heartbeat", {"member_id": member}),
            api.get(f"/groups/{group}/poll", member_id=member, timeout="0"),
            api.get("/groups/%00"),
        ):
            refused(answer, 404, "group not found")

    def test_a_group_goes_on_without_a_deleted_topic(self, api: Topics) -> None:
        kept, deleted = api.create(), api.create()
        group = a_group()
        member = api.join(group, deleted, kept)["member_id"]
        answered(api.delete(f"/topics/{deleted}"))
        body = answered(api.get(f"/groups/{group}"))
        assert body["topics"] == [kept]
        assert body["members"][0]["assigned_partitions"] == [f"{kept}-0"]
        assert body["generation"] == 2
        assert api.poll(group, member) == []

    def test_added_partitions_are_assigned(self, api: Topics) -> None:
        topic = api.create()
        group = a_group()
        api.join(group, topic)
        answered(api.post(f"/admin/topics/{topic}/partitions", {"count": 2}))
        [member] = answered(api.get(f"/groups/{group}"))["members"]
        assert member["assigned_partitions"] == [f"{topic}-0", f"{topic}-1"]


class TestCooperativeGroups:
    def test_partitions_move_one_by_one(self, api: Topics) -> None:
        topic = api.create(partitions=2)
        group = a_group()

        def call(path: str, **body: object) -> JsonObject:
            return answered(api.post(f"/groups/{group}/{path}", body))

        def join(client_id: str) -> JsonObject:
            return call("join/cooperative", client_id=client_id, topics=[topic], protocol="cooperative")

        first = join("a")
        one = first["member_id"]
        assert first == {
            "member_id": one,
            "generation": 1,
            "leader_id": one,
            "rebalance_required": True,
            "protocol": "cooperative",
            "members": [one],
        }
        both = [{"topic": topic, "partition": 0}, {"topic": topic, "partition": 1}]
        assert call("heartbeat/cooperative", member_id=one, generation=1)["partitions_assigned"] == both
        joined = join("b")
        two = joined["member_id"]
        waiting = call("heartbeat/cooperative", member_id=one, generation=1)
        assert waiting["state"] == "pending_revoke"
        assert waiting["rebalance_required"] is True
        assert STAMP.fullmatch(waiting["revocation_deadline"])
        [revoked] = waiting["partitions_to_revoke"]
        body = {"member_id": one, "generation": waiting["generation"], "revoked_partitions": [revoked]}
        assert call("revoke", **body) == {
            "status": "acknowledged",
            "pending_count": 0,
            "rebalance_state": "pending_assign",
        }
        for member in (one, two):
            beat = call("heartbeat/cooperative", member_id=member, generation=joined["generation"])
            assert len(beat["partitions_assigned"]) == 1
        assert (
            call("heartbeat/cooperative", member_id=two, generation=joined["generation"])["state"]
            == "complete"
        )
        assigned = answered(api.get(f"/groups/{group}/assignment", member_id=two))
        assert assigned == {"member_id": two, "generation": joined["generation"], "partitions": [revoked]}
        status = answered(api.get(f"/groups/{group}/cooperative"))
        assert status["member_assignments"][two] == [revoked]
        assert (status["protocol"], status["assignment_strategy"]) == ("cooperative", "sticky")
        statistics = answered(api.get(f"/groups/{group}/rebalance/stats"))
        assert status["rebalance_metrics"] == statistics
        assert statistics["total_rebalances"] == 2
        assert statistics["rebalances_by_reason"]["member_joined"] == 2
        refused(api.post(f"/groups/{group}/revoke", body), 409)
        assert call("leave/cooperative", member_id=two) == {"left": True, "status": "left"}

    def test_a_group_has_one_protocol_at_a_time(self, api: Topics, topic: str) -> None:
        eager, cooperative = a_group(), a_group()
        body = {"client_id": "w", "topics": [topic]}
        answered(api.post(f"/groups/{eager}/join", body))
        answered(api.post(f"/groups/{cooperative}/join/cooperative", body))
        refused(api.post(f"/groups/{eager}/join/cooperative", body), 409)
        refused(api.post(f"/groups/{cooperative}/join", body), 409)
        refused(api.post(f"/groups/{cooperative}/join/cooperative", {**body, "protocol": "other"}), 400)
        asked = answered(api.post(f"/groups/{eager}/join/cooperative", {**body, "protocol": "eager"}))
        assert asked["protocol"] == "eager"
        assert isinstance(asked["assigned_partitions"], list)

    def test_statistics_are_those_of_the_tenant(self, own: Topics) -> None:
        body = answered(own.get("/rebalance/stats"))
        assert body["total_rebalances"] == 0
        assert "last_rebalance_at" not in body
        assert set(body["rebalances_by_reason"]) == {
            "member_joined",
            "member_left",
            "member_timeout",
            "partitions_changed",
        }
        refused(own.get(f"/groups/{UNKNOWN}/rebalance/stats"), 404, "group not found")
        refused(own.get(f"/groups/{UNKNOWN}/assignment"), 400, "member_id is required")
        refused(own.get(f"/groups/{UNKNOWN}/assignment", member_id="x"), 404, "group not found")
