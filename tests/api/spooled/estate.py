"""All that one organization of a live server has, for those who should not reach any of it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import asyncpg
import httpx2

from tests.api.spooled.webhook_sender import Sender
from tests.api.spooled.wire import Api, LiveTenant, answered
from tests.conftest import LiveServer, create_live_tenant

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
    secrets: frozenset[str]

    @classmethod
    def build(cls, http: httpx2.Client, server: LiveServer) -> Estate:
        tenant = create_live_tenant(server)
        api = Api(http, tenant.url, tenant.api_key)
        mark = f"owned-{uuid.uuid4().hex[:12]}"
        queue, worker = f"{mark}-queue", f"{mark}-worker"
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
        waiting = api.enqueue(queue, payload, priority=3)
        event = {"queue_name": f"{mark}-hooks", "event_type": mark, "payload": payload}
        received = answered(Sender(http, tenant).custom(event))
        jobs = (waiting, running["id"], dead, completed)
        return cls(
            tenant=tenant,
            mark=mark,
            queue=queue,
            worker_id=worker,
            running={"id": running["id"], "lease_id": running["lease_id"]},
            jobs=jobs,
            secrets=frozenset(
                {mark, *jobs, received["job_id"], running["lease_id"], tenant.organization_id}
                | {tenant.api_key, tenant.webhook_token}
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


def _steady(row: str) -> str:
    columns = json.loads(row)
    for name in _UNSTEADY:
        columns.pop(name, None)
    return json.dumps(columns, sort_keys=True)
