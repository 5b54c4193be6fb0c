"""The engine: every use case of the server, over one database."""

from collections.abc import Callable

from msgspec import Struct

from millstream.domain.clock import Clock
from millstream.engine.claims import Claiming
from millstream.engine.context import BatchObserver, Context, JobMeters
from millstream.engine.credentials import Credentials
from millstream.engine.delivering import Delivering, DeliverySettings
from millstream.engine.enqueuing import EnqueueLimits, Enqueuing
from millstream.engine.health import Health
from millstream.engine.jobs import Jobs
from millstream.engine.outgoing_webhooks import OutgoingWebhooks
from millstream.engine.queues import Queues
from millstream.engine.settlements import Settling
from millstream.engine.tenants import Tenants
from millstream.engine.upkeep import Direct, Upkeep
from millstream.engine.workers import Workers
from millstream.store import tenants
from millstream.store.database import Database
from millstream.store.jobs import ServerDefaults


class EngineSettings(Struct, frozen=True, kw_only=True):
    """What an engine is configured with."""

    defaults: ServerDefaults = ServerDefaults()
    enqueue_limits: EnqueueLimits = EnqueueLimits()
    worker_max_concurrency: int = 5
    live_keys: bool = False
    pepper: bytes | None = None
    create_lanes: int = 1
    complete_lanes: int = 1
    deliveries: DeliverySettings = DeliverySettings()


class Engine:
    """All use cases by noun."""

    def __init__(self, context: Context, settings: EngineSettings, *, pepper: bytes, direct: Direct) -> None:
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
        self.jobs = Jobs(context, enqueuing, self.claiming, self.settling)
        self.queues = Queues(context)
        self.workers = Workers(context, default_max_concurrency=settings.worker_max_concurrency)
        self.tenants = Tenants(context, pepper=pepper, live_keys=settings.live_keys)
        self.credentials = Credentials(context, pepper=pepper)
        self.delivering = Delivering(context, settings.deliveries)
        self.outgoing_webhooks = OutgoingWebhooks(context, self.delivering, settings.deliveries)
        self.health = Health(context)
        self.upkeep = Upkeep(context, direct)

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self.jobs.close()
        await self.delivering.close()


async def open_engine(
    database: Database,
    settings: EngineSettings | None = None,
    *,
    direct: Direct,
    clock: Clock | None = None,
    meters: JobMeters | None = None,
    observe_batch: Callable[[str], BatchObserver | None] | None = None,
) -> Engine:
    """Return an engine on `database`, whose schema must be in place.

    `direct` opens sessions past any pooler, for partitions and vacuum.
    """
    settings = settings or EngineSettings()
    pepper = settings.pepper
    if pepper is None:
        async with database.session() as session:
            pepper = bytes.fromhex(await tenants.get_setting(session, "api_key_pepper"))
    if observe_batch is None:
        context = Context(database, clock=clock, meters=meters)
    else:
        context = Context(database, clock=clock, meters=meters, observe_batch=observe_batch)
    return Engine(context, settings, pepper=pepper, direct=direct)
