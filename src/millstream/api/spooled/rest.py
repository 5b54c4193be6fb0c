"""The REST part of this dialect: all its endpoints under one root."""

from millstream.api.http.auth import BearerAuthenticator
from millstream.api.http.dispatcher import Dialect
from millstream.api.http.endpoint import Endpoint
from millstream.api.http.openapi import OpenApiEndpoint
from millstream.api.http.router import Router
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.dead_letters import DeadLetterEndpoints
from millstream.api.spooled.enqueue import EnqueueEndpoints
from millstream.api.spooled.jobs import JobEndpoints
from millstream.api.spooled.leases import LeaseEndpoints
from millstream.api.spooled.organizations import OrganizationEndpoints
from millstream.api.spooled.outgoing_webhooks import OutgoingWebhookEndpoints
from millstream.api.spooled.problems import ProblemBody, problem_response
from millstream.api.spooled.queues import QueueEndpoints
from millstream.api.spooled.workers import WorkerEndpoints
from millstream.engine.engine import Engine

PREFIX = "/api/v1"


def spooled_dialect(engine: Engine, settings: HttpSettings) -> Dialect:
    """Return the Spooled-compatible REST API of `engine`."""
    endpoints = spooled_endpoints(engine, settings)
    document = OpenApiEndpoint(f"{PREFIX}/openapi.json", endpoints, ProblemBody)
    return Dialect(
        prefix=f"{PREFIX}/".encode(),
        router=Router([*endpoints, document.endpoint()]),
        problem=problem_response,
        authenticator=BearerAuthenticator(engine.credentials),
        body_bytes_max=settings.body_bytes_max,
    )


def spooled_endpoints(engine: Engine, settings: HttpSettings) -> list[Endpoint]:
    """Return every endpoint of the dialect."""
    return [
        *EnqueueEndpoints(engine, settings).endpoints(),
        *LeaseEndpoints(engine).endpoints(),
        *JobEndpoints(engine).endpoints(),
        *DeadLetterEndpoints(engine).endpoints(),
        *QueueEndpoints(engine).endpoints(),
        *WorkerEndpoints(engine, settings).endpoints(),
        *OutgoingWebhookEndpoints(engine).endpoints(),
        *OrganizationEndpoints(engine, settings).endpoints(),
    ]
