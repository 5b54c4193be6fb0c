"""Incoming webhooks: their senders checked, their jobs enqueued, and a log of both. Contract: spooled-tenancy 11."""

from uuid import UUID

import structlog
from msgspec import Struct

from millstream.config.secret import Secret
from millstream.domain import limits
from millstream.domain.errors import AccessDenied, AuthenticationFailed, InternalError, NotFound, Unavailable
from millstream.domain.ingest import (
    IngestDelivery,
    IngestDeliveryFilter,
    Ingested,
    IngestEvent,
    Provider,
    is_signed_by_github,
    is_signed_by_stripe,
    is_webhook_token,
    may_be_public_id,
)
from millstream.domain.job import Enqueued, JobState, JobStatus
from millstream.domain.plan import plan_of
from millstream.domain.tenant import Principal
from millstream.engine.context import Context
from millstream.engine.enqueuing import Enqueuing
from millstream.store import ingest, job_reads
from millstream.store.database import Session
from millstream.store.ingest import WebhookTenant

# Whoever sends a webhook acts through no API key.
NO_API_KEY = UUID(int=0)
TENANTS_TRIMMED_MAX = 100_000

_log = structlog.get_logger(__name__)


class WebhookSecrets(Struct, frozen=True, kw_only=True):
    """What providers sign with; one secret each for the whole installation, None while there is none."""

    github: Secret | None = None
    stripe: Secret | None = None


class Ingest:
    """The incoming webhooks of all tenants."""

    def __init__(self, context: Context, enqueuing: Enqueuing, *, secrets: WebhookSecrets) -> None:
        self._context = context
        self._enqueuing = enqueuing
        self._secrets = secrets
        self._missing: set[Provider] = set()
        # How many entries this process added to a tenant's log since it trimmed it.
        self._untrimmed: dict[int, int] = {}

    async def admit_custom(self, public_id: str, *, token: bytes | None) -> Principal:
        """Return whom a custom webhook with this token acts for.

        Raises NotFound for an unknown tenant, AuthenticationFailed for any token but its own. Contract:
        spooled-tenancy 11.1.
        """
        tenant = await self._find_tenant(public_id)
        _check_token(tenant, token or b"")
        return _principal_of(tenant)

    async def admit_github(
        self, public_id: str, *, token: bytes | None, signature: bytes, body: bytes
    ) -> Principal:
        """Return whom a GitHub webhook acts for, judged by the signature of its raw body.

        A token need not be there, but must be right if it is. Raises NotFound, AuthenticationFailed, and
        InternalError while no secret is configured. Contract: spooled-tenancy 11.3.
        """
        tenant = await self._find_tenant(public_id)
        if token is not None:
            _check_token(tenant, token)
        secret = self._secret_of(Provider.GITHUB, self._secrets.github)
        if not is_signed_by_github(signature, body, secret):
            raise AuthenticationFailed
        return _principal_of(tenant)

    async def admit_stripe(
        self, public_id: str, *, token: bytes | None, signature: bytes, body: bytes
    ) -> Principal:
        """Return whom a Stripe webhook acts for, judged by the signature of its raw body and the time in it.

        Raises as `admit_github` does. Contract: spooled-tenancy 11.4.
        """
        tenant = await self._find_tenant(public_id)
        if token is not None:
            _check_token(tenant, token)
        secret = self._secret_of(Provider.STRIPE, self._secrets.stripe)
        if not is_signed_by_stripe(signature, body, secret, tenant.at):
            raise AuthenticationFailed
        return _principal_of(tenant)

    async def accept(self, principal: Principal, event: IngestEvent) -> Ingested:
        """Enqueue the job of an admitted webhook and log it, in one transaction.

        A job that is known by its idempotency key is answered as it stands. Raises as `Jobs.enqueue` does;
        then neither is there. Contract: spooled-tenancy 11.1.
        """
        queue, state = event.job.queue, JobState.READY

        async def log(session: Session, enqueued: Enqueued) -> None:
            nonlocal queue, state
            if not enqueued.created:
                known = await _get_job(session, principal.tenant_id, enqueued.id)
                queue, state = known.queue, known.state
            await self._log_delivery(session, principal.tenant_id, event, enqueued)

        enqueued = await self._enqueuing.enqueue_beside(principal, event.job, log)
        return Ingested(job_id=enqueued.id, queue=queue, state=state, created=enqueued.created)

    async def list_deliveries(
        self, principal: Principal, wanted: IngestDeliveryFilter
    ) -> list[IngestDelivery]:
        """Return a page of the log, the newest first. Raises AccessDenied for a key of some queues only.

        Contract: spooled-tenancy 11.5.
        """
        if principal.queues is not None:
            raise AccessDenied
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await ingest.list_ingest_deliveries(session, principal.tenant_id, wanted)

    async def _find_tenant(self, public_id: str) -> WebhookTenant:
        if not may_be_public_id(public_id):
            raise NotFound
        # Never remembered: a token that was replaced stops working at once.
        async with self._context.database.session() as session:
            tenant = await ingest.find_webhook_tenant(session, public_id, self._context.now())
        if tenant is None:
            raise NotFound
        return tenant

    def _secret_of(self, provider: Provider, secret: Secret | None) -> str:
        if not secret:
            # Once: strangers can send these, and must not fill the log.
            if provider not in self._missing:
                self._missing.add(provider)
                _log.error("webhooks are refused: no secret is configured", provider=provider.name.lower())
            raise InternalError
        return secret.reveal()

    async def _log_delivery(
        self, session: Session, tenant_id: int, event: IngestEvent, enqueued: Enqueued
    ) -> None:
        await ingest.insert_ingest_delivery(
            session, tenant_id, self._context.ids.next(), event, enqueued, now=self._context.now()
        )
        # Also at the first one, so that restarts do not let a log grow.
        untrimmed = self._untrimmed.get(tenant_id, limits.INGEST_DELIVERIES_BETWEEN_TRIMS) + 1
        if untrimmed > limits.INGEST_DELIVERIES_BETWEEN_TRIMS:
            untrimmed = 0
            await ingest.trim_ingest_deliveries(
                session, tenant_id, kept=limits.INGEST_DELIVERIES_MAX, limit=limits.PRUNED_ROWS_MAX
            )
        if len(self._untrimmed) >= TENANTS_TRIMMED_MAX:
            self._untrimmed.clear()
        self._untrimmed[tenant_id] = untrimmed


def _check_token(tenant: WebhookTenant, token: bytes) -> None:
    if not is_webhook_token(token, tenant.webhook_token):
        raise AuthenticationFailed


async def _get_job(session: Session, tenant_id: int, job_id: UUID) -> JobStatus:
    found = await job_reads.list_job_statuses(session, tenant_id, [job_id], None)
    if not found:
        # It was removed in this moment, and its key with it: the next attempt makes a job.
        raise Unavailable
    return found[0]


def _principal_of(tenant: WebhookTenant) -> Principal:
    return Principal(
        tenant_id=tenant.id,
        organization_id=tenant.public_id,
        api_key_id=NO_API_KEY,
        plan=plan_of(tenant.plan_tier, tenant.custom_limits),
    )
