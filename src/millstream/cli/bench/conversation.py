"""What one connection of the load generator says: the next request, and what an answer means."""

import uuid
from collections import deque
from typing import Protocol, TypeVar, assert_never

import msgspec

from millstream.cli.bench.http_request import RequestBuilder
from millstream.cli.bench.log_conversation import Consuming, Publishing
from millstream.cli.bench.log_plans import ConsumeMessages, PublishMessages
from millstream.cli.bench.unexpected_answer import UnexpectedAnswer

CLAIM_LIMIT = 10

_T = TypeVar("_T")

# About a hundred bytes, like the rows of the yardstick.
PAYLOAD = b'{"path":"reports/2031/04/summary.csv","bytes":48213,"sha256":"9f86d081884c7d659a2feaa0c55ad015","try":1}'


class Conversation(Protocol):
    """One connection's side of a closed loop. Not shared between connections.

    `operation` names the request last returned by `next_request`: its latency is kept under that name.
    """

    operation: str

    def next_request(self) -> bytes | None:
        """The next request, or None when this connection has nothing left to say."""
        ...

    def answered(self, status: int, body: bytes) -> int:
        """Take the answer and return how many items it finished. Raises UnexpectedAnswer."""
        ...


class CreateJobs(msgspec.Struct, frozen=True, tag="create_jobs"):
    """Single-job creates into `queue`."""

    queue: str


class CreateJobsInBulk(msgspec.Struct, frozen=True, tag="create_jobs_in_bulk"):
    """Bulk creates of `per_request` (1 to 100) jobs; each connection sends `requests` of them, None for no end."""

    queue: str
    per_request: int = 100
    requests: int | None = None


class JobLifecycle(msgspec.Struct, frozen=True, tag="job_lifecycle"):
    """Ten creates one by one, one claim of ten, as many completes one by one; an item is a completed job."""

    queue: str


class DrainJobs(msgspec.Struct, frozen=True, tag="drain_jobs"):
    """Claims of ten, each job completed one by one, until a claim comes back empty; an item is a completed job."""

    queue: str


ConversationPlan = (
    CreateJobs | CreateJobsInBulk | JobLifecycle | DrainJobs | PublishMessages | ConsumeMessages
)


def start_conversation(plan: ConversationPlan, requests: RequestBuilder) -> Conversation:
    """A fresh conversation for one connection."""
    match plan:
        case CreateJobs():
            return _Creating(plan, requests)
        case CreateJobsInBulk():
            return _CreatingInBulk(plan, requests)
        case JobLifecycle():
            return _Lifecycle(plan.queue, requests, creates=CLAIM_LIMIT)
        case DrainJobs():
            return _Lifecycle(plan.queue, requests, creates=0)
        case PublishMessages():
            return Publishing(plan, requests)
        case ConsumeMessages():
            return Consuming(plan, requests)
        case _:
            assert_never(plan)


class _Creating:
    operation = "create"

    def __init__(self, plan: CreateJobs, requests: RequestBuilder) -> None:
        self._request = _create_request(plan.queue, requests)

    def next_request(self) -> bytes | None:
        return self._request

    def answered(self, status: int, body: bytes) -> int:
        _expect(201, status, body)
        return 1


class _CreatingInBulk:
    operation = "bulk"

    def __init__(self, plan: CreateJobsInBulk, requests: RequestBuilder) -> None:
        job = b'{"payload":%b}' % PAYLOAD
        body = b'{"queue_name":%b,"jobs":[%b]}' % (_json(plan.queue), b",".join([job] * plan.per_request))
        self._request = requests.post("/api/v1/jobs/bulk", body)
        self._left = plan.requests

    def next_request(self) -> bytes | None:
        if self._left is None:
            return self._request
        if self._left == 0:
            return None
        self._left -= 1
        return self._request

    def answered(self, status: int, body: bytes) -> int:
        _expect(200, status, body)
        answer = _decode(_BULK_ANSWER, body)
        if answer.failure_count:
            raise UnexpectedAnswer(
                f"{answer.failure_count} jobs of a bulk request were refused: {body[:300]!r}"
            )
        return answer.success_count


class _Lifecycle:
    def __init__(self, queue: str, requests: RequestBuilder, *, creates: int) -> None:
        self.operation = "create"
        self._requests = requests
        self._create = _create_request(queue, requests)
        self._creates = creates
        self._creates_left = creates
        self._worker = f"bench-{uuid.uuid4().hex}"
        claim = {
            "queue_name": queue,
            "worker_id": self._worker,
            "limit": CLAIM_LIMIT,
            "lease_duration_secs": 300,
        }
        self._claim = requests.post("/api/v1/jobs/claim", msgspec.json.encode(claim))
        self._claimed: deque[_ClaimedJob] = deque()
        self._drained = False

    def next_request(self) -> bytes | None:
        if self._claimed:
            self.operation = "complete"
            return self._complete(self._claimed.popleft())
        if self._creates_left:
            self.operation = "create"
            self._creates_left -= 1
            return self._create
        if self._drained:
            return None
        self.operation = "claim"
        return self._claim

    def answered(self, status: int, body: bytes) -> int:
        if self.operation == "complete":
            _expect(200, status, body)
            return 1
        if self.operation == "create":
            _expect(201, status, body)
            return 0
        _expect(200, status, body)
        jobs = _decode(_CLAIM_ANSWER, body).jobs
        self._claimed.extend(jobs)
        self._creates_left = self._creates
        # Only a connection that creates nothing can run out: the others have put back what they take.
        self._drained = not jobs and not self._creates
        return 0

    def _complete(self, job: "_ClaimedJob") -> bytes:
        body = f'{{"worker_id":"{self._worker}","lease_id":"{job.lease_id}"}}'
        return self._requests.post(f"/api/v1/jobs/{job.id}/complete", body.encode())


class _BulkAnswer(msgspec.Struct):
    success_count: int
    failure_count: int


class _ClaimedJob(msgspec.Struct):
    id: str
    lease_id: str


class _ClaimAnswer(msgspec.Struct):
    jobs: list[_ClaimedJob]


_BULK_ANSWER = msgspec.json.Decoder(_BulkAnswer)
_CLAIM_ANSWER = msgspec.json.Decoder(_ClaimAnswer)


def _create_request(queue: str, requests: RequestBuilder) -> bytes:
    return requests.post("/api/v1/jobs", b'{"queue_name":%b,"payload":%b}' % (_json(queue), PAYLOAD))


def _json(text: str) -> bytes:
    return msgspec.json.encode(text)


def _expect(expected: int, status: int, body: bytes) -> None:
    if status != expected:
        raise UnexpectedAnswer(
            f"status {status} instead of {expected}: {body[:300].decode('utf-8', 'replace')}"
        )


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"the answer cannot be read: {error}") from error
