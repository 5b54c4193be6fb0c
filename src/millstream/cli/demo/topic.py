"""The demo's second act: the same files as messages of a topic, for a group of which one member is killed."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec
from msgspec import UNSET
from rich.progress import Progress

from millstream.cli.demo.files import FileFacts
from millstream.cli.demo.group import Member, start_members
from millstream.cli.demo.ledger import Killed, Ledger
from millstream.cli.demo.said import Order, Place
from millstream.cli.failure import CommandFailed
from millstream.cli.group import list_lags
from millstream.cli.local_server import LocalServer
from millstream.cli.topics_api import TopicsApi

_TOPIC = "demo-files"
_GROUP = "demo"
_PARTITIONS = 6
_MEMBERS = 3
# What the killed member held comes back so long after its last call; one that lives must not be silent for so long,
# however busy the machine is.
_SESSION_SECONDS = 8
_MESSAGES_PER_REQUEST = 500
_BATCH_MESSAGES_MAX = 50
_BATCHES_MIN = 20
_LAG_INTERVAL_SECONDS = 0.2
_WORK_SECONDS_MAX = 90


class TopicReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the second act saw. `lag` counts the messages that nobody acknowledged."""

    messages: int
    correct: int
    members: int
    members_killed: int
    publish_rate_per_second: float
    handed_out_again: int
    lag: int
    seconds: float
    problems: list[str]

    @property
    def is_accounted_for(self) -> bool:
        """Whether every message has the right result and was acknowledged."""
        return not self.problems and self.correct == self.messages and self.lag == 0


async def run_topic(server: LocalServer, facts: Mapping[Path, FileFacts], progress: Progress) -> TopicReport:
    """Publish a message for each file to a group, kill one of its members half way, check every result.

    Raises CommandFailed, also in an ExceptionGroup.
    """
    async with aclosing(TopicsApi(server.url, server.first_keys.api_key)) as api:
        await api.create(_TOPIC, _PARTITIONS, None)
        joining = progress.add_task("members", total=_MEMBERS)
        async with start_members(_orders(server, len(facts))) as members:
            progress.advance(joining, _MEMBERS)
            try:
                async with asyncio.timeout(_WORK_SECONDS_MAX):
                    return await _Act(api, members, facts, progress).play()
            except TimeoutError:
                raise CommandFailed(
                    f"{await _lag(api)} of {len(facts)} messages were not acknowledged after {_WORK_SECONDS_MAX} s"
                ) from None


class _Act:
    def __init__(
        self, api: TopicsApi, members: Sequence[Member], facts: Mapping[Path, FileFacts], progress: Progress
    ) -> None:
        self._api = api
        self._members = members
        self._facts = facts
        self._progress = progress
        self._ledger = Ledger()
        self._publishing = progress.add_task("published", total=len(facts))
        self._handling = progress.add_task("handled", total=len(facts))
        self._killed: asyncio.Future[Member] = asyncio.get_running_loop().create_future()

    async def play(self) -> TopicReport:
        group = await self._api.describe_group(_GROUP)
        partitions = {member.member_id: member.partitions for member in group.members}
        began_at = time.perf_counter()
        async with asyncio.TaskGroup() as following:
            for member in self._members:
                following.create_task(self._follow(member))
            published = await self._publish()
            publish_seconds = time.perf_counter() - began_at
            killed = await self._killed
            await self._wait_acknowledged()
            seconds = time.perf_counter() - began_at
            for member in self._members:
                member.let_go()
        problems = list(
            self._ledger.problems(
                published, self._facts, Killed(killed.client_id, partitions[killed.member_id])
            )
        )
        if len(published) != len(self._facts):
            problems.append(f"{len(self._facts)} files, but {len(published)} messages")
        return TopicReport(
            messages=len(self._facts),
            correct=len(published) - len(problems),
            members=len(self._members),
            members_killed=1,
            publish_rate_per_second=round(len(published) / publish_seconds, 1),
            handed_out_again=self._ledger.handed_out_again,
            lag=await _lag(self._api),
            seconds=round(seconds, 3),
            problems=problems,
        )

    async def _follow(self, member: Member) -> None:
        async for said in member.listen():
            self._ledger.enter(member.client_id, said)
            self._progress.update(self._handling, completed=self._ledger.handled)
            # Whoever is handed the first message of the second half has just got it, and is killed with it in hand.
            if not self._killed.done() and 2 * self._ledger.taken > len(self._facts):
                member.kill()
                self._killed.set_result(member)

    async def _wait_acknowledged(self) -> None:
        while True:
            if await _lag(self._api) == 0:
                return
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)

    async def _publish(self) -> dict[Place, Path]:
        published: dict[Place, Path] = {}
        for paths in _portions(self._facts):
            results = (await self._api.publish(_TOPIC, [{"value": str(path)} for path in paths])).results
            for path, result in zip(paths, results, strict=True):
                if result.error is not UNSET:
                    raise CommandFailed(f"the message for {path} was refused: {result.error}")
                published[Place(result.partition, result.offset)] = path
            self._progress.update(self._publishing, completed=len(published))
        return published


def _orders(server: LocalServer, messages: int) -> list[Order]:
    return [
        Order(
            url=server.url,
            api_key=server.first_keys.api_key,
            topic=_TOPIC,
            group=_GROUP,
            client_id=f"member-{number}",
            session_seconds=_SESSION_SECONDS,
            batch_messages=min(max(messages // _BATCHES_MIN, 1), _BATCH_MESSAGES_MAX),
        )
        for number in range(1, _MEMBERS + 1)
    ]


def _portions(facts: Mapping[Path, FileFacts]) -> Iterator[list[Path]]:
    paths = iter(facts)
    while portion := list(itertools.islice(paths, _MESSAGES_PER_REQUEST)):
        yield portion


async def _lag(api: TopicsApi) -> int:
    return sum(partition.lag for partition in await list_lags(api, _GROUP))
