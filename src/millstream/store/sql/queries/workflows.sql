-- name: count_active_workflows :one
-- Counts a tenant's workflows that are pending or running.
select count(*) as workflows from millstream.workflows as w where w.tenant_id = :tenant_id::int and w.status < 3;

-- name: create_workflow :one
-- Makes a workflow of jobs that were inserted by this transaction: those that wait for others are blocked.
with workflow as (
    insert into millstream.workflows (
        tenant_id, id, name, description, metadata, queues, total_jobs, created_at
    )
    values (
        :tenant_id::int, :id::uuid, :name::text, :description::text, :metadata::text, :queues::text[], :total_jobs::int,
        coalesce(:now::timestamptz, now())
    )
    returning id
),
-- With the tenant, so that rows are reached by their whole keys and in no other way.
given as materialized (
    select :tenant_id::int as tenant_id, g.*
    from unnest(
        :job_ids::text::uuid[], :keys::text::text[], :modes::text::smallint[], :unmets::text::smallint[]
    ) with ordinality as g (job_id, key, mode, unmet, place)
),
members as (
    insert into millstream.workflow_jobs (tenant_id, workflow_id, place, key, job_id)
    select :tenant_id::int, :id::uuid, g.place, g.key, g.job_id from given as g
),
edges as (
    insert into millstream.job_dependencies (tenant_id, job_id, depends_on)
    select :tenant_id::int, e.job_id, e.depends_on
    from unnest(:dependents::text::uuid[], :dependencies::text::uuid[]) as e (job_id, depends_on)
),
joined as (
    update millstream.jobs as j
    set
        workflow_id = :id::uuid,
        dependency_mode = g.mode,
        unmet = g.unmet,
        has_dependents = true,
        state = case when g.unmet > 0 then 4 else j.state end
    from given as g
    where j.tenant_id = any(array[g.tenant_id]) and j.id = any(array[g.job_id])
    returning j.id
)
select count(*) as jobs from joined;

-- name: list_changed_workflows :many
-- Finds workflows that have changed since they were last looked at: of one tenant, or of all.
select distinct c.tenant_id, c.workflow_id
from (
    select c.tenant_id, c.workflow_id
    from millstream.workflow_changes as c
    where
        (:tenant_id::int is null or c.tenant_id = :tenant_id::int)
        and (:workflow_id::uuid is null or c.workflow_id = :workflow_id::uuid)
    limit :rows_max::int
) as c
limit :limit::int;

-- name: lock_workflows :many
-- Holds workflows, in their order, under which their changes are taken and looked at.
select w.tenant_id, w.id
from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
inner join millstream.workflows as w on w.tenant_id = g.tenant_id and w.id = g.id
order by w.tenant_id, w.id
for update of w;

-- name: take_workflow_changes :many
-- Removes the changes of workflows that are held; tells which had any.
with removed as (
    delete from millstream.workflow_changes as c
    using unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
    where c.tenant_id = g.tenant_id and c.workflow_id = g.id
    returning c.tenant_id, c.workflow_id
)
select distinct r.tenant_id, r.workflow_id as id from removed as r;

-- name: count_workflow_jobs :many
-- Counts the jobs of workflows that are held by their states, those that are deleted by the last one that is known.
select
    w.tenant_id, w.id, w.name, w.status, w.total_jobs, w.started_at, w.completed_at,
    count(*) filter (where s.state in (1, 2, 3, 5)) as able,
    count(*) filter (where s.state = 4) as blocked,
    count(*) filter (where s.state = 6) as dead,
    count(*) filter (where s.state = 7) as completed,
    count(*) filter (where s.state = 8) as cancelled,
    min(s.started_at) as first_started_at
from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
inner join millstream.workflows as w on w.tenant_id = g.tenant_id and w.id = g.id
inner join millstream.workflow_jobs as m on m.tenant_id = w.tenant_id and m.workflow_id = w.id
left join lateral (
    select coalesce(f.state, m.final_state) as state, f.started_at
    from (select 1) as always
    left join lateral (
        select j.state, j.started_at
        from millstream.jobs as j
        where j.tenant_id = m.tenant_id and j.id = m.job_id
        union all
        select 6::smallint, j.started_at
        from millstream.jobs_dead as j
        where j.tenant_id = m.tenant_id and j.id = m.job_id
        union all
        -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
        (
            select j.state, j.started_at
            from millstream.jobs_done as j
            where j.tenant_id = m.tenant_id and j.id = m.job_id
            limit 1
        )
    ) as f on true
) as s on true
group by w.tenant_id, w.id;

