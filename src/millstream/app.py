"""The composition root: the only place where the parts of a server are put together."""

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog
from msgspec import Struct
from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.api.http.app import create_http_app
from millstream.api.http.settings import HttpSettings
from millstream.background.roster import loops_of
from millstream.background.supervisor import Supervisor
from millstream.config import Config, Environment, RegistrationMode
from millstream.domain.clock import Clock
from millstream.domain.errors import MillstreamError
from millstream.domain.topic_settings import TopicSettings
from millstream.embedded import EmbeddedServer
from millstream.embedded.binaries import find_binaries
from millstream.engine.context import JobMeters
from millstream.engine.credentials import KeyMaker
from millstream.engine.delivering import DeliverySettings
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.engine.enqueuing import EnqueueLimits
from millstream.engine.ingest import WebhookSecrets
from millstream.engine.rate_limits import AddressLimit, RateLimits, Shared
from millstream.engine.sign_ins import SignInSettings
from millstream.engine.tenants import create_tenant
from millstream.observe import metrics
from millstream.observe.metrics import batch_meter, count_api_request, render_metrics
from millstream.observe.signals import SILENT, Signals
from millstream.observe.tracing import Tracing, open_tracing
from millstream.store import installation, migrations, tenants
from millstream.store.database import Database, Roles, Session
from millstream.store.jobs import ServerDefaults
from millstream.store.relay import OpenLine
from millstream.store.traced_session import traced_sessions

FIRST_ORGANIZATION = ("Default organization", "default")
FIRST_PLAN = "enterprise"
_ANSWER_SECONDS = 2

_log = structlog.get_logger(__name__)


class FirstCredentials(Struct, frozen=True, kw_only=True):
    """What the very first start made; the secrets are not stored anywhere else."""

    organization_id: str
    api_key: str
    admin_key: str | None


class Migrated(Struct, frozen=True, kw_only=True):
    """What `migrate` did."""

    applied: list[str]
    credentials: FirstCredentials | None


class Prepared:
    """A database that is ready to be served from."""

    def __init__(
        self, dsn: str, embedded: EmbeddedServer | None, credentials: FirstCredentials | None
    ) -> None:
        self.dsn = dsn
        self.embedded = embedded
        self.credentials = credentials

    async def close(self) -> None:
        """Leave the embedded server; the last one out stops it."""
        if self.embedded is not None:
            await self.embedded.close()


async def prepare(config: Config) -> Prepared:
    """Open the embedded server or take the configured one, with the schema in place.

    An embedded database is created and migrated; an external one is only checked, since changing it is
    its owner's decision. Raises EmbeddedError, MillstreamError.
    """
    if config.database.url is not None:
        dsn = config.database.url.reveal()
        async with installation.direct_session(_direct_dsn(config, dsn)) as session:
            await migrations.check_schema(session)
        return Prepared(dsn, None, None)
    embedded = await _open_embedded(config)
    try:
        dsn = await _create_embedded_database(embedded)
        migrated = await _migrate(dsn, config, embedded=True)
    except BaseException:
        await embedded.close()
        raise
    return Prepared(dsn, embedded, migrated.credentials)


async def migrate(config: Config) -> Migrated:
    """Bring the schema of the configured database to this version, and make the first tenant of an empty one."""
    if config.database.url is not None:
        return await _migrate(_direct_dsn(config, config.database.url.reveal()), config, embedded=False)
    embedded = await _open_embedded(config)
    try:
        return await _migrate(await _create_embedded_database(embedded), config, embedded=True)
    finally:
        await embedded.close()


async def _open_embedded(config: Config) -> EmbeddedServer:
    data_dir = config.database.data_dir
    if data_dir is None:
        raise MillstreamError("no data directory was given: name one with --data-dir")
    binaries = find_binaries(config.database.postgres_bin_dir)
    return await EmbeddedServer.open(data_dir, binaries=binaries)


async def _create_embedded_database(embedded: EmbeddedServer) -> str:
    await installation.create_embedded_database(embedded.dsn(), Roles())
    return embedded.dsn(user=installation.EMBEDDED_LOGIN, database=installation.EMBEDDED_DATABASE)


async def _migrate(dsn: str, config: Config, *, embedded: bool) -> Migrated:
    async with installation.direct_session(dsn) as session:
        await migrations.lock(session)
        roles = Roles()
        if await migrations.applied_versions(session):
            roles = await installation.read_roles(session)
        elif not embedded:
            await installation.prepare_external_database(session, roles)
        applied = await installation.migrate(session, roles)
        credentials = await _first_tenant(session, config, embedded=embedded)
    return Migrated(
        applied=[f"{migration.version:04} {migration.name}" for migration in applied], credentials=credentials
    )


