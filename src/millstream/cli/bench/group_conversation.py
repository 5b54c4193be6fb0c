"""A member of a consumer group, as one connection is it: join, poll, acknowledge."""

from collections import deque

import msgspec

from millstream.cli.bench.answer import UnexpectedAnswer, decode, expect
from millstream.cli.bench.group_plans import SettleMessages
from millstream.cli.bench.http_request import RequestBuilder

# Long enough for what other connections still publish or give back, short enough not to be what is measured.
_LAST_POLL = "1s"


class Settling:
    """Joins, polls and acknowledges until a poll finds nothing."""

    def __init__(self, plan: SettleMessages, requests: RequestBuilder) -> None:
        self.operation = "join"
        self._requests = requests
        self._plan = plan
        join = {"client_id": "bench", "topics": [plan.topic], "session_timeout": "10m"}
        self._join: bytes | None = requests.post(f"/groups/{plan.group}/join", msgspec.json.encode(join))
        self._poll = b""
        self._held: deque[str] = deque()
        self._drained = False

    def next_request(self) -> bytes | None:
        if self._join is not None:
            join, self._join = self._join, None
            return join
        if self._held:
            self.operation = "ack"
            return self._ack()
        if self._drained:
            return None
        self.operation = "poll"
        return self._poll

    def answered(self, status: int, body: bytes) -> int:
        expect(200, status, body)
        if self.operation == "join":
            member = decode(_JOIN_ANSWER, body).member_id
            path = f"/groups/{self._plan.group}/poll?member_id={member}"
            self._poll = self._requests.get(f"{path}&max_messages={self._plan.per_poll}&timeout={_LAST_POLL}")
            return 0
        if self.operation == "poll":
            self._held.extend(message.receipt_handle for message in decode(_POLL_ANSWER, body).messages)
            self._drained = not self._held
            return 0
        if self._plan.singly:
            self._held.popleft()
            return 1
        answer = decode(_ACK_ANSWER, body)
        self._held.clear()
        if answer.failures:
            raise UnexpectedAnswer(f"acknowledgements were refused: {body[:300]!r}")
        return answer.success_count

    def _ack(self) -> bytes:
        if self._plan.singly:
            return self._requests.post("/messages/ack", b'{"receipt_handle":"%b"}' % self._held[0].encode())
        body = b'{"receipt_handles":%b}' % msgspec.json.encode(list(self._held))
        return self._requests.post("/messages/ack/batch", body)


class _JoinAnswer(msgspec.Struct):
    member_id: str


class _PolledMessage(msgspec.Struct):
    receipt_handle: str


class _PollAnswer(msgspec.Struct):
    messages: list[_PolledMessage]


class _AckAnswer(msgspec.Struct):
    success_count: int
    failures: list[msgspec.Raw]


_JOIN_ANSWER = msgspec.json.Decoder(_JoinAnswer)
_POLL_ANSWER = msgspec.json.Decoder(_PollAnswer)
_ACK_ANSWER = msgspec.json.Decoder(_AckAnswer)
