-- name: fold_counters :one
-- Adds appended deltas to their totals and removes them; tells how many there were.
with taken as materialized (
    select d.ctid as place
    from millstream.counter_deltas as d
    limit :limit::int
    for update skip locked
),
removed as (
    delete from millstream.counter_deltas as d
    using taken as t
    where d.ctid = t.place
    returning d.tenant_id, d.kind, d.subject, d.day, d.amount
),
summed as (
    select r.tenant_id, r.kind, r.subject, r.day, sum(r.amount) as amount
    from removed as r
    group by r.tenant_id, r.kind, r.subject, r.day
    order by r.tenant_id, r.kind, r.subject, r.day
),
added as (
    insert into millstream.counters as c (tenant_id, kind, subject, day, amount)
    select s.tenant_id, s.kind, s.subject, s.day, s.amount
    from summed as s
    on conflict (tenant_id, kind, subject, day) do update set amount = c.amount + excluded.amount
)
select count(*) as folded from removed;

-- name: lead :one
-- Takes or keeps the lead of a loop; no row comes back when another process holds it.
insert into millstream.leaders as l (name, holder, expires_at)
values (
    :name::text, :holder::uuid, coalesce(:now::timestamptz, now()) + :seconds::int * interval '1 second'
)
on conflict (name) do update set
    holder = excluded.holder,
    fence = l.fence + case when l.holder = excluded.holder then 0 else 1 end,
    expires_at = excluded.expires_at
where l.holder = excluded.holder or l.expires_at < coalesce(:now::timestamptz, now())
returning l.fence;

-- name: resign :exec
-- Gives up a lead that is still held.
delete from millstream.leaders as l where l.name = :name::text and l.holder = :holder::uuid;

-- name: prune_done_jobs :one
-- Deletes finished jobs past their tenant's retention, with their history and keys; tells how many.
-- A job that finished before the bound was created before it: its id is found by the primary key. The hour covers
-- clocks of processes that run ahead of the database's.
with stale as materialized (
    select j.tenant_id, j.id, j.idempotency_key
    from unnest(:tenant_ids::int[], :finished_befores::timestamptz[]) as r (tenant_id, finished_before)
    cross join lateral (
        select d.tenant_id, d.id, d.idempotency_key
        from millstream.jobs_done as d
        where
            d.tenant_id = r.tenant_id
            and d.id < millstream.first_id_at(r.finished_before + interval '1 hour')
            and d.finished_at < r.finished_before
        order by d.id
        limit :limit::int
    ) as j
    limit :limit::int
),
-- Keys come before jobs in the order of locks.
held_keys as materialized (
    select k.tenant_id, k.key
    from stale as s
    inner join millstream.idempotency_keys as k
        on k.tenant_id = s.tenant_id and k.key = s.idempotency_key and k.job_id = s.id
    order by k.tenant_id, k.key
    for update of k
),
removed as (
    delete from millstream.jobs_done as j
    using stale as s
    where (select count(*) from held_keys) >= 0 and j.tenant_id = s.tenant_id and j.id = s.id
    returning j.tenant_id, j.id, j.idempotency_key, j.state
),
events as (
    delete from millstream.job_events as e
    using removed as r
    where e.tenant_id = r.tenant_id and e.job_id = r.id
),
keys as (
    delete from millstream.idempotency_keys as k
    using removed as r
    where k.tenant_id = r.tenant_id and k.key = r.idempotency_key and k.job_id = r.id
),
-- What still waits has counted them already.
edges as (
    delete from millstream.job_dependencies as e
    using (
        select d.tenant_id, d.job_id, d.depends_on
        from removed as r
        inner join millstream.job_dependencies as d on d.tenant_id = r.tenant_id and d.job_id = r.id
        union
        select d.tenant_id, d.job_id, d.depends_on
        from removed as r
        inner join millstream.job_dependencies as d on d.tenant_id = r.tenant_id and d.depends_on = r.id
    ) as g
    where e.tenant_id = g.tenant_id and e.job_id = g.job_id and e.depends_on = g.depends_on
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select r.tenant_id, 6, '', date '1970-01-01', count(*)
    from removed as r
    group by r.tenant_id
),
members as (
    update millstream.workflow_jobs as m
    set final_state = r.state
    from removed as r
    where m.tenant_id = r.tenant_id and m.job_id = r.id
)
select count(*) as pruned from removed;

-- name: prune_job_events :one
-- Deletes history past its tenant's retention; tells how much.
with stale as materialized (
    select h.tenant_id, h.job_id, h.id
    from unnest(:tenant_ids::int[], :befores::timestamptz[]) as r (tenant_id, before)
    cross join lateral (
        select e.tenant_id, e.job_id, e.id
        from millstream.job_events as e
        where
            e.tenant_id = r.tenant_id
            and e.job_id < millstream.first_id_at(r.before + interval '1 hour')
            and e.at < r.before
        order by e.job_id
        limit :limit::int
    ) as h
    limit :limit::int
),
removed as (
    delete from millstream.job_events as e
    using stale as s
    where e.tenant_id = s.tenant_id and e.job_id = s.job_id and e.id = s.id
    returning 1
)
select count(*) as pruned from removed;

-- name: list_tenant_plans :many
-- Reads what each tenant's retention is decided by.
select t.id, t.plan_tier, t.custom_limits
from millstream.tenants as t
where t.id > :after::int
order by t.id
limit :limit::int;

-- name: get_database_time :one
-- Reads the database's clock.
select coalesce(:now::timestamptz, now()) as at;

-- name: find_old_transaction :one
-- Finds who holds the oldest snapshot of this database, and for how long.
select
    a.pid,
    coalesce(a.application_name, '') as application_name,
    coalesce(a.usename::text, '') as username,
    extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds
from pg_stat_activity as a
where
    a.backend_xmin is not null
    and a.xact_start is not null
    and a.datname = current_database()
    and a.pid <> pg_backend_pid()
    and a.backend_type = 'client backend'
order by a.xact_start
limit 1;

-- name: list_dead_tuples :many
-- Reads how many dead rows each hot table carries, as last reported.
select s.relname::text as relation, s.n_dead_tup as dead, s.n_live_tup as live
from pg_stat_user_tables as s
where s.schemaname = 'millstream' and s.relname in ('jobs', 'counter_deltas', 'counters', 'workers');
