"""Which member of a consumer group owns which partition: by range, or with as few moves as possible.

A partition is named by its topic's id and its number. Subscriptions say which topics each member reads.
"""

import hashlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

Partition: TypeAlias = tuple[int, int]
Subscriptions: TypeAlias = Mapping[str, Collection[int]]


def assign_range(subscriptions: Subscriptions, topics: Mapping[int, int]) -> dict[Partition, str]:
    """Return the owner of each partition of `topics` (partitions by topic id) that anybody subscribes to.

    For each topic its subscribers, in the order of their ids, get contiguous ranges whose sizes differ by one
    at most, the larger ones first. Contract: goqueue-messaging 7.7.
    """
    owners: dict[Partition, str] = {}
    for topic_id, members in _subscribers_of(subscriptions, topics).items():
        size, larger = divmod(topics[topic_id], len(members))
        partition = 0
        for place, member_id in enumerate(members):
            end = partition + size + (place < larger)
            while partition < end:
                owners[topic_id, partition] = member_id
                partition += 1
    return owners


def assign_sticky(
    subscriptions: Subscriptions, topics: Mapping[int, int], current: Mapping[Partition, str | None]
) -> dict[Partition, str]:
    """Return the owner of each partition of `topics` that anybody subscribes to, moving as little as possible.

    A partition stays with its `current` owner unless that makes members' shares differ by two or more where
    they could differ by less. Contract: goqueue-messaging 12.8.
    """
    sticky = _Sticky(_subscribers_of(subscriptions, topics), subscriptions)
    free: list[Partition] = []
    for topic_id in sticky.subscribers:
        for partition in range(topics[topic_id]):
            owner = current.get((topic_id, partition))
            if owner is not None and topic_id in subscriptions.get(owner, ()):
                sticky.give((topic_id, partition), owner)
            else:
                free.append((topic_id, partition))
    # What few may read goes first: the others have more to choose from.
    free.sort(key=lambda partition: (len(sticky.subscribers[partition[0]]), partition))
    for partition in free:
        sticky.give(partition, min(sticky.subscribers[partition[0]], key=sticky.load))
    while sticky.even_out():
        pass
    return sticky.owners()


def digest_of(partitions: Iterable[Partition]) -> str:
    """Return a short text that two sets of partitions share only when they are equal."""
    text = ",".join(f"{topic_id}:{partition}" for topic_id, partition in sorted(partitions))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _subscribers_of(subscriptions: Subscriptions, topics: Mapping[int, int]) -> dict[int, list[str]]:
    subscribers: dict[int, list[str]] = {}
    for member_id in sorted(subscriptions):
        for topic_id in subscriptions[member_id]:
            if topic_id in topics:
                subscribers.setdefault(topic_id, []).append(member_id)
    return dict(sorted(subscribers.items()))


class _Sticky:
    # Shares by member and topic, so that what a member may hand on is found without a walk over all it has.
    def __init__(self, subscribers: Mapping[int, list[str]], subscriptions: Subscriptions) -> None:
        self.subscribers = subscribers
        self._shares: dict[str, dict[int, list[int]]] = {member_id: {} for member_id in subscriptions}
        self._loads = dict.fromkeys(sorted(subscriptions), 0)

    def load(self, member_id: str) -> int:
        return self._loads[member_id]

    def give(self, partition: Partition, member_id: str) -> None:
        topic_id, number = partition
        self._shares[member_id].setdefault(topic_id, []).append(number)
        self._loads[member_id] += 1

    def owners(self) -> dict[Partition, str]:
        return {
            (topic_id, number): member_id
            for member_id, share in self._shares.items()
            for topic_id, numbers in share.items()
            for number in numbers
        }

    def even_out(self) -> bool:
        """Take one partition off the largest share that can be lessened; returns False when none can be."""
        least = min(self._loads.values(), default=0)
        for member_id in sorted(self._loads, key=lambda member_id: -self._loads[member_id]):
            if self._loads[member_id] - least < 2:
                break
            path = self._path_from(member_id)
            if path:
                for giver, topic_id, taker in path:
                    numbers = self._shares[giver][topic_id]
                    self.give((topic_id, numbers.pop()), taker)
                    self._loads[giver] -= 1
                    if not numbers:
                        del self._shares[giver][topic_id]
                return True
        return False

    def _path_from(self, start: str) -> list[tuple[str, int, str]]:
        """Return the shortest chain of hand-overs to a member with two partitions less than `start`, if any.

        A chain of more than one is needed where subscriptions differ: its middle members pass on what they take.
        """
        room = self._loads[start] - 2
        came_from: dict[str, tuple[str, int]] = {}
        seen = {start}
        passed: set[int] = set()
        waiting = deque([start])
        while waiting:
            giver = waiting.popleft()
            reached: list[str] = []
            for topic_id in self._shares[giver]:
                if topic_id in passed:
                    continue
                passed.add(topic_id)
                for taker in self.subscribers[topic_id]:
                    if taker not in seen:
                        seen.add(taker)
                        came_from[taker] = (giver, topic_id)
                        reached.append(taker)
            if reached:
                least = min(reached, key=self.load)
                if self._loads[least] <= room:
                    return _path_to(least, came_from)
            waiting.extend(reached)
        return []


def _path_to(end: str, came_from: Mapping[str, tuple[str, int]]) -> list[tuple[str, int, str]]:
    path: list[tuple[str, int, str]] = []
    taker = end
    while taker in came_from:
        giver, topic_id = came_from[taker]
        path.append((giver, topic_id, taker))
        taker = giver
    return path
