"""An organization whose webhook is told of each of its jobs: it makes the jobs and receives what is told."""

import asyncio
import secrets
from time import perf_counter

import httpx2
import msgspec

from millstream.cli.bench.connection import Recorder
from millstream.cli.bench.http_request import Endpoint
from millstream.cli.bench.plan import WebhookLoad
from millstream.cli.bench.webhook_receiver import ReceiverConnection

# In bulk, so that making the jobs costs next to nothing beside telling of them.
_BULK_JOBS_MAX = 100
_BULKS_PER_SECOND = 10
# Without a pace: enough to be sent at any moment, few enough to be received soon after the end.
_UNDELIVERED_MAX = 1_000
_LAST_SECONDS_MAX = 30.0


class WebhookWorkload:
    """An item is a delivery that was received. What is on its way at the end of a phase is waited for."""

    def __init__(self, plan: WebhookLoad) -> None:
        self._plan = plan
        self._client = httpx2.AsyncClient(base_url=Endpoint(plan.host, plan.port, "").url, timeout=60)
        self._server: asyncio.Server | None = None
        self._webhook = ""
        self._created = 0
        self._received = 0
        self._changed = asyncio.Event()

    async def prepare(self) -> None:
        """Listen, make the organization and subscribe."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ReceiverConnection(self._take), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        slug = f"bench-{secrets.token_hex(8)}"
        made = await self._client.post(
            "/api/v1/admin/organizations",
            json={"name": slug, "slug": slug, "plan_tier": "enterprise"},
            headers={"X-Admin-Key": self._plan.admin_key},
        )
        key = msgspec.json.decode(made.raise_for_status().content, type=_Made).api_key.key
        self._client.headers["Authorization"] = f"Bearer {key}"
        webhook = await self._client.post(
            "/api/v1/outgoing-webhooks",
            json={
                "name": slug,
                "url": f"http://127.0.0.1:{port}/jobs",
                "events": ["job.created"],
                "secret": secrets.token_hex(16),
            },
        )
        self._webhook = msgspec.json.decode(webhook.raise_for_status().content, type=_Named).id

    async def run(self, seconds: float, recorder: Recorder) -> None:
        """Make jobs for `seconds`, then wait for the last deliveries."""
        self._created = self._received = 0
        counting = asyncio.create_task(self._count(recorder))
        try:
            await (self._flood(seconds) if self._plan.per_second is None else self._keep_pace(seconds))
            async with asyncio.timeout(_LAST_SECONDS_MAX):
                while self._received < self._created:
                    await self._change()
        except (TimeoutError, httpx2.HTTPError) as error:
            recorder.failed(f"webhooks: {self._received} of {self._created} came: {error!r}")
        finally:
            counting.cancel()
            recorder.items = self._received

    async def close(self) -> None:
        """Unsubscribe and stop to listen."""
        if self._webhook:
            await self._client.delete(f"/api/v1/outgoing-webhooks/{self._webhook}")
        await self._client.aclose()
        if self._server is not None:
            self._server.close()

    async def _flood(self, seconds: float) -> None:
        deadline = perf_counter() + seconds
        while perf_counter() < deadline:
            if self._created - self._received <= _UNDELIVERED_MAX - _BULK_JOBS_MAX:
                await self._create(_BULK_JOBS_MAX)
            else:
                await self._change()

    async def _keep_pace(self, seconds: float) -> None:
        assert self._plan.per_second is not None
        started_at = perf_counter()
        while (elapsed := perf_counter() - started_at) < seconds:
            owed = round(elapsed * self._plan.per_second) - self._created
            if owed > 0:
                await self._create(min(owed, _BULK_JOBS_MAX))
            await asyncio.sleep(1 / _BULKS_PER_SECOND)

    async def _create(self, count: int) -> None:
        body = {
            "queue_name": "bench-webhooks",
            "jobs": [{"payload": {"n": number}} for number in range(count)],
        }
        # Before the request: deliveries may be here before its answer.
        self._created += count
        (await self._client.post("/api/v1/jobs/bulk", json=body)).raise_for_status()

    async def _count(self, recorder: Recorder) -> None:
        while True:
            await self._change()
            recorder.items = self._received

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _take(self) -> None:
        self._received += 1
        self._changed.set()


class _Key(msgspec.Struct):
    key: str


class _Made(msgspec.Struct):
    api_key: _Key


class _Named(msgspec.Struct):
    id: str
