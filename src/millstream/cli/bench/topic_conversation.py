"""What connections say about topics: publish in bulk; join a group, poll, acknowledge."""

from collections import deque
from typing import assert_never

import msgspec

from millstream.cli.bench.conversation import PAYLOAD, Conversation, UnexpectedAnswer, decode, expect
from millstream.cli.bench.conversation_plans import ConsumeMessages, PublishMessages
from millstream.cli.bench.http_request import RequestBuilder

# Long enough for what other connections still publish or give back, short enough not to be what is measured.
_LAST_POLL = "1s"


def start_topic_conversation(
    plan: PublishMessages | ConsumeMessages, requests: RequestBuilder
) -> Conversation:
    """A fresh conversation for one connection."""
    match plan:
        case PublishMessages():
            return _Publishing(plan, requests)
        case ConsumeMessages():
            return _Consuming(plan, requests)
        case _:
            assert_never(plan)


class _Publishing:
    operation = "create topic"

    def __init__(self, plan: PublishMessages, requests: RequestBuilder) -> None:
        create = {"name": plan.topic, "num_partitions": plan.partitions}
        message = b'{"value":%b}' % msgspec.json.encode(PAYLOAD.decode())
        body = b'{"messages":[%b]}' % b",".join([message] * plan.per_request)
        self._create: bytes | None = requests.post("/topics", msgspec.json.encode(create))
        self._publish = requests.post(f"/topics/{plan.topic}/messages", body)
        self._left = plan.requests

    def next_request(self) -> bytes | None:
        if self._create is not None:
            create, self._create = self._create, None
            return create
        self.operation = "publish"
        if self._left == 0:
            return None
        self._left -= 1
        return self._publish

    def answered(self, status: int, body: bytes) -> int:
        if self.operation == "create topic":
            # Another connection may have been first.
            if status != 409:
                expect(201, status, body)
            return 0
        expect(200, status, body)
        results = decode(_PUBLISH_ANSWER, body).results
        refused = sum(result.error is not None for result in results)
        if refused:
            raise UnexpectedAnswer(f"{refused} messages of a publish were refused: {body[:300]!r}")
        return len(results)


class _Consuming:
    def __init__(self, plan: ConsumeMessages, requests: RequestBuilder) -> None:
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


class _Published(msgspec.Struct):
    error: str | None = None


class _PublishAnswer(msgspec.Struct):
    results: list[_Published]


class _JoinAnswer(msgspec.Struct):
    member_id: str


class _PolledMessage(msgspec.Struct):
    receipt_handle: str


class _PollAnswer(msgspec.Struct):
    messages: list[_PolledMessage]


class _AckAnswer(msgspec.Struct):
    success_count: int
    failures: list[msgspec.Raw]


_PUBLISH_ANSWER = msgspec.json.Decoder(_PublishAnswer)
_JOIN_ANSWER = msgspec.json.Decoder(_JoinAnswer)
_POLL_ANSWER = msgspec.json.Decoder(_PollAnswer)
_ACK_ANSWER = msgspec.json.Decoder(_AckAnswer)
