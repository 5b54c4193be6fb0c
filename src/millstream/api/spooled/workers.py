"""Workers: registration and liveness. Contract: spooled-jobs 5."""

from uuid import uuid4

import msgspec

from millstream.api.http.body import Body
from millstream.api.http.endpoint import NO_CONTENT, Endpoint, Request, Response
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled import answers, requests
from millstream.api.spooled.rules import HOSTNAME, WORKER_ID, Rules
from millstream.api.spooled.translate import worker_body, worker_status
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, Conflict, NotFound, QuotaExceeded
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine

_REGISTER = Body(requests.RegisterWorker)
_HEARTBEAT = Body(requests.WorkerHeartbeat)
_encode = msgspec.json.Encoder().encode
_SUCCESS = Response(200, b'{"success":true}')


class WorkerEndpoints:
    """`/workers`."""

    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._workers = engine.workers
        self._settings = settings

    def endpoints(self) -> list[Endpoint]:
        """Return what is served here."""
        path = "/api/v1/workers/{worker_id}"
        return [
            Endpoint(
                method="POST",
                path="/api/v1/workers/register",
                handler=self.register,
                summary="Register a worker, or come back as one",
                tag="workers",
                body=_REGISTER,
                answers={201: answers.WorkerRegistered},
                errors=(AccessDenied, Conflict, QuotaExceeded),
            ),
            Endpoint(
                method="GET",
                path="/api/v1/workers",
                handler=self.list,
                summary="List workers, the latest heartbeat first",
                tag="workers",
                answers={200: list[answers.WorkerBody]},
            ),
            Endpoint(
                method="GET",
                path=path,
                handler=self.get,
                summary="Get a worker",
                tag="workers",
                answers={200: answers.WorkerBody},
                errors=(NotFound,),
            ),
            Endpoint(
                method="POST",
                path=f"{path}/heartbeat",
                handler=self.heartbeat,
                summary="Tell that a worker is alive",
                tag="workers",
                body=_HEARTBEAT,
                answers={200: answers.Success},
                errors=(NotFound,),
            ),
            *(
                Endpoint(
                    method=method,
                    path=deregistered,
                    handler=self.deregister,
                    summary="Take a worker offline; its leases go on",
                    tag="workers",
                    answers={204: None},
                    errors=(NotFound,),
                )
                for method, deregistered in (("POST", f"{path}/deregister"), ("DELETE", path))
            ),
        ]

    async def register(self, request: Request) -> Response:
        """Register a worker."""
        worker = _new_worker(_REGISTER.read(request.body))
        registered = await self._workers.register(request.principal, worker)
        settings = self._settings
        answer = answers.WorkerRegistered(
            registered.id, registered.queue, settings.lease_seconds, settings.heartbeat_seconds
        )
        return Response(201, _encode(answer))

    async def list(self, request: Request) -> Response:
        """List workers."""
        workers = await self._workers.list(request.principal)
        return Response(200, _encode([worker_body(worker, request.principal) for worker in workers]))

    async def get(self, request: Request) -> Response:
        """Get a worker."""
        worker = await self._workers.get(request.principal, _worker_id(request))
        return Response(200, _encode(worker_body(worker, request.principal)))

    async def heartbeat(self, request: Request) -> Response:
        """Tell that a worker is alive, and how many jobs it holds."""
        body = _HEARTBEAT.read(request.body)
        rules = Rules()
        rules.integer("current_jobs", body.current_jobs, 0, limits.WORKER_CURRENT_JOBS_MAX)
        metadata = rules.json_text("metadata", body.metadata, limits.METADATA_BYTES_MAX)
        rules.enforce()
        await self._workers.heartbeat(
            request.principal,
            _worker_id(request),
            status=worker_status(body.status),
            current_jobs=body.current_jobs,
            metadata=metadata,
        )
        return _SUCCESS

    async def deregister(self, request: Request) -> Response:
        """Take a worker offline."""
        await self._workers.deregister(request.principal, _worker_id(request))
        return NO_CONTENT


def _worker_id(request: Request) -> str:
    worker_id = request.parameters[0]
    if WORKER_ID.fullmatch(worker_id) is None:
        raise NotFound
    return worker_id


def _new_worker(body: requests.RegisterWorker) -> NewWorker:
    rules = Rules()
    rules.queue_name("queue_name", body.queue_name)
    rules.text("hostname", body.hostname, 1, limits.HOSTNAME_CHARS_MAX)
    if body.hostname:
        rules.pattern(
            "hostname",
            body.hostname,
            HOSTNAME,
            "may have letters, digits, '.', '-' and '_', the first and last neither '.' nor '-'",
        )
    rules.pattern(
        "worker_id", body.worker_id, WORKER_ID, "must have 1 to 128 letters, digits, '.', '_' or '-'"
    )
    rules.text("worker_type", body.worker_type, 0, limits.WORKER_TYPE_CHARS_MAX)
    rules.text("version", body.version, 0, limits.WORKER_VERSION_CHARS_MAX)
    rules.integer("max_concurrency", body.max_concurrency, 1, limits.WORKER_CONCURRENCY_MAX)
    metadata = rules.json_text("metadata", body.metadata, limits.METADATA_BYTES_MAX)
    rules.enforce()
    return NewWorker(
        id=str(uuid4()) if body.worker_id is None else body.worker_id,
        queue=body.queue_name,
        hostname=body.hostname,
        worker_type=body.worker_type,
        max_concurrency=body.max_concurrency,
        metadata=metadata,
        version=body.version,
    )
