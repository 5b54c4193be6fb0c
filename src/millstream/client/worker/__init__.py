"""The worker runtime: claims jobs, runs handlers, settles in batches."""

from millstream.client.worker.running_job import Handler, RetryLater, RunningJob
from millstream.client.worker.worker import Worker

__all__ = ["Handler", "RetryLater", "RunningJob", "Worker"]
