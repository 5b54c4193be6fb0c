-- Jobs are deleted in steps, each a transaction of these statements in this order: find, lock the keys, lock the jobs, delete. Each
-- statement begins with a fresh snapshot, so that a job which moves to another table meanwhile is found there.

-- name: list_purged_jobs :many
-- Chooses the dead letters to delete next, the oldest first.
select d.id, d.idempotency_key
from millstream.jobs_dead as d
where
    d.tenant_id = :tenant_id::int
    and (:queue::text is null or d.queue = :queue::text)
    and (:queues::text[] is null or d.queue = any(:queues::text[]))
    and (:created_before::timestamptz is null or d.created_at < :created_before::timestamptz)
order by d.created_at, d.id
limit :limit::int;

-- name: list_descendants :many
-- Lists what lies below jobs by their parent links, wherever it lives, the nearest first.
with recursive below as (
    select j.id, j.idempotency_key, g.id as parent_id, 1 as depth
    from unnest(:ids::uuid[]) as g (id)
    inner join millstream.all_jobs as j on j.tenant_id = :tenant_id::int and j.parent_job_id = g.id
    union all
    select j.id, j.idempotency_key, b.id, b.depth + 1
    from below as b
    inner join millstream.all_jobs as j on j.tenant_id = :tenant_id::int and j.parent_job_id = b.id
)
select b.id, b.idempotency_key, b.parent_id, b.depth
from below as b
limit :limit::int;

-- name: list_queue_jobs :one
-- Looks through a page of a tenant's jobs by id for those of one queue. An id far in the future ends it, so that it
-- does not run after jobs that are enqueued all the while; the hour covers clocks of processes that run ahead.
with page as materialized (
    select j.id, j.queue, j.idempotency_key
    from millstream.all_jobs as j
    where
        j.tenant_id = :tenant_id::int
        and j.id > :after::uuid
        and j.id < millstream.first_id_at(:until::timestamptz + interval '1 hour')
    order by j.id
    limit :limit::int
)
select
    count(*) as looked_at,
    (array_agg(p.id order by p.id desc))[1] as last_id,
    array_agg(p.id) filter (where p.queue = :queue::text) as ids,
    array_agg(p.idempotency_key) filter (where p.queue = :queue::text) as idempotency_keys
from page as p;

-- name: lock_idempotency_keys :exec
-- Locks keys in their order.
select
from millstream.idempotency_keys as k
where k.tenant_id = :tenant_id::int and k.key = any(:keys::text[])
order by k.tenant_id, k.key
for update;

-- name: lock_jobs :many
-- Locks jobs wherever they live, in the order of their ids; tells which are dead letters, and which have dependents.
select g.id, coalesce(d.is_dead, false) as is_dead, coalesce(a.has_dependents, false) as has_dependents, f.is_done
from (select o.id from unnest(:ids::uuid[]) as o (id) order by o.id) as g
left join lateral (
    select j.has_dependents
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    limit 1
    for update
) as a on true
left join lateral (
    select true as is_dead
    from millstream.jobs_dead as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    limit 1
    for update
) as d on true
left join lateral (
    select true as is_done
    from millstream.jobs_done as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    limit 1
    for update
) as f on true;

-- name: lock_hopeless_jobs :many
-- Finds and locks the jobs that can never start once the given ones are gone.
select h.id
from millstream.lock_hopeless(:tenant_id::int, :ids::uuid[], true) as h
order by h.id;

-- name: forget_jobs :many
-- Takes jobs that are about to be deleted out of what waits for them, and of their workflows; tells what is claimable for that,
-- and what is left with nothing to wait for but cancelled jobs.
select f.id, f.queue, f.state = 1 as is_ready
from millstream.forget_jobs(:tenant_id::int, :ids::uuid[], coalesce(:now::timestamptz, now())) as f
where
    f.state = 1
    or (
        f.state = 4
        and not exists (
            select
            from millstream.job_dependencies as e
            where
                e.tenant_id = :tenant_id::int
                and e.job_id = f.id
                and not exists (
                    select from millstream.jobs_done as d
                    where d.tenant_id = :tenant_id::int and d.id = e.depends_on and d.state = 8
                )
        )
    );

-- name: delete_jobs :many
-- Deletes jobs wherever they live, with their history and keys.
with given as materialized (
    select g.id
    from unnest(:ids::uuid[]) as g (id)
    order by g.id
),
alive as (
    delete from millstream.jobs as j
    using given as g
    where j.tenant_id = any(array[:tenant_id::int]) and j.id = any(array[g.id])
    returning j.id, j.idempotency_key
),
dead as (
    delete from millstream.jobs_dead as j
    using given as g
    where j.tenant_id = :tenant_id::int and j.id = g.id
    returning j.id, j.idempotency_key
),
done as (
    delete from millstream.jobs_done as j
    using given as g
    where j.tenant_id = :tenant_id::int and j.id = g.id
    returning j.id, j.idempotency_key
),
gone as materialized (
    select a.id, a.idempotency_key from alive as a
    union all
    select d.id, d.idempotency_key from dead as d
    union all
    select d.id, d.idempotency_key from done as d
),
events as (
    delete from millstream.job_events as e
    using gone as g
    where e.tenant_id = :tenant_id::int and e.job_id = g.id
),
keys as (
    delete from millstream.idempotency_keys as k
    using gone as g
    where k.tenant_id = :tenant_id::int and k.key = g.idempotency_key and k.job_id = g.id
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select :tenant_id::int, 6, '', date '1970-01-01', count(*)
    from gone
    having count(*) > 0
)
select g.id from gone as g;
