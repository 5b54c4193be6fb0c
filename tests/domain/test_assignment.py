"""Who owns which partition. Contract: goqueue-messaging 7.7, 12.8."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.assignment import Partition, assign_range, assign_sticky, digest_of

members = st.lists(st.sampled_from([f"m{number:02}" for number in range(12)]), max_size=8, unique=True)
topics = st.dictionaries(st.integers(1, 4), st.integers(1, 9), min_size=1, max_size=4)


@st.composite
def subscribed(draw: st.DrawFn) -> tuple[dict[str, list[int]], dict[int, int]]:
    """Members that subscribe to any of some topics, one that is gone included."""
    there = draw(topics)
    names = draw(members)
    return {
        name: draw(st.lists(st.sampled_from([*there, 99]), min_size=1, unique=True)) for name in names
    }, there


@st.composite
def alike(draw: st.DrawFn) -> tuple[dict[str, list[int]], dict[int, int], dict[Partition, str | None]]:
    """Members that all subscribe to all topics, and any owners before."""
    there = draw(topics)
    names = draw(members.filter(bool))
    before = draw(st.lists(st.sampled_from([*names, "gone", None]), min_size=40, max_size=40))
    owners = dict(zip(every(there), before, strict=False))
    return {name: list(there) for name in names}, there, owners


def every(there: Mapping[int, int]) -> list[Partition]:
    return [(topic_id, partition) for topic_id in there for partition in range(there[topic_id])]


def readable(subscriptions: Mapping[str, list[int]], there: Mapping[int, int]) -> set[Partition]:
    wanted = {topic_id for topic_ids in subscriptions.values() for topic_id in topic_ids}
    return {partition for partition in every(there) if partition[0] in wanted}


def test_seven_partitions_go_to_three_members_as_the_contract_says() -> None:
    owners = assign_range({"c": [1], "a": [1], "b": [1]}, {1: 7})
    assert "".join(owners[1, partition] for partition in range(7)) == "aaabbcc"


def test_members_beyond_the_partitions_idle() -> None:
    assert assign_range({"a": [1], "b": [1], "c": [1]}, {1: 2}) == {(1, 0): "a", (1, 1): "b"}


@given(subscribed())
def test_every_partition_that_somebody_reads_has_a_subscriber_for_its_owner(
    given_: tuple[dict[str, list[int]], dict[int, int]],
) -> None:
    subscriptions, there = given_
    for owners in (assign_range(subscriptions, there), assign_sticky(subscriptions, there, {})):
        assert owners.keys() == readable(subscriptions, there)
        assert all(topic_id in subscriptions[owner] for (topic_id, _), owner in owners.items())


@given(subscribed())
def test_a_range_is_contiguous_and_its_size_differs_by_one_at_most(
    given_: tuple[dict[str, list[int]], dict[int, int]],
) -> None:
    subscriptions, there = given_
    owners = assign_range(subscriptions, there)
    for topic_id, count in there.items():
        readers = sorted(name for name, topic_ids in subscriptions.items() if topic_id in topic_ids)
        if not readers:
            continue
        in_order = [owners[topic_id, partition] for partition in range(count)]
        assert in_order == sorted(in_order)
        sizes = [in_order.count(name) for name in readers]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


@given(alike())
def test_sticky_shares_differ_by_one_at_most_and_no_move_could_be_spared(
    given_: tuple[dict[str, list[int]], dict[int, int], dict[Partition, str | None]],
) -> None:
    subscriptions, there, before = given_
    owners = assign_sticky(subscriptions, there, before)
    shares = Counter(owners.values())
    sizes = [shares[name] for name in subscriptions]
    assert max(sizes) - min(sizes) <= 1
    kept = Counter(
        owner for partition, owner in before.items() if owner in subscriptions and partition in owners
    )
    moved = sum(
        owners[partition] != owner
        for partition, owner in before.items()
        if owner in subscriptions and partition in owners
    )
    # With the larger shares given to those that had most, only what exceeds a share has to move.
    small, larger = divmod(len(owners), len(subscriptions))
    had = sorted((kept[name] for name in subscriptions), reverse=True)
    quotas = [small + (place < larger) for place in range(len(had))]
    assert moved == sum(max(count - quota, 0) for count, quota in zip(had, quotas, strict=True))


@given(alike())
def test_what_is_balanced_stays_as_it_is(
    given_: tuple[dict[str, list[int]], dict[int, int], dict[Partition, str | None]],
) -> None:
    subscriptions, there, before = given_
    owners = assign_sticky(subscriptions, there, before)
    assert assign_sticky(subscriptions, there, {**owners}) == owners


@given(subscribed())
def test_no_hand_over_makes_sticky_shares_more_even(
    given_: tuple[dict[str, list[int]], dict[int, int]],
) -> None:
    subscriptions, there = given_
    owners = assign_sticky(subscriptions, there, {})
    shares = Counter(owners.values())
    for (topic_id, _), owner in owners.items():
        for name, topic_ids in subscriptions.items():
            if topic_id in topic_ids:
                assert shares[owner] - shares[name] <= 1


def test_a_partition_goes_through_others_to_where_there_is_room() -> None:
    subscriptions = {"a": [1], "b": [1, 2], "c": [2]}
    before = {(1, 0): "a", (1, 1): "a", (1, 2): "a", (2, 0): "b", (2, 1): "b", (2, 2): "c"}
    owners = assign_sticky(subscriptions, {1: 3, 2: 3}, before)
    assert Counter(owners.values()) == {"a": 2, "b": 2, "c": 2}
    assert sum(owners[partition] != owner for partition, owner in before.items()) == 2


def test_digests_tell_sets_of_partitions_apart() -> None:
    assert digest_of([(1, 0), (1, 1)]) == digest_of([(1, 1), (1, 0)])
    assert digest_of([(1, 11)]) != digest_of([(11, 1)])
    assert digest_of([]) != digest_of([(1, 0)])
