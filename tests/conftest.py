"""What every suite stands on: a real server in a process of its own, real databases, fresh tenants."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from msgspec import Struct

from millstream.cli.embedded_database import find_dsn
from millstream.domain.clock import SteeredClock
from millstream.domain.plan import PLANS
from millstream.domain.tenant import Principal
from millstream.embedded import EmbeddedServer
from millstream.embedded.binaries import find_binaries
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.store import installation, migrations, tenants
from millstream.store.database import Database, Roles
from millstream.store.tenants import NewTenant
from tests.live_tenants import LiveTenant, TenantMaker, making_tenants
from tests.spare_databases import SpareDatabases

# How long an example takes says how busy the machine is.
settings.register_profile(
    "untimed", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

STARTED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TEMPLATE = "millstream_template"
_PROCESSES_VARIABLE = "MILLSTREAM_TEST_PROCESSES"
# What the live server checks the signatures of incoming webhooks with.
GITHUB_SECRET = "github shares this with the server"
STRIPE_SECRET = "whsec_stripe_shares_this_with_the_server"


class LiveServer(Struct, frozen=True, kw_only=True):
    """A `millstream serve` process."""

    url: str
    api_key: str
    admin_key: str
    organization_id: str
    metrics_url: str
    data_dir: Path
    dsn: str
    pid: int
    tenants: TenantMaker


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    """A live server on an embedded PostgreSQL of its own, shared by the tests of one process."""
    data_dir = Path(tempfile.mkdtemp(prefix="millstream-test-", dir=_reachable_directory()))
    log = (data_dir / "serve.log").open("wb")
    command = [sys.executable, "-m", "millstream", "serve", "--data-dir", str(data_dir), "--json"]
    command += ["--port", "0", "--grpc-port", "0", "--metrics-port", "0", "--processes", _processes()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=_server_environment()
    )
    try:
        said = _wait_ready(process, data_dir)
        dsn = _find_dsn(data_dir)
        with making_tenants(said["url"], dsn) as maker:
            yield LiveServer(
                url=said["url"],
                api_key=said["api_key"],
                admin_key=said["admin_key"],
                organization_id=said["organization_id"],
                metrics_url=said["metrics_url"],
                data_dir=data_dir,
                dsn=dsn,
                pid=process.pid,
                tenants=maker,
            )
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        log.close()
        shutil.rmtree(data_dir, ignore_errors=True)


def _processes() -> str:
    return os.environ.get(_PROCESSES_VARIABLE, "1")


def _server_environment() -> dict[str, str]:
    # The server refuses variables of its prefix that are no settings.
    inherited = {name: value for name, value in os.environ.items() if name != _PROCESSES_VARIABLE}
    return {
        **inherited,
        "GITHUB_WEBHOOK_SECRET": GITHUB_SECRET,
        "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
        "MILLSTREAM_API_KEY_HASH_COST": "4",
    }


def _reachable_directory() -> str | None:
    # PostgreSQL runs as another user when the tests run as root: its directory must not be below a private one.
    return "/tmp" if os.geteuid() == 0 else None


def _wait_ready(process: "subprocess.Popen[str]", data_dir: Path) -> dict[str, str]:
    assert process.stdout is not None
    # The server says one line when it answers; the end of the stream says that it gave up.
    line = process.stdout.readline()
    if not line:
        pytest.fail((data_dir / "serve.log").read_text()[-4000:])
    return json.loads((data_dir / "credentials.json").read_text())


def _find_dsn(data_dir: Path) -> str:
    found = find_dsn(data_dir, user=installation.EMBEDDED_LOGIN)
    assert found is not None
    return found


@pytest.fixture
def make_tenant(server: LiveServer) -> Callable[..., LiveTenant]:
    """Make a tenant of the live server: `make_tenant(plan_tier="free", queues=("a",))`."""

    def make(*, plan_tier: str = "enterprise", queues: tuple[str, ...] = ("*",)) -> LiveTenant:
        return server.tenants.make(plan_tier, queues)

    return make


@pytest.fixture
def tenant(make_tenant: Callable[..., LiveTenant]) -> LiveTenant:
    """A fresh tenant with the top plan."""
    return make_tenant()


@pytest.fixture
def free_tenant(make_tenant: Callable[..., LiveTenant]) -> LiveTenant:
    """A fresh tenant with the free plan."""
    return make_tenant(plan_tier="free")


class Cluster(Struct, frozen=True, kw_only=True):
    """A PostgreSQL server of the tests' own, with a migrated template database."""

    superuser_dsn: str
    template_dsn: str
    dsn_of: Callable[[str], str]
    superuser_dsn_of: Callable[[str], str]
    pid: int


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server shared by the tests of one process; `MILLSTREAM_POSTGRES_BIN_DIR` names another build."""
    data_dir = Path(tempfile.mkdtemp(prefix="millstream-test-", dir=_reachable_directory()))
    configured = os.environ.get("MILLSTREAM_POSTGRES_BIN_DIR")
    binaries = find_binaries(Path(configured) if configured else None)
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.new_event_loop()
        embedded = executor.submit(
            loop.run_until_complete, EmbeddedServer.open(data_dir, binaries=binaries)
        ).result()
        try:
            executor.submit(loop.run_until_complete, _make_template(embedded)).result()
            yield Cluster(
                superuser_dsn=embedded.dsn(),
                template_dsn=embedded.dsn(database=TEMPLATE),
                dsn_of=lambda database: embedded.dsn(user=installation.EMBEDDED_LOGIN, database=database),
                superuser_dsn_of=lambda database: embedded.dsn(database=database),
                pid=embedded.pid,
            )
        finally:
            executor.submit(loop.run_until_complete, embedded.close()).result()
            loop.close()
            shutil.rmtree(data_dir, ignore_errors=True)


async def _make_template(embedded: EmbeddedServer) -> None:
    roles = Roles()
    await installation.create_embedded_database(embedded.dsn(), roles)
    dsn = embedded.dsn(user=installation.EMBEDDED_LOGIN, database=installation.EMBEDDED_DATABASE)
    async with installation.direct_session(dsn) as session:
        await migrations.lock(session)
        await installation.migrate(session, roles)
    async with installation.direct_session(embedded.dsn()) as session:
        await session.run(f"alter database {installation.EMBEDDED_DATABASE} rename to {TEMPLATE}")
        # Databases are made and emptied all the time. What has to survive a crash is tested
        # on servers of its own, as they are started for users.
        await session.run("alter system set fsync = off")
        await session.run("alter system set full_page_writes = off")
        await session.run("select pg_reload_conf()")


@pytest.fixture(scope="session")
def spare_databases(cluster: Cluster) -> Iterator[SpareDatabases]:
    """The databases that tests are alone in, one after the other."""
    spares = SpareDatabases(cluster.superuser_dsn_of, TEMPLATE)
    yield spares
    spares.close()


@pytest.fixture
def database_dsn(cluster: Cluster, spare_databases: SpareDatabases) -> Iterator[str]:
    """A migrated database without a row of anybody's."""
    name = spare_databases.borrow()
    yield cluster.dsn_of(name)
    spare_databases.give_back(name)


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """Connections to a fresh migrated database."""
    opened = await Database.open(database_dsn, min_size=1, max_size=10)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> SteeredClock:
    """A clock that the test moves."""
    return SteeredClock(STARTED_AT)


