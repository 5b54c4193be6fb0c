-- name: list_queues :many
-- Reads the configured queues by name.
select
    q.id, q.name, q.max_retries, q.default_timeout_seconds, q.rate_limit, q.enabled, q.settings, q.paused_at,
    q.paused_reason, q.retry_initial_seconds, q.retry_factor, q.retry_max_seconds, q.created_at, q.updated_at
from millstream.queues as q
where q.tenant_id = :tenant_id::int and (:queues::text[] is null or q.name = any(:queues::text[]))
order by q.name collate "C"
limit :limit::int;

-- name: configure_queue :one
-- Creates a queue's row or changes what is given of it; a full plan refuses a new one (no row comes back).
-- With a cap, the tenant's row is locked before.
with room as materialized (
    select
        :queues_max::int is null
        or exists (select from millstream.queues as q where q.tenant_id = :tenant_id::int and q.name = :name::text)
        or (
            select count(*) from millstream.queues as q where q.tenant_id = :tenant_id::int
        ) < :queues_max::int as fits
)
insert into millstream.queues as q (
    tenant_id, name, id, max_retries, default_timeout_seconds, rate_limit, enabled, settings,
    retry_initial_seconds, retry_factor, retry_max_seconds, created_at, updated_at
)
select
    :tenant_id::int, :name::text, :id::uuid, coalesce(:max_retries::smallint, 3), coalesce(:timeout_seconds::int, 300),
    :rate_limit::int, coalesce(:enabled::boolean, true), coalesce(:settings::text, '{}'),
    :retry_initial_seconds::int, :retry_factor::float8, :retry_max_seconds::int,
    coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
from room as r
where r.fits
on conflict (tenant_id, name) do update set
    max_retries = coalesce(:max_retries::smallint, q.max_retries),
    default_timeout_seconds = coalesce(:timeout_seconds::int, q.default_timeout_seconds),
    rate_limit = coalesce(:rate_limit::int, q.rate_limit),
    enabled = coalesce(:enabled::boolean, q.enabled),
    settings = coalesce(:settings::text, q.settings),
    retry_initial_seconds = case
        when :set_retry_initial::boolean then :retry_initial_seconds::int else q.retry_initial_seconds
    end,
    retry_factor = case when :set_retry_factor::boolean then :retry_factor::float8 else q.retry_factor end,
    retry_max_seconds = case
        when :set_retry_max::boolean then :retry_max_seconds::int else q.retry_max_seconds
    end,
    updated_at = coalesce(:now::timestamptz, now())
returning
    q.id, q.name, q.max_retries, q.default_timeout_seconds, q.rate_limit, q.enabled, q.settings, q.paused_at,
    q.paused_reason, q.retry_initial_seconds, q.retry_factor, q.retry_max_seconds, q.created_at, q.updated_at;

-- name: pause_queue :one
-- Stops claims of a queue and notes since when and why.
update millstream.queues as q
set
    enabled = false,
    paused_at = coalesce(:now::timestamptz, now()),
    paused_reason = :reason::text,
    updated_at = coalesce(:now::timestamptz, now())
where q.tenant_id = :tenant_id::int and q.name = :name::text
returning q.paused_at;

-- name: resume_queue :one
-- Lets a queue be claimed again; tells how long it had been paused.
with held as materialized (
    select q.tenant_id, q.name, q.paused_at
    from millstream.queues as q
    where q.tenant_id = :tenant_id::int and q.name = :name::text
    for update
)
update millstream.queues as q
set enabled = true, paused_at = null, paused_reason = null, updated_at = coalesce(:now::timestamptz, now())
from held as h
where q.tenant_id = h.tenant_id and q.name = h.name
returning
    coalesce(greatest(extract(epoch from coalesce(:now::timestamptz, now()) - h.paused_at), 0), 0)::bigint as seconds;

-- name: delete_queue :one
-- Deletes a queue's row, unless jobs are pending or running there; tells whether the row existed and was in use.
with held as materialized (
    select q.tenant_id, q.name
    from millstream.queues as q
    where q.tenant_id = :tenant_id::int and q.name = :name::text
    for update
),
busy as materialized (
    select exists (
        select from millstream.jobs as j
        where j.tenant_id = :tenant_id::int and j.queue = :name::text and j.state in (1, 3, 4, 5)
    ) as found
),
removed as (
    delete from millstream.queues as q
    using held as h
    where q.tenant_id = h.tenant_id and q.name = h.name and not (select b.found from busy as b)
    returning q.name
)
select
    exists (select from held) as existed,
    (select b.found from busy as b) as busy,
    exists (select from removed) as removed;

-- name: remove_queue :one
-- Deletes a queue's row, whatever is in the queue.
delete from millstream.queues as q
where q.tenant_id = :tenant_id::int and q.name = :name::text
returning q.name;

-- name: get_queue_stats :one
-- Counts what a queue is doing and how it did over the last 24 hours.
with alive as materialized (
    select
        count(*) filter (where j.state in (1, 3, 4)) as pending,
        count(*) filter (where j.state = 5) as processing,
        min(j.created_at) filter (where j.state < 5) as oldest_at
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.queue = :name::text
),
done as materialized (
    select
        count(*) as completed,
        avg(extract(epoch from j.finished_at - j.started_at) * 1000) as avg_ms
    from millstream.jobs_done as j
    where
        j.tenant_id = :tenant_id::int
        and j.queue = :name::text
        and j.state = 7
        and j.finished_at > coalesce(:now::timestamptz, now()) - interval '24 hours'
),
dead as materialized (
    select count(*) as failed
    from millstream.jobs_dead as j
    where
        j.tenant_id = :tenant_id::int
        and j.queue = :name::text
        and j.updated_at > coalesce(:now::timestamptz, now()) - interval '24 hours'
)
select
    a.pending,
    a.processing,
    d.completed,
    f.failed,
    round(d.avg_ms)::bigint as avg_ms,
    -- `greatest` passes over nulls: without waiting jobs there is no age.
    case
        when a.oldest_at is not null
            then greatest(extract(epoch from coalesce(:now::timestamptz, now()) - a.oldest_at), 0)::bigint
    end as oldest_seconds,
    (
        select count(*)
        from millstream.workers as w
        where w.tenant_id = :tenant_id::int and w.queue = :name::text and w.status = 1
    ) as workers
from alive as a
cross join done as d
cross join dead as f;