async def _first_tenant(session: Session, config: Config, *, embedded: bool) -> FirstCredentials | None:
    """Make the default organization of an empty database. Ruling R30."""
    if await tenants.has_tenants(session):
        return None
    name, slug = FIRST_ORGANIZATION
    tenant, key = await create_tenant(
        session,
        name=name,
        slug=slug,
        billing_email=None,
        plan_tier=FIRST_PLAN,
        key_maker=KeyMaker(
            pepper=await _pepper(session, config),
            live=_has_live_keys(config),
            hash_cost=config.security.api_key_hash_cost,
        ),
    )
    development = config.server.environment is Environment.DEVELOPMENT
    admin_key = None
    if embedded and development and config.security.admin_api_key is None:
        admin_key = secrets.token_urlsafe(32)
        await installation.note_admin_key(session, admin_key)
    return FirstCredentials(organization_id=tenant.public_id, api_key=key.secret, admin_key=admin_key)


async def _pepper(session: Session, config: Config) -> bytes:
    configured = config.security.api_key_pepper
    if configured is not None:
        return configured.reveal().encode()
    return bytes.fromhex(await tenants.get_setting(session, "api_key_pepper"))


def _has_live_keys(config: Config) -> bool:
    return config.server.environment is Environment.PRODUCTION


def _direct_dsn(config: Config, dsn: str) -> str:
    direct = config.database.direct_url
    return dsn if direct is None else direct.reveal()


class App:
    """One process of the server: engine, HTTP and loops over one database."""

    def __init__(self, config: Config, dsn: str, *, clock: Clock | None, signals: Signals) -> None:
        self._config = config
        self._dsn = dsn
        self._clock = clock
        self._signals = signals
        self._database: Database | None = None
        self._engine: Engine | None = None
        self._supervisor: Supervisor | None = None
        self._serve: ASGIApp | None = None
        self._tracing: Tracing | None = None

    @property
    def engine(self) -> Engine:
        """The use cases. Raises MillstreamError before `start`."""
        if self._engine is None:
            raise MillstreamError("the application was not started")
        return self._engine

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request (ASGI). Raises MillstreamError before `start`."""
        if self._serve is None:
            raise MillstreamError("the application was not started")
        await self._serve(scope, receive, send)

    async def start(self, *, loops: bool = True) -> None:
        """Connect, then start the engine and, unless told otherwise, the loops."""
        config = self._config
        async with self._direct() as session:
            roles = await installation.read_roles(session)
        tracing = self._tracing = open_tracing(config.otel, config.server.environment)
        self._database = await Database.open(
            self._dsn,
            roles=roles,
            min_size=config.database.min_connections,
            max_size=config.database.max_connections,
            make_session=Session if tracing is None else traced_sessions(tracing.tracer),
            # Within a request's own time, so that what waits for a connection is told 503 and not 408.
            acquire_seconds=min(
                config.database.acquire_timeout_seconds, config.server.request_timeout_seconds * 0.9
            ),
        )
        pepper = config.security.api_key_pepper
        admin_key = config.security.admin_api_key
        jwt_secret = config.security.jwt_secret
        self._engine = await open_engine(
            self._database,
            EngineSettings(
                defaults=ServerDefaults(
                    config.queue.default_max_retries, config.queue.default_timeout_seconds
                ),
                enqueue_limits=EnqueueLimits(config.queue.payload_bytes_max),
                worker_max_concurrency=config.worker.max_concurrency,
                live_keys=_has_live_keys(config),
                key_hash_cost=config.security.api_key_hash_cost,
                pepper=None if pepper is None else pepper.reveal().encode(),
                admin_key=None if admin_key is None else admin_key.reveal(),
                first_admin_key=config.server.environment is Environment.DEVELOPMENT,
                token_secret=None if jwt_secret is None else jwt_secret.reveal(),
                access_token_hours=config.security.jwt_expiration_hours,
                sign_in=_sign_in_settings(config),
                webhook_secrets=WebhookSecrets(
                    github=config.security.github_webhook_secret, stripe=config.security.stripe_webhook_secret
                ),
                workflow_jobs_max=config.workflows.jobs_max,
                deliveries=DeliverySettings(
                    attempts=config.webhooks.attempts,
                    local_http=config.server.environment is not Environment.PRODUCTION,
                ),
                topics=_topic_settings(config),
            ),
            direct=self._direct,
            open_line=await self._redis_line(),
            clock=self._clock,
            meters=_meters(),
            observe_batch=_batch_observer,
            rate_limits=_rate_limits(config),
            topic_rate_limits=_topic_rate_limits(config),
        )
        if tracing is not None:
            self._engine.trace(tracing.tracer)
        self._serve = create_http_app(
            self._engine,
            _http_settings(config),
            observe=lambda _method, _path, _status, seconds: count_api_request(seconds),
            render_metrics=render_metrics,
            tracer=None if tracing is None else tracing.tracer,
        )
        if loops:
            # Among the living before the first request: whoever revokes a key waits for this process too.
            await self._engine.relay.beat()
            upkeep = self._engine.upkeep
            self._supervisor = Supervisor(
                loops_of(self._engine), lead=upkeep.lead, resign=upkeep.resign, signals=self._signals
            )
            await self._supervisor.start()

    async def stop(self) -> None:
        """Answer what was asked, then let go of the database."""
        if self._engine is not None:
            await self._engine.close()
        if self._supervisor is not None:
            await self._supervisor.stop()
            await self.engine.relay.stop()
        if self._database is not None:
            await self._database.close()
        if self._tracing is not None:
            await self._tracing.close()

    async def _redis_line(self) -> OpenLine | None:
        """Return what opens a line over Redis; None when none is configured. Raises MillstreamError."""
        url = self._config.redis.url
        if url is None:
            return None
        try:
            from millstream.store.redis_line import redis_line  # noqa: PLC0415 - its library is an extra
        except ImportError as error:
            raise MillstreamError(
                "REDIS_URL needs the `redis` extra: install millstream[server,redis]"
            ) from error
        async with self._direct() as session:
            installation_id = await tenants.get_setting(session, "installation_id")
        return redis_line(url.reveal(), installation_id, connections_max=self._config.redis.pool_size)

    def _direct(self) -> AbstractAsyncContextManager[Session]:
        return installation.direct_session(_direct_dsn(self._config, self._dsn))


def build(config: Config, dsn: str, *, clock: Clock | None = None, signals: Signals = SILENT) -> App:
    """Return one process's application over the database at `dsn`; `start` connects it."""
    return App(config, dsn, clock=clock, signals=signals)


