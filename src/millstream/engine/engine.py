"""The engine: every use case of the server, over one database."""

from collections.abc import Callable

from msgspec import Struct
from opentelemetry.trace import Tracer

from millstream.domain.clock import Clock
from millstream.domain.topic_settings import TopicSettings
from millstream.domain.workflow import JOBS_MAX_DEFAULT
from millstream.engine.acknowledging import Acknowledging
from millstream.engine.admin import Admin
from millstream.engine.admin_access import AdminAccess, digest_of
from millstream.engine.api_keys import ApiKeys
from millstream.engine.claims import Claiming
from millstream.engine.compaction import Compaction
from millstream.engine.context import BatchObserver, Context, JobMeters
from millstream.engine.cooperative import Cooperative
from millstream.engine.credentials import Credentials, KeyMaker
from millstream.engine.dashboard import Dashboard
from millstream.engine.delayed import DelayedHint, DelayedMessages
from millstream.engine.deletions import Deleting
from millstream.engine.delivering import Delivering, DeliverySettings
from millstream.engine.dependencies import DependencyUseCases
from millstream.engine.enqueuing import EnqueueLimits, Enqueuing
from millstream.engine.firing import Firing
from millstream.engine.groups import Groups
from millstream.engine.health import Health
from millstream.engine.ingest import Ingest, WebhookSecrets
from millstream.engine.inline import InlineIntake
from millstream.engine.jobs import Jobs
from millstream.engine.lease_ends import LeaseEnds
from millstream.engine.log_in_throttle import LogInThrottle
from millstream.engine.log_retention import LogRetention
from millstream.engine.message_burial import MessageBurial
from millstream.engine.message_statistics import MessageStatistics
from millstream.engine.outgoing_webhooks import OutgoingWebhooks
from millstream.engine.polling import Polling
from millstream.engine.positions import Positions
from millstream.engine.publishing import Publishing
from millstream.engine.queues import Queues
from millstream.engine.rate_limits import RateLimits
from millstream.engine.reading import Reading
from millstream.engine.relay import Relay
from millstream.engine.reviving import Reviving
from millstream.engine.schedules import Schedules
from millstream.engine.settlements import Settling
from millstream.engine.sightings import Sightings
from millstream.engine.sign_ins import SignIns, SignInSettings
from millstream.engine.tenant_removal import TenantRemoval
from millstream.engine.tenant_selection import TenantSelection
from millstream.engine.tenants import Tenants
from millstream.engine.token_signing import TokenSigner
from millstream.engine.tokens import Tokens
from millstream.engine.topics import Topics
from millstream.engine.upkeep import Direct, Upkeep
from millstream.engine.usage import Usage
from millstream.engine.workers import Workers
from millstream.engine.workflow_following import Following
from millstream.engine.workflows import Workflows
from millstream.store import tenants
from millstream.store.database import Database
from millstream.store.jobs import ServerDefaults
from millstream.store.relay import OpenLine, postgres_line


class EngineSettings(Struct, frozen=True, kw_only=True):
    """What an engine is configured with.

    An empty `admin_key` lets nobody administer; None neither, unless the first start's key is to count.
    """

    defaults: ServerDefaults = ServerDefaults()
    enqueue_limits: EnqueueLimits = EnqueueLimits()
    worker_max_concurrency: int = 5
    live_keys: bool = False
    key_hash_cost: int = 12
    pepper: bytes | None = None
    admin_key: str | None = None
    first_admin_key: bool = False
    token_secret: str | None = None
    access_token_hours: int = 24
    sign_in: SignInSettings | None = None
    create_lanes: int = 1
    complete_lanes: int = 1
    webhook_secrets: WebhookSecrets = WebhookSecrets()
    deliveries: DeliverySettings = DeliverySettings()
    workflow_jobs_max: int = JOBS_MAX_DEFAULT
    topics: TopicSettings = TopicSettings()


