"""All that one organization of a live server has, for those who should not reach any of it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import asyncpg
import httpx2

from tests.api.spooled.administrator import Administrator
from tests.api.spooled.webhook_sender import Sender
from tests.api.spooled.wire import Api, JsonObject, LiveTenant, answered, eventually
from tests.conftest import LiveServer
from tests.receiver import Receiver

# What a row says of its own use, not of its owner's: it is written a while after the use.
_UNSTEADY = ("last_used_at",)
# Folded by a loop from one into the other at any time; their sum is what must not change.
_FOLDED = ("counters", "counter_deltas")


@dataclass(frozen=True)
class Estate:
    """An organization's objects; `mark` is in every text that it chose, `secrets` are known to it alone."""

    tenant: LiveTenant
    mark: str
    queue: str
    worker_id: str
    running: dict[str, str]
    """The job that runs, as its worker claimed it."""
    jobs: tuple[str, ...]
    """A job that waits, one that runs, a dead letter, a completed one."""
    slug: str
    email: str
    key_ids: tuple[str, ...]
    """The key that everything here was made with, and one of a queue."""
    refresh_token: str
    schedule_id: str
    """It has run once, on request."""
    webhook_id: str
    delivery_id: str
    """What told the receiver of the job that waits."""
    receiver: Receiver
    workflow_id: str
    step_id: str
    """The one job of the workflow, which waits."""
    secrets: frozenset[str]

    @classmethod
    def build(cls, http: httpx2.Client, server: LiveServer, receiver: Receiver) -> Estate:
        """Make an organization that has told `receiver` of a job."""
        tenant = server.tenants.make()
        api = Api(http, tenant.url, tenant.api_key)
        mark = f"owned-{uuid.uuid4().hex[:12]}"
        queue, worker = f"{mark}-queue", f"{mark}-worker"
        organization = _describe(api, Administrator(http, server.url, server.admin_key), tenant, mark)
        answered(api.put(f"/queues/{queue}/config", {"max_retries": 7, "settings": {"of": mark}}))
        registered = {"queue_name": queue, "hostname": f"{mark}.example", "worker_id": worker}
        answered(api.post("/workers/register", {**registered, "metadata": {"of": mark}}), 201)
        payload = {"of": mark, "job_type": f"{mark}-type"}
        completed = api.enqueue(queue, payload)
        api.complete(api.claim_one(queue, worker), worker, result={"of": mark})
        dead = api.enqueue(queue, payload, max_retries=0, tags={mark: 1})
        api.fail(api.claim_one(queue, worker), worker, error=f"failed: {mark}")
        api.enqueue(queue, payload, idempotency_key=f"{mark}-key")
        [running] = api.claim(queue, worker, lease_duration_secs=3600)
        event = {"queue_name": f"{mark}-hooks", "event_type": mark, "payload": payload}
        received = answered(Sender(http, tenant).custom(event))
        made = answered(api.post("/api-keys", {"name": f"{mark} key", "queues": [queue]}), 201)
        keys = tuple(row["id"] for row in answered(api.get("/api-keys")))
        tokens = log_in(api)
        schedule, run, scheduled = _plan(api, queue, mark)
        step = {"key": f"{mark}-key", "queue_name": queue, "payload": payload}
        workflow = answered(api.post("/workflows", {"name": mark, "jobs": [step]}), 201)
        [created] = workflow["job_ids"]
        receiver.answer = mark.encode()
        webhook = _subscribe(api, receiver.url, mark)
        waiting = api.enqueue(queue, payload, priority=3)
        delivery = _delivered(api, webhook)
        jobs = (waiting, running["id"], dead, completed)
        return cls(
            tenant=tenant,
            mark=mark,
            queue=queue,
            worker_id=worker,
            running={"id": running["id"], "lease_id": running["lease_id"]},
            jobs=jobs,
            slug=organization["slug"],
            email=organization["billing_email"],
            key_ids=keys,
            refresh_token=tokens["refresh_token"],
            schedule_id=schedule,
            webhook_id=webhook,
            delivery_id=delivery,
            receiver=receiver,
            workflow_id=workflow["id"],
            step_id=created["job_id"],
            secrets=frozenset(
                {mark, *jobs, received["job_id"], running["lease_id"], tenant.organization_id}
                | {schedule, run, scheduled, workflow["id"], created["job_id"]}
                | {organization["slug"], *keys, webhook, delivery, receiver.url}
                | {tenant.api_key, tenant.webhook_token, made["key"]}
                | {tokens["access_token"], tokens["refresh_token"]}
            ),
        )

    def named_in(self, answer: str, asked: str) -> set[str]:
        """Return what of the organization's an answer tells that was not in the request already."""
        return {secret for secret in self.secrets if secret in answer and secret not in asked}

    async def rows(self, connection: asyncpg.Connection) -> dict[str, list[str]]:
        """Return every row of the organization in every table that has tenants, as the catalogue lists them."""
        tables = await connection.fetch(
            "select c.relname::text as name from pg_class as c where c.relnamespace = 'millstream'::regnamespace"
            " and c.relkind in ('r', 'p') and not c.relispartition and exists (select from pg_attribute as a"
            " where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)"
        )
        found: dict[str, list[str]] = {}
        for name in [table["name"] for table in tables if table["name"] not in _FOLDED]:
            rows = await connection.fetch(
                f"select to_jsonb(t)::text from millstream.{name} as t where tenant_id = $1",
                self.tenant.tenant_id,
            )
            found[name] = sorted(_steady(row[0]) for row in rows)
        found["tenants"] = [
            row[0]
            for row in await connection.fetch(
                "select to_jsonb(t)::text from millstream.tenants as t where id = $1", self.tenant.tenant_id
            )
        ]
        totals = await connection.fetch(
            "select kind || ' ' || subject || ' ' || day || ' ' || sum(amount) from (select * from"
            " millstream.counters union all select * from millstream.counter_deltas) as c"
            " where tenant_id = $1 group by kind, subject, day",
            self.tenant.tenant_id,
        )
        found["totals"] = sorted(row[0] for row in totals)
        return found

    async def state(self, connection: asyncpg.Connection) -> dict[str, list[str]]:
        """Return all that others must not change: the rows, and what the receiver was told."""
        return {**await self.rows(connection), "told": self.receiver.events()}


