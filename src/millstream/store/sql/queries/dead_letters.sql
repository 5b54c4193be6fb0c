-- name: retry_dead_jobs :many
-- Brings dead letters back, claimable at once: by id, else the oldest of a queue. They are held in the order of their ids,
-- whatever order they are chosen in, and after them their children.
-- With `restart` their retry counts begin anew and their waiting children wait for them again.
with chosen as materialized (
    (
        select d.tenant_id, d.id
        from millstream.jobs_dead as d
        where
            :ids::uuid[] is null
            and d.tenant_id = :tenant_id::int
            and (:queue::text is null or d.queue = :queue::text)
            and (:queues::text[] is null or d.queue = any(:queues::text[]))
        order by d.created_at, d.id
        limit :limit::int
    )
    union all
    (
        select d.tenant_id, d.id
        from (select distinct n.id from unnest(:ids::uuid[]) as n (id)) as g
        inner join millstream.jobs_dead as d on d.tenant_id = :tenant_id::int and d.id = any(array[g.id])
        where
            (:queue::text is null or d.queue = :queue::text)
            and (:queues::text[] is null or d.queue = any(:queues::text[]))
        order by d.created_at, d.id
        limit :limit::int
    )
),
held as materialized (
    select d.tenant_id, d.id
    from chosen as c
    inner join millstream.jobs_dead as d on d.tenant_id = any(array[c.tenant_id]) and d.id = any(array[c.id])
    order by d.id
    for update of d
),
removed as (
    delete from millstream.jobs_dead as d
    using held as h
    where d.tenant_id = any(array[h.tenant_id]) and d.id = any(array[h.id])
    returning d.*
),
children as materialized (
    select j.tenant_id, j.id, j.parent_job_id
    from removed as r
    inner join millstream.jobs as j on j.tenant_id = any(array[r.tenant_id]) and j.parent_job_id = any(array[r.id])
    where :restart::boolean and j.state < 4
    order by j.id
    for update of j
),
blocked as (
    update millstream.jobs as j
    set state = 4, unmet = 1, updated_at = coalesce(:now::timestamptz, now())
    from children as c
    where j.tenant_id = any(array[c.tenant_id]) and j.id = any(array[c.id])
),
revived as (
    insert into millstream.jobs (
        tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
        expires_at, started_at, parent_job_id, workflow_id, dependency_mode, has_dependents, returned, job_type,
        payload, tags, idempotency_key, completion_webhook, completion_webhook_secret
    )
    select
        r.tenant_id, r.id, r.queue, 1, r.priority, case when :restart::boolean then 0 else r.retry_count + 1 end,
        r.max_retries, r.timeout_seconds, r.created_at, coalesce(:now::timestamptz, now()), r.expires_at,
        r.started_at, r.parent_job_id, r.workflow_id, r.dependency_mode,
        r.has_dependents or exists (select from children as c where c.parent_job_id = r.id), true, r.job_type,
        r.payload, r.tags, r.idempotency_key, r.completion_webhook, r.completion_webhook_secret
    from removed as r
),
recorded as (
    insert into millstream.job_events (tenant_id, job_id, id, kind, at)
    select r.tenant_id, r.id, gen_random_uuid(), 7, coalesce(:now::timestamptz, now())
    from removed as r
)
select r.id, r.queue, r.workflow_id
from removed as r
order by r.created_at, r.id;
