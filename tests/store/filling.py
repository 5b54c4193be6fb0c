"""Fills a database with jobs in every state, so that a plan is the plan of tables that are in use."""

import asyncpg

TENANT = 1
TENANTS = 5
ALIVE = 15_000
DEAD = 1_500
DONE = 15_000

# Version 7 ids of the moment `at`: their order is the order of creation.
_ID = """(
    lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
    || '8' || substr(md5(n::text), 4, 15)
)::uuid"""

_ALIVE = f"""insert into millstream.jobs (
    tenant_id, id, queue, state, priority, max_retries, timeout_seconds, created_at, updated_at, run_at, expires_at,
    started_at, lease_expires_at, lease_id, worker_id, job_type, payload, unmet
)
select
    1 + n % {TENANTS}, {_ID}, 'q' || n % 7, state, n % 3, 3, 300, at, at,
    case when state in (2, 3) then now() + interval '1 hour' + n * interval '1 second' end,
    case when n % 10 = 0 then now() + interval '1 day' end,
    case when state = 5 then at end,
    case when state = 5 then now() + interval '1 hour' end,
    case when state = 5 then gen_random_uuid() end,
    case when state = 5 then 'w' end,
    'type' || n % 3, '{{}}', case when state = 4 then 1 else 0 end
from (
    select n, now() - n * interval '1 second' as at, (
        case when n / 10 % 10 < 4 then 1 when n / 10 % 10 = 4 then 2 when n / 10 % 10 = 5 then 3
        when n / 10 % 10 = 6 then 4 else 5 end
    )::smallint as state
    from generate_series(1, {ALIVE}) as n
) as made"""

_DEAD = f"""insert into millstream.jobs_dead (
    tenant_id, id, queue, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
    dependency_mode, has_dependents, job_type, payload
)
select 1 + n % {TENANTS}, {_ID}, 'q' || n % 7, 0, 3, 3, 300, at, at, 1, false, '', '{{}}'
from (select n, now() - interval '1 day' - n * interval '1 second' as at from generate_series(1, {DEAD}) as n) as made"""

# Spread over the weeks that have partitions, and some before them.
_DONE = f"""insert into millstream.jobs_done (
    tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
    started_at, finished_at, unmet, dependency_mode, job_type, payload
)
select 1 + n % {TENANTS}, {_ID}, 'q' || n % 7, 7, 0, 0, 3, 300, at, at, at, at + interval '1 second', 0, 1, '', '{{}}'
from (select n, now() - n * interval '2 minutes' as at from generate_series(1, {DONE}) as n) as made"""

_REST = [
    f"insert into millstream.tenants (public_id, slug, name) select 't' || n, 't' || n, 'x' from generate_series(1, {TENANTS}) as n",
    (
        f"insert into millstream.queues (tenant_id, name, id, created_at, updated_at) select 1 + n % {TENANTS}, 'q' || n,"
        " gen_random_uuid(), now(), now() from generate_series(0, 500) as n"
    ),
    (
        f"insert into millstream.idempotency_keys (tenant_id, key, job_id) select 1 + n % {TENANTS}, 'k' || n,"
        " gen_random_uuid() from generate_series(1, 5000) as n"
    ),
    (
        f"insert into millstream.job_labels (tenant_id, kind, label) select 1 + n % {TENANTS}, 1, 'q' || n"
        " from generate_series(0, 500) as n"
    ),
    (
        f"insert into millstream.workers (tenant_id, id, queue, hostname, last_heartbeat_at, registered_at, updated_at)"
        f" select 1 + n % {TENANTS}, 'w' || n, 'q', 'h', now(), now(), now() from generate_series(1, 2000) as n"
    ),
    (
        f"insert into millstream.job_events (tenant_id, job_id, id, kind, at) select 1 + n % {TENANTS}, gen_random_uuid(),"
        " gen_random_uuid(), 4, now() from generate_series(1, 5000) as n"
    ),
    (
        f"insert into millstream.counters (tenant_id, kind, subject, day, amount) select 1 + n % {TENANTS}, 4, 'w' || n,"
        " current_date, 1 from generate_series(1, 5000) as n"
    ),
    (
        f"insert into millstream.outgoing_webhooks (tenant_id, id, name, url, events, format, enabled, created_at,"
        f" updated_at) select 1 + n % {TENANTS}, md5('webhook' || n)::uuid, 'w', 'https://h' || n || '.example/x',"
        " array[3, 4], 1, n % 2 = 0, now(), now() from generate_series(1, 100) as n"
    ),
    # Most are settled; of the others few are due.
    (
        f"insert into millstream.outgoing_deliveries (tenant_id, id, webhook_id, receiver, event, status, next_attempt_at,"
        f" data, created_at) select 1 + n % {TENANTS}, {_ID}, md5('webhook' || n % 100)::uuid, md5('webhook' || n % 100)::uuid,"
        " 3, case when n % 10 = 0 then 1 else 2 end, case when n % 10 = 0 then now() + interval '1 hour' end, '{}', at"
        " from (select n, now() - n * interval '1 second' as at from generate_series(1, 20000) as n) as made"
    ),
    # Of those that are active none is due for an hour.
    (
        f"insert into millstream.schedules (tenant_id, id, name, cron, timezone, queue, payload, job_type, priority,"
        " max_retries, timeout_seconds, size_bytes, is_active, next_run_at, created_at, updated_at)"
        f" select 1 + n % {TENANTS}, md5('schedule' || n)::uuid, 's', '0 0 1 1 *', 'UTC', 'q' || n % 7, '{{}}', '', 0, 3,"
        " 300, 2, n % 20 > 0, now() + interval '1 hour' + n * interval '1 second', now(), now()"
        " from generate_series(1, 20000) as n"
    ),
    (
        f"insert into millstream.schedule_runs (tenant_id, id, schedule_id, status, job_id, started_at, finished_at)"
        f" select 1 + n % {TENANTS}, {_ID}, md5('schedule' || n % 100)::uuid, 3, gen_random_uuid(), at, at"
        " from (select n, now() - n * interval '1 second' as at from generate_series(1, 20000) as n) as made"
    ),
    (
        f"insert into millstream.api_keys (tenant_id, id, name, key_prefix, digest, hash) select 1 + n % {TENANTS},"
        " gen_random_uuid(), 'k', 'sk', sha256(n::text::bytea), '' from generate_series(1, 2000) as n"
    ),
    (
        f"insert into millstream.revoked_tokens (tenant_id, jti, expires_at) select 1 + n % {TENANTS}, gen_random_uuid(),"
        " now() - interval '1 hour' + n * interval '1 minute' from generate_series(1, 5000) as n"
    ),
]


async def fill(connection: asyncpg.Connection) -> None:
    """Insert about 15,000 living jobs in all states, 15,000 finished ones and what belongs to them."""
    for statement in (_ALIVE, _DEAD, _DONE, *_REST):
        await connection.execute(statement)
