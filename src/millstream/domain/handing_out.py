"""What a poll takes: by priority, partitions in turn, with a share for what has waited too long.

Contract: goqueue-messaging 14.3, 14.6.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from millstream.domain.topic import Priority

LEVELS: Final = range(len(Priority))
# Of ten deliveries of a partition one is its longest-waiting starved message, and one that of another partition.
TURNS: Final = 10
OWN_TURN: Final = 9
OTHERS_TURN: Final = 4


class Owed(Struct, frozen=True, gc=False):
    """A message that can be handed out apart from its group's position; `attempt` counts its deliveries so far."""

    offset: int
    lane: int
    visible_at: datetime
    attempt: int
    first_delivered_at: datetime | None = None
    last_error: str | None = None
    # Passed by a moment ago, so that it is not yet among what the group is owed.
    is_new: bool = False


class Supply:
    """What can be handed out of one partition: owed messages and fresh ones, by level.

    `fresh` is how many there are at most. `heads` tells, where it is known, when the first fresh one became ready.
    """

    __slots__ = ("fresh", "heads", "owed", "taken_fresh", "taken_owed", "turn")

    def __init__(
        self,
        fresh: Sequence[int],
        owed: Sequence[Owed] = (),
        *,
        heads: Sequence[datetime | None] = (None,) * len(LEVELS),
        turn: int = 0,
    ) -> None:
        self.fresh = list(fresh)
        self.heads = list(heads)
        self.owed: list[deque[Owed]] = [deque() for _ in LEVELS]
        for message in sorted(owed, key=_offset_of):
            self.owed[message.lane - 1].append(message)
        self.taken_fresh = [0] * len(LEVELS)
        self.taken_owed: list[Owed] = []
        self.turn = turn

    @property
    def messages(self) -> int:
        """How many can be handed out."""
        return sum(self.fresh) + sum(map(len, self.owed))

    @property
    def levels(self) -> set[int]:
        """Of which levels there are messages."""
        return {level for level in LEVELS if self.fresh[level] or self.owed[level]}

    def take(self, level: int, count: int) -> int:
        """Take up to `count` messages of a level, owed ones first; returns how many there were."""
        owed = self.owed[level]
        left = count
        while left and owed:
            self.taken_owed.append(owed.popleft())
            left -= 1
        fresh = min(left, self.fresh[level])
        self.fresh[level] -= fresh
        self.taken_fresh[level] += fresh
        return count - left + fresh

    def starved(self, before: datetime) -> tuple[datetime, int] | None:
        """Return since when the longest-waiting message waits that was ready before `before`, and its level."""
        waiting = [(since, level) for level in LEVELS for since in self._ready_times(level) if since < before]
        return min(waiting, default=None)

    def _ready_times(self, level: int) -> Iterator[datetime]:
        if self.owed[level]:
            yield min(message.visible_at for message in self.owed[level])
        head = self.heads[level]
        if self.fresh[level] and head is not None:
            yield head

    def take_starved(self, level: int) -> None:
        """Take the longest-waiting message of a level."""
        owed = self.owed[level]
        head = self.heads[level] if self.fresh[level] else None
        oldest = min(owed, key=_visible_at, default=None)
        if oldest is not None and (head is None or oldest.visible_at <= head):
            owed.remove(oldest)
            self.taken_owed.append(oldest)
        else:
            self.fresh[level] -= 1
            self.taken_fresh[level] += 1


def is_mixed(supplies: Sequence[Supply]) -> bool:
    """Tell whether there are messages of several levels: only then can some starve, as partitions have their turns."""
    return len(set[int]().union(*(supply.levels for supply in supplies))) > 1


def hand_out(supplies: Sequence[Supply], budget: int, starved_before: datetime) -> None:
    """Take up to `budget` messages of the partitions of one member, the one whose turn it is first."""
    if sum(supply.messages for supply in supplies) <= budget:
        for supply in supplies:
            for level in LEVELS:
                supply.take(level, budget)
        return
    any_starved = is_mixed(supplies) and any(
        supply.starved(starved_before) is not None for supply in supplies
    )
    for level in LEVELS:
        for supply in supplies:
            if not any_starved:
                budget -= supply.take(level, budget)
                continue
            while budget and (supply.fresh[level] or supply.owed[level]):
                budget -= 1
                _take_one(supplies, supply, level, starved_before)


def _take_one(supplies: Sequence[Supply], supply: Supply, level: int, starved_before: datetime) -> None:
    turn = supply.turn
    supply.turn = (turn + 1) % TURNS
    if turn == OWN_TURN:
        waiting = supply.starved(starved_before)
        if waiting is not None:
            supply.take_starved(waiting[1])
            return
    elif turn == OTHERS_TURN:
        others = [
            (waiting, place)
            for place, other in enumerate(supplies)
            if other is not supply and (waiting := other.starved(starved_before)) is not None
        ]
        if others:
            (_, other_level), place = min(others)
            supplies[place].take_starved(other_level)
            return
    supply.take(level, 1)


def _offset_of(message: Owed) -> int:
    return message.offset


def _visible_at(message: Owed) -> datetime:
    return message.visible_at
