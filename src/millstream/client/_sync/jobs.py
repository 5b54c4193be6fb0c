"""Jobs: enqueue, read, list, and change what waits."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

from millstream.client._sync.leased_jobs import LeasedJobs
from millstream.client._sync.transport import decode
from millstream.client.errors import Conflict, MillstreamError
from millstream.client.requests import (
    BULK_ITEMS_MAX,
    STATUS_IDS_MAX,
    body_of,
    chunks,
    has_more,
    optional_instant,
    query_of,
    segment,
)
from millstream.client.types import (
    BatchFailure,
    BatchSuccess,
    BulkEnqueued,
    Enqueued,
    Job,
    JobEvent,
    JobState,
    JobStats,
    JobStatus,
    JobSummary,
    NewJob,
    Page,
    PriorityChange,
)

# The longest page that the server gives.
ITERATED_PAGE = 100

JobOrder = Literal[
    "created_at",
    "updated_at",
    "scheduled_at",
    "completed_at",
    "priority",
    "status",
    "queue_name",
    "retry_count",
]


class Jobs(LeasedJobs):
    """`client.jobs`."""

    __slots__ = ()

    def enqueue(
        self,
        queue: str,
        payload: object,
        *,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        run_at: datetime | None = None,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
        tags: object = None,
        parent_job_id: str | None = None,
        completion_webhook: str | None = None,
        completion_webhook_secret: str | None = None,
    ) -> Enqueued:
        """Store a job; when this returns it is durable.

        `payload` is anything msgspec can encode as JSON, up to 1 MiB. `priority` is -100 to 100, higher
        first; `max_retries` 0 to 100; `timeout_seconds` 1 to 86400. What is None takes the queue's
        default. `run_at` and `expires_at` need a time zone. With an `idempotency_key` (up to 255
        characters) the call is safe to repeat: the second one returns the first one's id and
        `created=False`. A `completion_webhook` (a URL) is stored with the job and not called by this
        version of the server. Raises ValidationFailed, AccessDenied, PayloadTooLarge, QuotaExceeded.
        Contract: spooled-jobs 3.1.
        """
        body = body_of(
            queue_name=queue,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            scheduled_at=optional_instant(run_at),
            expires_at=optional_instant(expires_at),
            idempotency_key=idempotency_key,
            tags=tags,
            parent_job_id=parent_job_id,
            completion_webhook=completion_webhook,
            completion_webhook_secret=completion_webhook_secret,
        )
        # JSON null is a payload like any other.
        body["payload"] = payload
        return self._transport.call(
            Enqueued, "POST", "/api/v1/jobs", body=body, replay_safe=idempotency_key is not None
        )

    def enqueue_many(
        self,
        queue: str,
        items: Iterable[NewJob],
        *,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
    ) -> BulkEnqueued:
        """Store many jobs, 100 a request; each request is durable and all or nothing against quotas.

        Items that break a rule are listed in `failed`, the others are stored. An exception stops the
        input where it stands and carries a note of how many items were answered before; with
        idempotency keys the call can then simply be repeated. Contract: spooled-jobs 3.9.
        """
        succeeded: list[BatchSuccess] = []
        failed: list[BatchFailure] = []
        offset = 0
        for chunk in chunks(items, BULK_ITEMS_MAX):
            body = body_of(
                queue_name=queue,
                jobs=[_with_instant(item) for item in chunk],
                default_priority=priority,
                default_max_retries=max_retries,
                default_timeout_seconds=timeout_seconds,
            )
            replay_safe = all(item.idempotency_key is not None for item in chunk)
            try:
                answer = self._transport.call(
                    BulkEnqueued, "POST", "/api/v1/jobs/bulk", body=body, replay_safe=replay_safe
                )
            except MillstreamError as error:
                error.add_note(f"{offset} items before these were answered, {len(succeeded)} of them stored")
                raise
            succeeded += (BatchSuccess(row.index + offset, row.id, row.created) for row in answer.succeeded)
            failed += (BatchFailure(row.index + offset, row.error) for row in answer.failed)
            offset += len(chunk)
        return BulkEnqueued(succeeded, failed)

    def get(self, job_id: str) -> Job:
        """Return a job. Raises NotFound. Contract: spooled-jobs 3.3."""
        return self._transport.call(Job, "GET", f"/api/v1/jobs/{segment(job_id)}")

    def list(
        self,
        *,
        queue: str | None = None,
        status: JobStatus | Sequence[JobStatus] | None = None,
        search: str | None = None,
        job_type: str | None = None,
        tag: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        order_by: JobOrder = "created_at",
        descending: bool = True,
        limit: int = 50,
        offset: int = 0,
    ) -> Page[JobSummary]:
        """Return one page (`limit` up to 100) of the jobs that match every filter given.

        `search` matches the start of the id or a part of the queue name or of `payload.job_type`;
        `created_after` is inclusive, `created_before` exclusive. Contract: spooled-jobs 3.2.
        """
        statuses = [status] if isinstance(status, str) else status
        params = query_of(
            queue_name=queue,
            status=None if statuses is None else ",".join(statuses),
            q=search,
            job_type=job_type,
            tag=tag,
            created_after=created_after,
            created_before=created_before,
            order_by=order_by,
            order_dir="desc" if descending else "asc",
            limit=limit,
            offset=offset,
        )
        response = self._transport.send("GET", "/api/v1/jobs", params=params)
        return Page(decode(response, list[JobSummary]), has_more(response.headers))

    def iterate(
        self,
        *,
        queue: str | None = None,
        status: JobStatus | Sequence[JobStatus] | None = None,
        search: str | None = None,
        job_type: str | None = None,
        tag: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[JobSummary]:
        """Go through every job that matches, oldest first, fetching pages as needed.

        Pages go by creation time rather than by offset, so that jobs which come and go in the meantime
        do not make it skip others (but for more than a page of jobs created in the same microsecond).
        """
        since = created_after
        offset = 0
        seen_at_since: set[str] = set()
        while True:
            page = self.list(
                queue=queue,
                status=status,
                search=search,
                job_type=job_type,
                tag=tag,
                created_after=since,
                created_before=created_before,
                descending=False,
                limit=ITERATED_PAGE,
                offset=offset,
            )
            for job in page:
                if job.id not in seen_at_since:
                    yield job
            if not page.has_more or not page.items:
                return
            newest = page[-1].created_at
            if newest == since:
                offset += len(page)
            else:
                since, offset = newest, 0
                seen_at_since = {job.id for job in page if job.created_at == newest}

    def history(
        self, job_id: str, *, descending: bool = False, limit: int = 100, offset: int = 0
    ) -> Page[JobEvent]:
        """Return one page (`limit` up to 500) of what happened to a job, oldest first by default.

        Raises NotFound. Contract: spooled-jobs 3.10.
        """
        params = query_of(order_dir="desc" if descending else "asc", limit=limit, offset=offset)
        response = self._transport.send("GET", f"/api/v1/jobs/{segment(job_id)}/history", params=params)
        return Page(decode(response, list[JobEvent]), has_more(response.headers))

    def stats(self) -> JobStats:
        """Count the tenant's jobs by status. Contract: spooled-jobs 3.7."""
        return self._transport.call(JobStats, "GET", "/api/v1/jobs/stats")

    def status(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        """Return the state of each job by id, 100 ids a request; unknown ids are left out.

        Contract: spooled-jobs 3.8.
        """
        states: dict[str, JobState] = {}
        for chunk in chunks(job_ids, STATUS_IDS_MAX):
            params = query_of(ids=",".join(chunk))
            rows = self._transport.call(list[JobState], "GET", "/api/v1/jobs/status", params=params)
            states.update((row.id, row) for row in rows)
        return states

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is pending or scheduled.

        Raises Conflict in any other status (running included), NotFound. Contract: spooled-jobs 3.4.
        """
        try:
            self._transport.send("DELETE", f"/api/v1/jobs/{segment(job_id)}", replay_safe=True)
        except Conflict as error:
            # After a lost answer a refusal may just be the echo of our own cancel.
            if error.attempt == 1 or (self.get(job_id)).status is not JobStatus.CANCELLED:
                raise

    def retry(self, job_id: str) -> Job:
        """Put a failed or dead-lettered job back into its queue for one more attempt.

        Raises Conflict for any other status and for unknown ids. Contract: spooled-jobs 3.5.
        """
        return self._transport.call(Job, "POST", f"/api/v1/jobs/{segment(job_id)}/retry")

    def set_priority(self, job_id: str, priority: int) -> PriorityChange:
        """Change the priority (-100 to 100) of a pending or scheduled job.

        Raises NotFound when it is neither. Contract: spooled-jobs 3.6.
        """
        return self._transport.call(
            PriorityChange,
            "PUT",
            f"/api/v1/jobs/{segment(job_id)}/priority",
            body={"priority": priority},
            replay_safe=True,
        )


def _with_instant(item: NewJob) -> NewJob:
    if item.run_at is None:
        return item
    return NewJob(item.payload, item.priority, optional_instant(item.run_at), item.idempotency_key)