def _http_settings(config: Config) -> HttpSettings:
    token = config.security.metrics_token
    production = config.server.environment is not Environment.DEVELOPMENT
    return HttpSettings(
        production=production,
        environment=config.server.environment.value,
        cors_origins=config.server.cors_allowed_origins if production else None,
        hsts=config.server.enable_hsts,
        metrics_token=None if token is None else token.reveal(),
        payload_bytes_max=config.queue.payload_bytes_max,
        handler_seconds_max=config.server.request_timeout_seconds,
        lease_seconds=config.worker.lease_seconds,
        heartbeat_seconds=config.worker.heartbeat_interval_seconds,
        registration_mode=config.security.registration_mode,
        base_url=config.server.base_url,
        force_https=config.server.force_https,
        trusted_proxies=config.server.trusted_proxies,
        topics_without_credentials=config.server.is_local,
    )


def _topic_settings(config: Config) -> TopicSettings:
    # A held poll is answered before its request's own time is up.
    longest = max(config.server.request_timeout_seconds - _ANSWER_SECONDS, 0.0)
    return replace(config.topics, poll_wait_seconds_max=min(config.topics.poll_wait_seconds_max, longest))


def _sign_in_settings(config: Config) -> SignInSettings | None:
    smtp_url = config.mail.smtp_url
    if smtp_url is None:
        return None
    return SignInSettings(
        smtp_url=smtp_url.reveal(),
        sender=config.mail.sender,
        may_sign_up=config.security.registration_mode is RegistrationMode.OPEN,
    )


def _rate_limits(config: Config) -> RateLimits | None:
    if not config.rate_limit.enabled:
        return None
    address = AddressLimit(
        requests_per_second=config.rate_limit.requests_per_second, burst=config.rate_limit.burst
    )
    shared = _shared_buckets(config)
    return RateLimits(address, shared=shared, processes=config.server.processes)


def _topic_rate_limits(config: Config) -> RateLimits | None:
    most = config.topics.requests_per_second_max
    if not most:
        return None
    shared = _shared_buckets(config)
    address = AddressLimit(requests_per_second=most, burst=most)
    return RateLimits(address, shared=shared, processes=config.server.processes, apart="topics")


def _shared_buckets(config: Config) -> Shared | None:
    if config.redis.url is None:
        return None
    try:
        from millstream.store.shared_buckets import SharedBuckets  # noqa: PLC0415 - needs an optional package
    except ModuleNotFoundError as error:
        raise MillstreamError(
            "a Redis URL is given, but its client is not installed: pip install 'millstream[redis]'"
        ) from error
    return SharedBuckets(
        config.redis.url.reveal(),
        pool_size=config.redis.pool_size,
        count_operation=metrics.REDIS_OPERATIONS.inc,
    )


def _meters() -> JobMeters:
    return JobMeters(
        enqueued=metrics.JOBS_ENQUEUED.inc,
        completed=metrics.JOBS_COMPLETED.inc,
        failed=metrics.JOBS_FAILED.inc,
        retried=metrics.JOBS_RETRIED.inc,
        dead=metrics.JOBS_DEADLETTERED.inc,
        durations_seconds=metrics.JOB_DURATION.observe_many,
    )


def _batch_observer(operation: str) -> Callable[[int, float, int], None]:
    meter = batch_meter(operation)
    return lambda rows, seconds, waiting: meter.observe(rows=rows, seconds=seconds, queue_rows=waiting)
