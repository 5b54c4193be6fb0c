"""What may join, and how generations are judged. Contract: goqueue-messaging 1.5, 7.4, 7.5."""

import pytest

from millstream.domain.consumer_group import (
    ASSIGNMENT_CHANGES_KEPT,
    AssignmentChange,
    GroupState,
    JoinRequest,
    TopicPartition,
    check_generation,
    check_group_name,
    check_join,
    needs_rejoin,
    require_member_id,
    state_of,
    with_assignment,
)
from millstream.domain.errors import BadRequest, Conflict


@pytest.mark.parametrize("name", ["g", "orders.v2_a-b", "x" * 255, "_one"])
def test_a_group_may_be_called(name: str) -> None:
    assert check_group_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "__x", "a/b", "a b", "é", "x" * 256, "a\n"])
def test_a_group_may_not_be_called(name: str) -> None:
    with pytest.raises(BadRequest, match="invalid group id"):
        check_group_name(name)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (JoinRequest(client_id="", topics=["t"]), "client_id is required"),
        (JoinRequest(client_id="c" * 256, topics=["t"]), "invalid client_id"),
        (JoinRequest(client_id="a\x00", topics=["t"]), "invalid client_id"),
        (JoinRequest(client_id="c", topics=[]), "at least one topic is required"),
        (JoinRequest(client_id="c", topics=[f"t{number}" for number in range(1001)]), "too many topics"),
        (JoinRequest(client_id="c", topics=["t"], session_seconds=0), "invalid session_timeout"),
        (JoinRequest(client_id="c", topics=["t"], session_seconds=3600.001), "invalid session_timeout"),
        (JoinRequest(client_id="c", topics=["t"], session_seconds=float("nan")), "invalid session_timeout"),
    ],
)
def test_a_join_is_refused(request_: JoinRequest, text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        check_join(request_)


def test_a_topic_that_is_named_twice_counts_once() -> None:
    request = JoinRequest(client_id="c" * 255, topics=["b", "a", "b"], session_seconds=3600)
    assert check_join(request) == ["b", "a"]


def test_a_call_without_a_member_is_refused() -> None:
    require_member_id("m")
    with pytest.raises(BadRequest, match="member_id is required"):
        require_member_id("")


CHANGES = (AssignmentChange(3, "x"), AssignmentChange(5, "y"), AssignmentChange(8, "x"))


@pytest.mark.parametrize(
    ("presented", "required"),
    [(0, False), (2, True), (3, False), (4, False), (5, True), (7, True), (8, False), (9, False), (-1, True)],
)
def test_a_rebalance_is_required_when_the_assignment_is_another(presented: int, required: bool) -> None:
    assert needs_rejoin(CHANGES, presented) is required


def test_a_generation_that_has_not_been_is_refused() -> None:
    check_generation(4, 4)
    with pytest.raises(Conflict, match=r"stale generation \(rebalance occurred\)"):
        check_generation(5, 4)


def test_only_changes_of_an_assignment_are_kept_and_only_the_last() -> None:
    assert with_assignment(CHANGES, 9, "x") is CHANGES
    changes: tuple[AssignmentChange, ...] = ()
    for generation in range(1, 200):
        changes = with_assignment(changes, generation, str(generation))
    assert len(changes) == ASSIGNMENT_CHANGES_KEPT
    assert changes[-1] == AssignmentChange(199, "199")
    assert needs_rejoin(changes, 1)


def test_the_state_of_a_group() -> None:
    assert state_of([], is_rebalancing=True) is GroupState.DEAD
    assert state_of(["m"], is_rebalancing=True) is GroupState.REBALANCING
    assert state_of(["m"], is_rebalancing=False) is GroupState.STABLE


def test_a_label_tells_topic_and_partition() -> None:
    assert TopicPartition("a-b", 3).label == "a-b-3"