-- name: list_workflow_waits :many
-- Lists what the blocked jobs of a workflow wait for, and what that waits for where it is blocked itself.
with recursive waits as (
    select e.job_id, e.depends_on
    from millstream.workflow_jobs as m
    inner join millstream.jobs as j on j.tenant_id = m.tenant_id and j.id = m.job_id and j.state = 4
    inner join millstream.job_dependencies as e on e.tenant_id = j.tenant_id and e.job_id = j.id
    where m.tenant_id = :tenant_id::int and m.workflow_id = :id::uuid
    union
    select e.job_id, e.depends_on
    from waits as w
    inner join millstream.jobs as j on j.tenant_id = :tenant_id::int and j.id = w.depends_on and j.state = 4
    inner join millstream.job_dependencies as e on e.tenant_id = j.tenant_id and e.job_id = j.id
)
select w.job_id, o.dependency_mode, w.depends_on, s.state, o.workflow_id
from waits as w
inner join millstream.jobs as o on o.tenant_id = :tenant_id::int and o.id = w.job_id
cross join lateral (
    select j.state
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.id = w.depends_on
    union all
    select 6::smallint
    from millstream.jobs_dead as j
    where j.tenant_id = :tenant_id::int and j.id = w.depends_on
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (
        select j.state
        from millstream.jobs_done as j
        where j.tenant_id = :tenant_id::int and j.id = w.depends_on
        limit 1
    )
) as s;

-- name: update_workflows :many
-- Notes how workflows that are held stand now; tells when those that have just ended did.
update millstream.workflows as w
set
    status = g.status,
    completed_jobs = g.completed,
    failed_jobs = g.failed,
    started_at = coalesce(w.started_at, g.started_at),
    completed_at = case when g.status > 2 then coalesce(w.completed_at, coalesce(:now::timestamptz, now())) end
from unnest(
    :tenant_ids::int[], :ids::uuid[], :statuses::smallint[], :completed::int[], :failed::int[],
    :started_ats::timestamptz[]
) as g (tenant_id, id, status, completed, failed, started_at)
where w.tenant_id = g.tenant_id and w.id = g.id
returning w.tenant_id, w.id, w.completed_at;

-- name: list_workflow_job_ids :many
-- Lists the jobs of a workflow that still exist where the states say: waiting ones, or dead letters.
select m.job_id as id
from millstream.workflow_jobs as m
where
    m.tenant_id = :tenant_id::int
    and m.workflow_id = :id::uuid
    and (
        (
            :waiting::boolean
            and exists (
                select from millstream.jobs as j
                where j.tenant_id = m.tenant_id and j.id = m.job_id and j.state < 5
            )
        )
        or (
            :dead::boolean
            and exists (
                select from millstream.jobs_dead as j
                where j.tenant_id = m.tenant_id and j.id = m.job_id
            )
        )
    )
order by m.place;

-- name: list_dead_steps :many
-- Chooses dead letters as retry_dead_jobs does, and tells of which workflows they are.
select d.id, d.workflow_id
from millstream.jobs_dead as d
where
    d.tenant_id = :tenant_id::int
    and (:ids::uuid[] is null or d.id = any(:ids::uuid[]))
    and (:queue::text is null or d.queue = :queue::text)
    and (:queues::text[] is null or d.queue = any(:queues::text[]))
order by d.created_at, d.id
limit :limit::int;

-- name: list_failed_workflows :many
-- Tells which workflows are failed.
select w.id
from unnest(:ids::uuid[]) as g (id)
inner join millstream.workflows as w on w.tenant_id = :tenant_id::int and w.id = g.id
where w.status = 4;

-- name: find_workflow :one
-- Reads one workflow. One of which a job was claimed runs, whether or not that was noted.
select
    w.id, w.name, w.description, w.metadata, w.total_jobs, w.completed_jobs, w.failed_jobs, w.created_at, w.completed_at,
    case when w.status = 1 and s.started_at is not null then 2::smallint else w.status end as status,
    coalesce(w.started_at, s.started_at) as started_at
