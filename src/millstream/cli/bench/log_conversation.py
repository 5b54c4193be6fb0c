"""Publishing to a topic and reading its partitions, as one connection does it."""

import random

import msgspec

from millstream.cli.bench.http_request import RequestBuilder
from millstream.cli.bench.log_plans import ConsumeMessages, PublishMessages
from millstream.cli.bench.unexpected_answer import UnexpectedAnswer

VALUE_BYTES = 70
_KEYS = 5_000
_NEXT_OFFSET = b'"next_offset":'


class Publishing:
    """Sends one prepared request again and again."""

    operation = "publish"

    def __init__(self, plan: PublishMessages, requests: RequestBuilder) -> None:
        body = msgspec.json.encode({"messages": [_message(number) for number in range(plan.per_request)]})
        self._request = requests.post(f"/topics/{plan.topic}/messages", body)
        self._per_request = plan.per_request
        self._left = plan.requests

    def next_request(self) -> bytes | None:
        if self._left is None:
            return self._request
        if self._left == 0:
            return None
        self._left -= 1
        return self._request

    def answered(self, status: int, body: bytes) -> int:
        # Counted, not decoded: the generator shares its cores with what it measures.
        if status != 200 or b'"error"' in body or body.count(b'"offset":') != self._per_request:
            raise UnexpectedAnswer(f"status {status}: {body[:300].decode('utf-8', 'replace')}")
        return self._per_request


class Consuming:
    """Reads a partition from its beginning to its end, and once more."""

    operation = "consume"

    def __init__(self, plan: ConsumeMessages, requests: RequestBuilder) -> None:
        partition = random.randrange(plan.partitions)
        self._path = f"/topics/{plan.topic}/partitions/{partition}/messages?limit={plan.per_page}&offset="
        self._requests = requests
        self._per_page = plan.per_page
        self._offset = 0

    def next_request(self) -> bytes | None:
        return self._requests.get(f"{self._path}{self._offset}")

    def answered(self, status: int, body: bytes) -> int:
        place = body.rfind(_NEXT_OFFSET)
        if status != 200 or place < 0:
            raise UnexpectedAnswer(f"status {status}: {body[:300].decode('utf-8', 'replace')}")
        messages = body.count(b'"offset":')
        digits = body[place + len(_NEXT_OFFSET) :].lstrip().split(b"}", 1)[0].split(b",", 1)[0]
        self._offset = int(digits) if messages == self._per_page else 0
        return messages


def _message(number: int) -> dict[str, str]:
    value = f'{{"order":{number},"customer":{random.randrange(10**6)},"amount":{random.random():.12f}}}'
    return {"key": f"customer-{random.randrange(_KEYS)}", "value": value.ljust(VALUE_BYTES)[:VALUE_BYTES]}
