-- name: lock_tenant :one
-- Holds a tenant's row, under which whatever its plan caps is counted.
select t.id
from millstream.tenants as t
where t.id = :tenant_id::int
for update;

-- name: count_job_usage :one
-- Counts the jobs created today and, up to a bound, the active ones.
select
    (
        coalesce((
            select sum(c.amount) from millstream.counters as c
            where
                c.tenant_id = :tenant_id::int
                and c.kind = 1
                and c.subject = ''
                and c.day = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
        ), 0) + coalesce((
            select sum(d.amount) from millstream.counter_deltas as d
            where
                d.tenant_id = :tenant_id::int
                and d.kind = 1
                and d.subject = ''
                and d.day = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
        ), 0)
    )::bigint as today,
    (
        select count(*)
        from (
            select from millstream.jobs as j where j.tenant_id = :tenant_id::int limit :active_max::int
        ) as a
    ) as active;

-- name: find_known_keys :many
-- Tells which idempotency keys are held already.
select k.key
from unnest(:keys::text[]) as g (key)
inner join millstream.idempotency_keys as k on k.tenant_id = :tenant_id::int and k.key = g.key;
