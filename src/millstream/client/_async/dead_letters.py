"""Dead letters: the jobs that used up their retries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from millstream.client._async.transport import AsyncTransport, decode
from millstream.client.requests import body_of, has_more, optional_instant, query_of
from millstream.client.types import DeadLetterRetry, JobSummary, Page


class _Purged(msgspec.Struct):
    purged_count: int


@dataclass(frozen=True, slots=True)
class AsyncDeadLetters:
    """`client.dead_letters`."""

    _transport: AsyncTransport

    async def list(
        self,
        *,
        queue: str | None = None,
        search: str | None = None,
        job_type: str | None = None,
        tag: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Page[JobSummary]:
        """Return one page (`limit` up to 100), newest first; the filters are those of `jobs.list`.

        Contract: spooled-jobs 3.16.
        """
        params = query_of(
            queue_name=queue,
            q=search,
            job_type=job_type,
            tag=tag,
            created_after=created_after,
            created_before=created_before,
            limit=limit,
            offset=offset,
        )
        response = await self._transport.send("GET", "/api/v1/jobs/dlq", params=params)
        return Page(decode(response, list[JobSummary]), has_more(response.headers))

    async def retry(
        self, *, job_ids: Sequence[str] | None = None, queue: str | None = None, limit: int = 100
    ) -> DeadLetterRetry:
        """Put dead letters back with a fresh count of retries: those named, else the oldest `limit`.

        At most 100 at a time; ids that are no dead letters are ignored. Raises QuotaExceeded when they
        do not fit the plan; then none was retried. Contract: spooled-jobs 3.17.
        """
        if job_ids is None:
            body = body_of(queue_name=queue, limit=limit)
        elif job_ids:
            body = body_of(job_ids=list(job_ids))
        else:
            # To the caller an empty list means none; a server could as well take it for no list at all.
            return DeadLetterRetry([])
        return await self._transport.call(DeadLetterRetry, "POST", "/api/v1/jobs/dlq/retry", body=body)

    async def purge(
        self, *, queue: str | None = None, older_than: datetime | None = None, limit: int = 10_000
    ) -> int:
        """Delete dead letters for good, oldest first, up to `limit` (1 to 10,000); returns how many.

        `older_than` spares jobs created at or after it. Contract: spooled-jobs 3.18.
        """
        body = body_of(confirm=True, queue_name=queue, older_than=optional_instant(older_than), limit=limit)
        answer = await self._transport.call(_Purged, "POST", "/api/v1/jobs/dlq/purge", body=body)
        return answer.purged_count
