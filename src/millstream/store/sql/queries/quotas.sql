-- name: lock_tenants :many
-- Holds the rows of tenants, under which whatever their plans cap is counted; tells which there are.
-- What is counted is read by a later statement: this one's snapshot is older than the locks that it waited for.
select t.id
from millstream.tenants as t
where t.id = any(:tenant_ids::int[])
order by t.id
for update;

-- name: count_job_usage :many
-- Counts each tenant's jobs created today and, up to a bound, the active ones.
-- The subject 'reset' holds what a reset has taken off today's count.
select
    g.tenant_id,
    (
        select coalesce(sum(c.amount), 0)
        from millstream.all_counters as c
        where
            c.tenant_id = g.tenant_id
            and c.kind = 1
            and c.subject in ('', 'reset')
            and c.day = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
    )::bigint as today,
    (
        select count(*)
        from (
            select from millstream.jobs as j where j.tenant_id = g.tenant_id limit g.active_max
        ) as a
    ) as active
from unnest(:tenant_ids::int[], :active_maxes::bigint[]) as g (tenant_id, active_max);

-- name: find_known_keys :many
-- Tells which idempotency keys are held already.
select k.tenant_id, k.key
from unnest(:tenant_ids::int[], :keys::text[]) as g (tenant_id, key)
inner join millstream.idempotency_keys as k on k.tenant_id = g.tenant_id and k.key = g.key;

-- name: reset_jobs_today :exec
-- Takes today's count of created jobs down to nothing; totals over longer times keep it.
insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
select
    :tenant_id::int, 1, 'reset', (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, -(:today::bigint)
where :today::bigint <> 0;

-- name: count_usage :one
-- Counts what a tenant uses of everything that plans limit. Active jobs are counted up to a bound, if one is given.
select
    (
        select coalesce(sum(c.amount), 0)
        from millstream.all_counters as c
        where
            c.tenant_id = :tenant_id::int
            and c.kind = 1
            and c.subject in ('', 'reset')
            and c.day = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
    )::bigint as jobs_today,
    (
        select count(*)
        from (
            select from millstream.jobs as j where j.tenant_id = :tenant_id::int limit :active_max::bigint
        ) as a
    ) as active_jobs,
    (select count(*) from millstream.queues as q where q.tenant_id = :tenant_id::int) as queues,
    (select count(*) from millstream.workers as w where w.tenant_id = :tenant_id::int and w.status < 3) as workers,
    (
        select count(*)
        from millstream.api_keys as k
        where k.tenant_id = :tenant_id::int and k.is_active and not k.is_session
    ) as api_keys,
    (
        select count(*) from millstream.schedules as s where s.tenant_id = :tenant_id::int and s.is_active
    ) as schedules,
    (
        select count(*) from millstream.outgoing_webhooks as w where w.tenant_id = :tenant_id::int and w.enabled
    ) as webhooks,
    (select count(*) from millstream.workflows as w where w.tenant_id = :tenant_id::int and w.status < 3) as workflows;

-- name: count_queues :one
-- Counts a tenant's configured queues.
select count(*) as queues from millstream.queues as q where q.tenant_id = :tenant_id::int;
