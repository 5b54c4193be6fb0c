-- name: register_worker :one
-- Registers a worker or renews the registration of a known one. Tells who owns the id; a full plan refuses
-- a worker that would take up another place (`registered` is false). With a cap, the tenant's row is locked before.
with owned as (
    insert into millstream.worker_ids as w (id, tenant_id)
    values (:id::text, :tenant_id::int)
    on conflict (id) do update set tenant_id = w.tenant_id
    returning w.tenant_id
),
room as materialized (
    select
        (
            select count(*)
            from millstream.workers as w
            where w.tenant_id = :tenant_id::int and w.status < 3 and w.id <> :id::text
        ) as taken,
        exists (
            select from millstream.workers as w where w.tenant_id = :tenant_id::int and w.id = :id::text
        ) as known
),
registered as (
    insert into millstream.workers as w (
        tenant_id, id, queue, hostname, worker_type, max_concurrency, metadata, version, last_heartbeat_at,
        registered_at, updated_at
    )
    select
        :tenant_id::int, :id::text, :queue::text, :hostname::text, :worker_type::text,
        coalesce(:max_concurrency::int, :default_max_concurrency::int), coalesce(:metadata::text, '{}'),
        :version::text, coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now()),
        coalesce(:now::timestamptz, now())
    from owned as o
    cross join room as r
    where o.tenant_id = :tenant_id::int and (r.known or :workers_max::int is null or r.taken < :workers_max::int)
    on conflict (tenant_id, id) do update set
        status = 1,
        queue = :queue::text,
        hostname = :hostname::text,
        worker_type = coalesce(:worker_type::text, w.worker_type),
        max_concurrency = coalesce(:max_concurrency::int, w.max_concurrency),
        metadata = coalesce(:metadata::text, w.metadata),
        version = coalesce(:version::text, w.version),
        last_heartbeat_at = coalesce(:now::timestamptz, now()),
        updated_at = coalesce(:now::timestamptz, now())
    returning w.id
)
select
    o.tenant_id = :tenant_id::int as owned,
    exists (select from registered) as registered,
    (select count(*) from millstream.workers as w where w.tenant_id = :tenant_id::int and w.status < 3) as taken
from owned as o;

-- name: list_workers :many
-- Reads workers with their totals, the most recent heartbeat first, or one by id.
select
    w.id, w.queue, w.hostname, w.worker_type, w.max_concurrency, w.current_jobs, w.status, w.metadata, w.version,
    w.last_heartbeat_at, w.registered_at, w.updated_at,
    (
        select coalesce(sum(c.amount), 0)
        from millstream.all_counters as c
        where c.tenant_id = w.tenant_id and c.kind = 4 and c.subject = w.id
    )::bigint as jobs_processed,
    (
        select coalesce(sum(c.amount), 0)
        from millstream.all_counters as c
        where c.tenant_id = w.tenant_id and c.kind = 5 and c.subject = w.id
    )::bigint as jobs_failed
from millstream.workers as w
where
    w.tenant_id = :tenant_id::int
    and (:id::text is null or w.id = :id::text)
    and (:queues::text[] is null or w.queue = any(:queues::text[]))
order by w.last_heartbeat_at desc, w.id
limit :limit::int;

-- name: beat_worker :one
-- Notes a worker's heartbeat and what it says of itself.
update millstream.workers as w
set
    last_heartbeat_at = coalesce(:now::timestamptz, now()),
    updated_at = coalesce(:now::timestamptz, now()),
    status = :status::smallint,
    current_jobs = :current_jobs::int,
    metadata = coalesce(:metadata::text, w.metadata)
where
    w.tenant_id = :tenant_id::int
    and w.id = :id::text
    and (:queues::text[] is null or w.queue = any(:queues::text[]))
returning w.id;

-- name: deregister_worker :one
-- Marks a worker offline; its row and its live leases stay.
update millstream.workers as w
set status = 4, current_jobs = 0, updated_at = coalesce(:now::timestamptz, now())
where
    w.tenant_id = :tenant_id::int
    and w.id = :id::text
    and (:queues::text[] is null or w.queue = any(:queues::text[]))
returning w.id;

-- name: retire_stale_workers :many
-- Marks workers offline that have not been heard of for a while.
update millstream.workers as w
set status = 4, updated_at = coalesce(:now::timestamptz, now())
where w.status < 4 and w.last_heartbeat_at < coalesce(:now::timestamptz, now()) - :silence_seconds::int * interval '1 second'
returning w.tenant_id, w.id;

-- name: count_worker_gauges :one
-- Counts the workers heard of in the last two minutes, and the healthy ones of them.
select count(*) as active, count(*) filter (where w.status = 1) as healthy
from millstream.workers as w
where w.last_heartbeat_at > coalesce(:now::timestamptz, now()) - interval '2 minutes' and w.status < 4;