from millstream.workflows as w
left join lateral (
    select min(j.started_at) as started_at
    from millstream.workflow_jobs as m
    inner join millstream.jobs as j on j.tenant_id = m.tenant_id and j.id = m.job_id
    where w.started_at is null and m.tenant_id = w.tenant_id and m.workflow_id = w.id
) as s on true
where
    w.tenant_id = :tenant_id::int
    and w.id = :id::uuid
    and (:queues::text[] is null or w.queues <@ :queues::text[]);

-- name: list_workflows :many
-- Reads a page of workflows, the newest first, with their statuses as find_workflow tells them.
select
    w.id, w.name, w.description, w.metadata, w.total_jobs, w.completed_jobs, w.failed_jobs, w.created_at, w.completed_at,
    case when w.status = 1 and s.started_at is not null then 2::smallint else w.status end as status,
    coalesce(w.started_at, s.started_at) as started_at
from millstream.workflows as w
left join lateral (
    select min(j.started_at) as started_at
    from millstream.workflow_jobs as m
    inner join millstream.jobs as j on j.tenant_id = m.tenant_id and j.id = m.job_id
    where w.started_at is null and m.tenant_id = w.tenant_id and m.workflow_id = w.id
) as s on true
where
    w.tenant_id = :tenant_id::int
    and (:queues::text[] is null or w.queues <@ :queues::text[])
    and (
        :status::smallint is null
        or (
            -- What is noted as pending may run.
            w.status in (:status::smallint, :status::smallint - 1)
            and :status::smallint
            = case when w.status = 1 and s.started_at is not null then 2::smallint else w.status end
        )
    )
order by w.id desc
limit :limit::int
offset :offset::int;

-- name: list_workflow_jobs :many
-- Reads the jobs of a workflow that still exist, in the order of its definition, wherever they live.
select
    m.key, j.id, j.queue, j.state, j.job_type, j.payload, j.result, j.retry_count, j.max_retries, j.last_error, j.created_at,
    j.updated_at, j.run_at, j.started_at, j.finished_at, j.expires_at, j.priority, j.tags, j.timeout_seconds,
    j.parent_job_id, j.completion_webhook, j.idempotency_key, j.workflow_id, j.worker_id, j.lease_id,
    j.lease_expires_at, j.dependency_mode, j.unmet
from millstream.workflow_jobs as m
cross join lateral (
    select
        a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
        a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
        a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
        a.lease_expires_at, a.dependency_mode, a.unmet
    from millstream.all_jobs as a
    where a.tenant_id = m.tenant_id and a.id = m.job_id
    limit 1
) as j
where m.tenant_id = :tenant_id::int and m.workflow_id = :id::uuid and m.final_state is null
order by m.place;

-- name: list_workflow_edges :many
-- Lists what the jobs of a workflow were made to wait for.
select e.job_id, e.depends_on
from millstream.workflow_jobs as m
inner join millstream.job_dependencies as e on e.tenant_id = m.tenant_id and e.job_id = m.job_id
where m.tenant_id = :tenant_id::int and m.workflow_id = :id::uuid
order by m.place, e.depends_on;

-- name: prune_workflows :one
-- Deletes workflows past their tenant's retention none of whose jobs exists any more; tells how many.
with stale as materialized (
    select s.tenant_id, s.id
    from unnest(:tenant_ids::int[], :completed_befores::timestamptz[]) as r (tenant_id, completed_before)
    cross join lateral (
        select w.tenant_id, w.id
        from millstream.workflows as w
        where
            w.tenant_id = r.tenant_id
            and w.id < millstream.first_id_at(r.completed_before + interval '1 hour')
            and w.completed_at < r.completed_before
            and not exists (
                select from millstream.workflow_jobs as m
                where m.tenant_id = w.tenant_id and m.workflow_id = w.id and m.final_state is null
            )
        order by w.id
        limit :limit::int
    ) as s
    limit :limit::int
),
removed as (
    delete from millstream.workflows as w
    using stale as s
    where w.tenant_id = s.tenant_id and w.id = s.id
    returning w.tenant_id, w.id
),
members as (
    delete from millstream.workflow_jobs as m
    using removed as r
    where m.tenant_id = r.tenant_id and m.workflow_id = r.id
),
changes as (
    delete from millstream.workflow_changes as c
    using removed as r
    where c.tenant_id = r.tenant_id and c.workflow_id = r.id
)
select count(*) as pruned from removed;
