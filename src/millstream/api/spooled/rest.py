"""The REST part of this dialect: all its endpoints under one root."""

from millstream.api.http.auth import BearerAuthenticator
from millstream.api.http.clients import ClientReader
from millstream.api.http.dispatcher import Dialect
from millstream.api.http.endpoint import Endpoint
from millstream.api.http.limiter import Limiter
from millstream.api.http.openapi import OpenApiEndpoint
from millstream.api.http.router import Router
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.admin import AdminEndpoints
from millstream.api.spooled.api_keys import ApiKeyEndpoints
from millstream.api.spooled.billing import BillingEndpoints
from millstream.api.spooled.dashboard import DashboardEndpoints
from millstream.api.spooled.dead_letters import DeadLetterEndpoints
from millstream.api.spooled.dependencies import DependencyEndpoints
from millstream.api.spooled.enqueue import EnqueueEndpoints
from millstream.api.spooled.ingest import IngestEndpoints
from millstream.api.spooled.jobs import JobEndpoints
from millstream.api.spooled.leases import LeaseEndpoints
from millstream.api.spooled.organizations import OrganizationEndpoints
from millstream.api.spooled.outgoing_webhooks import OutgoingWebhookEndpoints
from millstream.api.spooled.problems import ProblemBody, problem_response
from millstream.api.spooled.queues import QueueEndpoints
from millstream.api.spooled.schedules import ScheduleEndpoints
from millstream.api.spooled.sign_ins import SignInEndpoints
from millstream.api.spooled.slugs import SlugEndpoints
from millstream.api.spooled.tokens import TokenEndpoints
from millstream.api.spooled.usage import UsageEndpoints
from millstream.api.spooled.webhook_tokens import WebhookTokenEndpoints
from millstream.api.spooled.workers import WorkerEndpoints
from millstream.api.spooled.workflows import WorkflowEndpoints
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
        admin_access=engine.admin_access,
        is_https_forced=settings.force_https,
        limiter=None
        if engine.rate_limits is None
        else Limiter(engine.rate_limits, ClientReader(settings.trusted_proxies)),
    )


def spooled_endpoints(engine: Engine, settings: HttpSettings) -> list[Endpoint]:
    """Return every endpoint of the dialect."""
    return [
        *EnqueueEndpoints(engine, settings).endpoints(),
        *LeaseEndpoints(engine).endpoints(),
        *JobEndpoints(engine).endpoints(),
        *DeadLetterEndpoints(engine).endpoints(),
        *DependencyEndpoints(engine).endpoints(),
        *WorkflowEndpoints(engine, settings).endpoints(),
        *DashboardEndpoints(engine, settings).endpoints(),
        *QueueEndpoints(engine).endpoints(),
        *WorkerEndpoints(engine, settings).endpoints(),
        *ScheduleEndpoints(engine).endpoints(),
        *IngestEndpoints(engine, settings).endpoints(),
        *OutgoingWebhookEndpoints(engine).endpoints(),
        *OrganizationEndpoints(engine, settings).endpoints(),
        *UsageEndpoints(engine).endpoints(),
        *SlugEndpoints(engine).endpoints(),
        *WebhookTokenEndpoints(engine, settings).endpoints(),
        *AdminEndpoints(engine).endpoints(),
        *BillingEndpoints(engine).endpoints(),
        *ApiKeyEndpoints(engine).endpoints(),
        *TokenEndpoints(engine).endpoints(),
        # Without a mail server there is no such sign-in, and its paths are unknown ones.
        *([] if engine.sign_ins is None else SignInEndpoints(engine.sign_ins).endpoints()),
    ]
