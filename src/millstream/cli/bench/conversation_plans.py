"""What a connection of the load generator is to say."""

import msgspec

from millstream.cli.bench.log_plans import PublishToLog, ReadLog


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


class PublishMessages(msgspec.Struct, frozen=True, tag="publish_messages"):
    """Publishes of `per_request` messages to `topic`; each connection sends `requests` of them, the first creates it."""

    topic: str
    partitions: int
    per_request: int
    requests: int


class ConsumeMessages(msgspec.Struct, frozen=True, tag="consume_messages"):
    """A member of `group`: polls of `per_poll`, acknowledged together or `singly`, until nothing is left.

    An item is an acknowledged message.
    """

    topic: str
    group: str
    per_poll: int
    singly: bool


ConversationPlan = (
    CreateJobs
    | CreateJobsInBulk
    | JobLifecycle
    | DrainJobs
    | PublishMessages
    | ConsumeMessages
    | PublishToLog
    | ReadLog
)