class Engine:
    """All use cases by noun."""

    def __init__(
        self,
        context: Context,
        settings: EngineSettings,
        *,
        key_maker: KeyMaker,
        admin_digest: bytes | None,
        token_secret: str,
        direct: Direct,
        open_line: OpenLine | None = None,
        rate_limits: RateLimits | None,
        topic_rate_limits: RateLimits | None,
    ) -> None:
        enqueuing = Enqueuing(
            context,
            defaults=settings.defaults,
            enqueue_limits=settings.enqueue_limits,
            lanes=settings.create_lanes,
        )
        self.context = context
        self.hub = context.hub
        self.claiming = Claiming(context)
        self.settling = Settling(context, lanes=settings.complete_lanes)
        self.topic_settings = settings.topics
        self.topics = Topics(context, settings.topics)
        delayed_hint = DelayedHint()
        self.publishing = Publishing(context, self.topics, settings.topics, delayed_hint)
        burial = MessageBurial(self.topics, self.publishing, settings.topics)
        self.lease_ends = LeaseEnds(context, burial, settings.topics)
        sightings = Sightings(context)
        self.polling = Polling(context, self.lease_ends, sightings, settings.topics)
        self.acknowledging = Acknowledging(context, burial, self.lease_ends, sightings, settings.topics)
        self.positions = Positions(context, sightings)
        self.message_statistics = MessageStatistics(context, settings.topics)
        self.reading = Reading(context, self.topics, settings.topics)
        self.delayed = DelayedMessages(context, self.topics, delayed_hint)
        self.log_retention = LogRetention(context)
        self.compaction = Compaction(context, self.topics, settings.topics)
        self._batchers = (
            enqueuing.batcher,
            self.claiming.batcher,
            self.settling.completions,
            self.settling.failures,
            self.settling.renewals,
            self.publishing.batcher,
            self.polling.batcher,
            self.acknowledging.acks,
            self.acknowledging.failures,
        )
        deleting = Deleting(context)
        self.following = Following(context)
        reviving = Reviving(self.following)
        self.jobs = Jobs(context, enqueuing, self.claiming, self.settling, deleting, reviving)
        self.firing = Firing(context, enqueuing)
        self.schedules = Schedules(context, enqueuing, self.firing)
        self.workflows = Workflows(context, enqueuing, self.following, jobs_max=settings.workflow_jobs_max)
        self.dependencies = DependencyUseCases(context)
        self.ingest = Ingest(context, enqueuing, secrets=settings.webhook_secrets)
        self.queues = Queues(context, deleting)
        self.workers = Workers(context, default_max_concurrency=settings.worker_max_concurrency)
        self.removal = TenantRemoval(context)
        self.tenants = Tenants(context, self.removal, key_maker)
        self.api_keys = ApiKeys(context, key_maker)
        self.admin = Admin(context, self.removal, self.api_keys)
        self.admin_access = AdminAccess(admin_digest)
        self.usage = Usage(context)
        signer = TokenSigner(token_secret, access_hours=settings.access_token_hours)
        throttle = LogInThrottle()
        self.credentials = Credentials(context, pepper=key_maker.pepper, signer=signer)
        self.tenant_selection = TenantSelection(context)
        self.tokens = Tokens(context, self.credentials, signer, throttle)
        self.sign_ins = (
            None
            if settings.sign_in is None
            else SignIns(
                context,
                self.credentials,
                self.tokens,
                throttle,
                settings.sign_in,
                key_maker=key_maker,
            )
        )
        self.rate_limits = rate_limits
        self.topic_rate_limits = topic_rate_limits
        self.delivering = Delivering(context, settings.deliveries)
        self.outgoing_webhooks = OutgoingWebhooks(context, self.delivering, settings.deliveries)
        self.groups = Groups(context, settings.topics)
        self.topics.on_change(self.groups.topics_changed, self.groups.wake)
        self.cooperative = Cooperative(context, settings.topics)
        self.health = Health(context, rate_limits or topic_rate_limits)
        self.dashboard = Dashboard(context, self.health)
        self.upkeep = Upkeep(context, direct)
        self.inline = InlineIntake(context, self.publishing, direct)
        self.relay = Relay(context, open_line or postgres_line(direct))

    def trace(self, tracer: Tracer) -> None:
        """Have group commit traced. Call it before the first request."""
        for batcher in self._batchers:
            batcher.trace(tracer)

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        self.reading.close()
        await self.jobs.close()
        await self.polling.close()
        await self.acknowledging.close()
        await self.publishing.close()
        if self.sign_ins is not None:
            await self.sign_ins.close()
        await self.credentials.close()
        for rate_limits in (self.rate_limits, self.topic_rate_limits):
            if rate_limits is not None:
                await rate_limits.close()
        await self.delivering.close()
        await self.inline.close()


async def open_engine(
    database: Database,
    settings: EngineSettings | None = None,
    *,
    direct: Direct,
    open_line: OpenLine | None = None,
    clock: Clock | None = None,
    meters: JobMeters | None = None,
    observe_batch: Callable[[str], BatchObserver | None] | None = None,
    rate_limits: RateLimits | None = None,
    topic_rate_limits: RateLimits | None = None,
) -> Engine:
    """Return an engine on `database`, whose schema must be in place.

    `direct` opens sessions past any pooler, for partitions, vacuum and the line to other processes, unless
    `open_line` opens another one. Without `rate_limits` requests are not limited, nor those for topics without
    `topic_rate_limits`.
    """
    settings = settings or EngineSettings()
    pepper, token_secret = settings.pepper, settings.token_secret
    async with database.session() as session:
        if pepper is None:
            pepper = bytes.fromhex(await tenants.get_setting(session, "api_key_pepper"))
        if token_secret is None:
            token_secret = await tenants.get_setting(session, "jwt_secret")
    if observe_batch is None:
        context = Context(database, clock=clock, meters=meters)
    else:
        context = Context(database, clock=clock, meters=meters, observe_batch=observe_batch)
    admin_digest = await _admin_digest(database, settings)
    return Engine(
        context,
        settings,
        key_maker=KeyMaker(pepper=pepper, live=settings.live_keys, hash_cost=settings.key_hash_cost),
        admin_digest=admin_digest,
        token_secret=token_secret,
        direct=direct,
        open_line=open_line,
        rate_limits=rate_limits,
        topic_rate_limits=topic_rate_limits,
    )


async def _admin_digest(database: Database, settings: EngineSettings) -> bytes | None:
    """Return the digest of the admin key, configured or made by the first start. Ruling R30."""
    if settings.admin_key is not None:
        return digest_of(settings.admin_key.encode()) if settings.admin_key else None
    if not settings.first_admin_key:
        return None
    async with database.session() as session:
        stored = await tenants.find_setting(session, "admin_key_sha256")
    return None if stored is None else bytes.fromhex(stored)