@pytest.fixture
async def engine(database: Database, database_dsn: str, clock: SteeredClock) -> AsyncIterator[Engine]:
    """An engine without loops, on a fresh database, with a steered clock."""
    opened = await open_engine(
        database,
        EngineSettings(key_hash_cost=4),
        direct=lambda: installation.direct_session(database_dsn),
        clock=clock,
    )
    yield opened
    await opened.close()


@pytest.fixture
async def principal(engine: Engine) -> Principal:
    """An unrestricted principal of a fresh tenant with the top plan."""
    return await make_principal(engine)


async def make_principal(engine: Engine, *, plan_tier: str = "enterprise") -> Principal:
    """Make a tenant in the engine's database and return a principal of it."""
    async with engine.context.database.session() as session:
        created = await tenants.create_tenant(
            session,
            NewTenant(
                public_id=str(uuid4()),
                slug=f"t-{secrets.token_hex(8)}",
                name="Test tenant",
                plan_tier=plan_tier,
                billing_email=None,
                webhook_token="",
                key_id=uuid4(),
                key_name="test",
                key_prefix="sk_test_",
                key_digest=secrets.token_bytes(32),
                key_hash="",
            ),
        )
    assert created is not None
    return Principal(
        tenant_id=created.id,
        organization_id=created.public_id,
        api_key_id=uuid4(),
        plan=PLANS[plan_tier],
    )
