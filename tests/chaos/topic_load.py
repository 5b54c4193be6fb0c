"""Publishers and members of a group that go on without pause, through whatever happens to the server."""

import asyncio
from collections.abc import Sequence
from contextlib import closing

from tests.chaos.clients import PAUSE_SECONDS, Clients
from tests.chaos.line import Answer, Line
from tests.chaos.topic_ledger import Delivered, TopicLedger

TOPIC = "orders"
GROUP = "billing"
PARTITIONS = 6
VISIBILITY_SECONDS = 2
# Nothing becomes a dead letter.
SETTINGS = {
    "MILLSTREAM_GROUP_VISIBILITY_SECONDS": str(VISIBILITY_SECONDS),
    "MILLSTREAM_GROUP_DELIVERIES_MAX": "1000",
}
# A join whose answer was lost has left a member behind that owns partitions until it is missed.
_SESSION = "4s"
# Publishers wait for members beyond this: a fault is to meet busy clients, not a mountain of messages.
_BACKLOG_MAX = 500
# One of the members leaves after so many polls, and joins again.
_POLLS_OF_A_GUEST = 15
_PRIORITIES = ("critical", "high", "normal", "low", "background")


class TopicLoad(Clients[TopicLedger]):
    """Publishers of a topic and members of a group that reads it."""

    def __init__(self, ports: list[int], api_key: str, *, publishers: int = 3, members: int = 3) -> None:
        super().__init__(ports, api_key, TopicLedger())
        self._publishers = publishers
        self._publishing = True
        self._consuming = True
        self._clients = [self._publish] * publishers + [self._consume] * members

    async def prepare(self) -> None:
        """Create the topic."""
        with closing(self._line(0)) as line:
            answer = await line.ask("POST", "/topics", {"name": TOPIC, "num_partitions": PARTITIONS})
        assert answer.status in (200, 201), answer

    async def progress(self, messages: int) -> None:
        """Go on until that many more messages were published and acknowledged."""
        published, acked = len(self.ledger.published), len(self.ledger.acked)
        await self.until(
            lambda: (
                len(self.ledger.published) >= published + messages
                and len(self.ledger.acked) >= acked + messages
            )
        )

    async def drain(self) -> None:
        """Publish nothing more and work until nothing is left; then fail unless everything was the truth."""
        self._publishing = False
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks[: self._publishers])
            log = {partition: await self._read(partition) for partition in range(PARTITIONS)}
        await self.until(lambda: len(self.ledger.acked) >= sum(map(len, log.values())))
        # Whoever polls beyond the end of every lease gets nothing more.
        deliveries = sum(map(len, self.ledger.deliveries.values()))
        self._consuming = False
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)
        assert sum(map(len, self.ledger.deliveries.values())) == deliveries
        with closing(self._line(0)) as line:
            answer = await self._insist(line, "GET", f"/groups/{GROUP}/offsets")
        self.ledger.check(log, answer.body["offsets"][TOPIC])

    async def _read(self, partition: int) -> list[str]:
        """Return the values of a partition once none is hidden; their places are their offsets."""
        path = f"/topics/{TOPIC}/partitions/{partition}/messages?order=offset&limit=1000"
        with closing(self._line(partition)) as line:
            while True:
                values: list[str] = []
                end = 0
                while True:
                    page = (await self._insist(line, "GET", f"{path}&offset={end}")).body
                    offsets = [message["offset"] for message in page["messages"]]
                    assert offsets == sorted(set(offsets))
                    values += [message["value"] for message in page["messages"]]
                    if page["next_offset"] == end:
                        break
                    end = page["next_offset"]
                if len(values) == end:
                    return values
                await asyncio.sleep(PAUSE_SECONDS)

    async def _insist(self, line: Line, method: str, path: str, body: object = None) -> Answer:
        answer = None
        while answer is None or answer.status == 503:
            answer = await self._ask(line, method, path, body)
        return answer

    # Publishing: odd requests carry a key and are sent until they are answered, even ones are sent once

    async def _publish(self, place: int) -> None:
        number = 0
        with closing(self._line(place)) as line:
            while self._publishing:
                if len(self.ledger.published) - len(self.ledger.acked) > _BACKLOG_MAX:
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                number += 1
                await self._publish_one(line, place, number)

    async def _publish_one(self, line: Line, place: int, number: int) -> None:
        values = [f"{place}.{number}.{message}" for message in range(1 + number % 8)]
        messages = [_message(value, place, number, message) for message, value in enumerate(values)]
        headers = {"idempotency-key": f"{place}.{number}"} if number % 2 else {}
        while True:
            answer = await self._ask(
                line, "POST", f"/topics/{TOPIC}/messages", {"messages": messages}, headers
            )
            if answer is not None and answer.status == 200:
                self.ledger.note_published(values, answer.body["results"])
                return
            if not number % 2:
                break
        self.ledger.unanswered_requests.append(values)

    # Consuming: what is to be settled is sent until it is known what became of it

    async def _consume(self, place: int) -> None:
        polls = 0
        with closing(self._line(place)) as line:
            member_id = await self._join(line, place)
            while True:
                consuming = self._consuming
                wait = "500ms" if consuming else f"{VISIBILITY_SECONDS + 0.5}s"
                answer = await self._ask(
                    line,
                    "GET",
                    f"/groups/{GROUP}/poll?member_id={member_id}&max_messages=40&timeout={wait}",
                )
                if answer is not None and answer.status == 200:
                    messages = [self.ledger.note_delivered(message) for message in answer.body["messages"]]
                    await self._settle(line, messages)
                    if not consuming:
                        return
                polls += 1
                is_leaving = place == self._publishers and polls % _POLLS_OF_A_GUEST == 0
                if is_leaving:
                    await self._insist(line, "POST", f"/groups/{GROUP}/leave", {"member_id": member_id})
                if is_leaving or (answer is not None and answer.status == 404):
                    member_id = await self._join(line, place)

    async def _join(self, line: Line, place: int) -> str:
        body = {"client_id": f"client-{place}", "topics": [TOPIC], "session_timeout": _SESSION}
        answer = await self._insist(line, "POST", f"/groups/{GROUP}/join", body)
        assert answer.status == 200, answer
        return answer.body["member_id"]

    async def _settle(self, line: Line, messages: Sequence[Delivered]) -> None:
        """Refuse some, forget some whose leases are to end, acknowledge all others, half of them one by one."""
        first = [one for one in messages if one.count == 1]
        nacked = [one for one in first if one.place[1] % 7 == 0]
        forgotten = [one for one in first if one.place[1] % 23 == 1]
        acked = [one for one in messages if one not in nacked and one not in forgotten]
        half = len(acked) // 2
        for one in nacked:
            body = {"receipt_handle": one.receipt, "delay": "100ms"}
            answer = await self._insist(line, "POST", "/messages/nack", body)
            self.ledger.nacked += self._is_done(answer)
        for one in acked[:half]:
            answer = await self._insist(line, "POST", "/messages/ack", {"receipt_handle": one.receipt})
            if self._is_done(answer):
                self.ledger.note_acked(one)
        await self._ack_together(line, acked[half:])

    def _is_done(self, answer: Answer) -> bool:
        if answer.status == 410:
            self.ledger.superseded += 1
            return False
        # Nobody else has used the receipt for anything.
        assert answer.status == 200, answer
        return True

    async def _ack_together(self, line: Line, messages: Sequence[Delivered]) -> None:
        left = {one.receipt: one for one in messages}
        while left:
            body = {"receipt_handles": list(left)}
            answer = await self._insist(line, "POST", "/messages/ack/batch", body)
            assert answer.status == 200, answer
            failed = {failure["receipt_handle"]: failure for failure in answer.body["failures"]}
            assert {failure["status"] for failure in failed.values()} <= {410, 503}, failed
            for receipt, one in list(left.items()):
                if receipt not in failed:
                    self.ledger.note_acked(one)
                elif failed[receipt]["status"] == 503:
                    continue
                else:
                    self.ledger.superseded += 1
                del left[receipt]


def _message(value: str, place: int, number: int, message: int) -> dict[str, object]:
    """Return a message; requests have a key, a partition or neither, some have priorities, some delays."""
    content: dict[str, object] = {"value": value}
    if number % 3 == 0:
        content["key"] = f"key-{place}-{number % 5}"
    elif number % 3 == 1:
        content["partition"] = number % PARTITIONS
    if number % 4 == 0:
        content["priority"] = _PRIORITIES[message % len(_PRIORITIES)]
    if number % 9 == 0:
        content["delay"] = "200ms"
    return content
