-- name: list_dependency_edges :many
-- Lists what a job waits for (upward) and what waits for it, as each of these stands.
select e.upward, s.id, s.queue, s.state
from (
    select true as upward, d.depends_on as id
    from millstream.job_dependencies as d
    where d.tenant_id = :tenant_id::int and d.job_id = :id::uuid
    union all
    select false, d.job_id
    from millstream.job_dependencies as d
    where d.tenant_id = :tenant_id::int and d.depends_on = :id::uuid
) as e
cross join lateral (
    select j.id, j.queue, j.state
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.id = e.id
    union all
    select j.id, j.queue, 6::smallint
    from millstream.jobs_dead as j
    where j.tenant_id = :tenant_id::int and j.id = e.id
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (
        select j.id, j.queue, j.state
        from millstream.jobs_done as j
        where j.tenant_id = :tenant_id::int and j.id = e.id
        limit 1
    )
) as s
where :queues::text[] is null or s.queue = any(:queues::text[])
order by e.upward, s.id;

-- name: lock_living_jobs :exec
-- Locks those of the given jobs that live, in their order.
select
from (select o.id from unnest(:ids::uuid[]) as o (id) order by o.id) as g
cross join lateral (
    select j.id
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    limit 1
    for update
) as j;

-- name: list_waiting_below :many
-- Lists what waits for a job, what waits for that, and so on.
with recursive below as (
    select e.job_id
    from millstream.job_dependencies as e
    where e.tenant_id = :tenant_id::int and e.depends_on = :id::uuid
    union
    select e.job_id
    from below as b
    inner join millstream.job_dependencies as e on e.tenant_id = :tenant_id::int and e.depends_on = b.job_id
)
select b.job_id as id from below as b;

-- name: add_dependencies :many
-- Makes a job wait for others, unless it does already, and sets how; tells which are new.
with moded as (
    update millstream.jobs as j
    set dependency_mode = :mode::smallint
    where j.tenant_id = any(array[:tenant_id::int]) and j.id = any(array[:id::uuid])
),
flagged as (
    update millstream.jobs as j
    set has_dependents = true
    from unnest(:depends_on::uuid[]) as g (id)
    where
        j.tenant_id = any(array[:tenant_id::int])
        and j.id = any(array[g.id])
        and not j.has_dependents
),
-- A dead letter may come back.
flagged_dead as (
    update millstream.jobs_dead as j
    set has_dependents = true
    from unnest(:depends_on::uuid[]) as g (id)
    where j.tenant_id = :tenant_id::int and j.id = g.id and not j.has_dependents
),
changed as (
    insert into millstream.workflow_changes (tenant_id, workflow_id)
    select :tenant_id::int, :workflow_id::uuid
    where :workflow_id::uuid is not null
)
insert into millstream.job_dependencies as e (tenant_id, job_id, depends_on)
select :tenant_id::int, :id::uuid, g.id
from unnest(:depends_on::uuid[]) as g (id)
on conflict do nothing
returning e.depends_on;

-- name: count_dependencies :one
-- Counts what a job waits, or has waited, for.
select count(*) as dependencies
from millstream.job_dependencies as e
where e.tenant_id = :tenant_id::int and e.job_id = :id::uuid;

-- name: recount_dependencies :one
-- Counts anew what a job waits for, and lets it go or holds it back accordingly.
select r.queue, r.state
from millstream.recount_dependencies(
    :tenant_id::int, array[:id::uuid], coalesce(:now::timestamptz, now())
) as r;
