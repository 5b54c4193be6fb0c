"""Answers about dead letters."""

import msgspec


class DeadLetterRetry(msgspec.Struct, frozen=True):
    """The ids that were put back into their queues, and those left alone. Contract: spooled-jobs 3.17."""

    retried: list[str] = msgspec.field(name="retried_jobs")
    skipped: list[str] = msgspec.field(name="skipped_jobs", default_factory=list)
