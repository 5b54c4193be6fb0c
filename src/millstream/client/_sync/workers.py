"""The server's register of workers. `Worker` keeps itself in it."""

from dataclasses import dataclass

from millstream.client._sync.transport import Transport
from millstream.client.requests import body_of, segment
from millstream.client.types import RegisteredWorker, WorkerInfo, WorkerStatus


@dataclass(frozen=True, slots=True)
class Workers:
    """`client.workers`."""

    _transport: Transport

    def register(
        self,
        queue: str,
        *,
        hostname: str,
        worker_id: str | None = None,
        worker_type: str | None = None,
        concurrency: int = 5,
        metadata: object = None,
        version: str | None = None,
    ) -> RegisteredWorker:
        """Announce a worker; a `worker_id` of yours (1 to 128 of `A-Z a-z 0-9 . _ -`) may be reused.

        `concurrency` is 1 to 100. Raises Conflict when the id is another tenant's, QuotaExceeded.
        Contract: spooled-jobs 5.1.
        """
        body = body_of(
            queue_name=queue,
            hostname=hostname,
            worker_id=worker_id,
            worker_type=worker_type,
            max_concurrency=concurrency,
            metadata=metadata,
            version=version,
        )
        return self._transport.call(
            RegisteredWorker,
            "POST",
            "/api/v1/workers/register",
            body=body,
            replay_safe=worker_id is not None,
        )

    def list(self) -> list[WorkerInfo]:
        """Return the 100 workers heard of last. Contract: spooled-jobs 5.2."""
        return self._transport.call(list[WorkerInfo], "GET", "/api/v1/workers")

    def get(self, worker_id: str) -> WorkerInfo:
        """Return a worker. Raises NotFound. Contract: spooled-jobs 5.3."""
        return self._transport.call(WorkerInfo, "GET", f"/api/v1/workers/{segment(worker_id)}")

    def heartbeat(
        self,
        worker_id: str,
        *,
        current_jobs: int,
        status: WorkerStatus | None = None,
        metadata: object = None,
    ) -> None:
        """Say that a worker lives and runs `current_jobs` (0 to 1000); its leases are not renewed by it.

        Raises NotFound. Contract: spooled-jobs 5.4.
        """
        body = body_of(current_jobs=current_jobs, status=status, metadata=metadata)
        path = f"/api/v1/workers/{segment(worker_id)}/heartbeat"
        self._transport.send("POST", path, body=body, replay_safe=True)

    def deregister(self, worker_id: str) -> None:
        """Mark a worker offline; jobs it still holds stay with it until their leases run out.

        Raises NotFound. Contract: spooled-jobs 5.5.
        """
        path = f"/api/v1/workers/{segment(worker_id)}/deregister"
        self._transport.send("POST", path, replay_safe=True)
