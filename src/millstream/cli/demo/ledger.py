"""What the members of the demo's group have said, and whether it adds up."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import assert_never

import msgspec

from millstream.cli.demo.files import FileFacts
from millstream.cli.demo.said import Acknowledged, Handled, Joined, Place, Said, Taken


class Killed(msgspec.Struct, frozen=True):
    """The member that was killed, and the partitions that were its own."""

    client_id: str
    partitions: Collection[int]


class Ledger:
    """Takes down what each member says. `taken` counts what was handed out, repetitions included."""

    def __init__(self) -> None:
        self.taken = 0
        self._handled: defaultdict[Place, list[tuple[str, Handled]]] = defaultdict(list)
        self._acknowledged: defaultdict[str, set[Place]] = defaultdict(set)

    def enter(self, client_id: str, said: Said) -> None:
        """Take down one thing that a member said."""
        match said:
            case Joined():
                pass
            case Taken(messages=messages):
                self.taken += messages
            case Handled(place=place):
                self._handled[place].append((client_id, said))
            case Acknowledged(places=places):
                self._acknowledged[client_id].update(places)
            case _:
                assert_never(said)

    @property
    def handled(self) -> int:
        """How many different messages have a result."""
        return len(self._handled)

    @property
    def handed_out_again(self) -> int:
        """How many messages were handed out more than once."""
        return sum(_came_again(handled) for handled in self._handled.values())

    def problems(
        self, published: Mapping[Place, Path], facts: Mapping[Path, FileFacts], killed: Killed
    ) -> Iterator[str]:
        """Yield what does not add up, at most one thing a message."""
        for place, path in published.items():
            problem = self._problem(place, facts[path], killed)
            if problem is not None:
                yield f"{path}: {problem}"
        for place in self._handled.keys() - published.keys():
            yield f"partition {place.partition}, offset {place.offset}: never published"

    def _problem(self, place: Place, facts: FileFacts, killed: Killed) -> str | None:
        handled = self._handled.get(place)
        if not handled:
            return "no result"
        for _, result in handled:
            if result.facts != facts:
                return f"the result is {msgspec.to_builtins(result.facts)}"
        if _came_again(handled) and not self._was_held_by(killed, place):
            return "handed out again, though it was not the killed member's"
        # The killed member may have said its result and been killed before the server heard of it.
        if len({client_id for client_id, _ in handled}) < len(handled):
            return "handed to one member twice"
        if sum(client_id != killed.client_id for client_id, _ in handled) > 1:
            return "handed to two members that live"
        return None

    def _was_held_by(self, killed: Killed, place: Place) -> bool:
        return place.partition in killed.partitions and place not in self._acknowledged[killed.client_id]


def _came_again(handled: list[tuple[str, Handled]]) -> bool:
    return len(handled) > 1 or any(result.delivery_count > 1 for _, result in handled)