def log_in(api: Api) -> JsonObject:
    """Return fresh tokens of the caller's."""
    return answered(api.post("/auth/login", {"api_key": api.api_key}))


def _describe(api: Api, admin: Administrator, tenant: LiveTenant, mark: str) -> JsonObject:
    path = f"/organizations/{tenant.organization_id}"
    noted = {"stripe_customer_id": f"cus_{mark}", "stripe_subscription_id": f"sub_{mark}"}
    answered(admin.patch(path, noted))
    chosen = {"name": f"{mark} Ltd", "billing_email": f"{mark}@example.com", "description": mark}
    return answered(api.put(path, {**chosen, "settings": {"of": mark}}))


def _plan(api: Api, queue: str, mark: str) -> tuple[str, str, str]:
    """Return the ids of a schedule, of its run, and of the job that this created."""
    body = {"name": f"{mark} schedule", "cron_expression": "0 0 1 1 *", "queue_name": f"{queue}-planned"}
    of = {"of": mark}
    described = {"description": mark, "payload_template": of, "tags": of, "metadata": of}
    schedule = answered(api.post("/schedules", {**body, **described}), 201)["id"]
    job = answered(api.post(f"/schedules/{schedule}/trigger"))["job_id"]
    [run] = answered(api.get(f"/schedules/{schedule}/history"))
    return schedule, run["id"], job


def _subscribe(api: Api, url: str, mark: str) -> str:
    body = {"name": f"{mark} hook", "url": url, "events": ["job.created"], "secret": f"{mark} secret"}
    return answered(api.post("/outgoing-webhooks", body), 201)["id"]


def _delivered(api: Api, webhook: str) -> str:
    """Return the webhook's one delivery, once nothing is left to be done for it."""
    [delivery] = eventually(
        lambda: answered(api.get(f"/outgoing-webhooks/{webhook}/deliveries")),
        lambda rows: [row["status"] for row in rows] == ["success"],
        seconds=30,
    )
    assert delivery["status"] == "success", delivery
    return delivery["id"]


def _steady(row: str) -> str:
    columns = json.loads(row)
    for name in _UNSTEADY:
        columns.pop(name, None)
    return json.dumps(columns, sort_keys=True)
