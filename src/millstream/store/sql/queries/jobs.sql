-- How batches reach `jobs`: rows are changed, or locked first, in the order of their keys; through `= any(array[...])`,
-- or through a lateral sub-query whose limit keeps conditions on the state out of it. Both leave the planner one way, a look-up by primary key for each
-- row. A plain equality lets it begin with the table instead, along whatever partial index its statistics call empty:
-- a claim or completion of 500 rows then looked at 250,000 pairs.

-- name: create_jobs :many
-- Inserts new jobs, or finds the ones that hold their idempotency keys already.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
given as materialized (
    select
        g.*,
        coalesce(g.max_retries, q.max_retries, :default_max_retries::smallint) as retries,
        coalesce(g.timeout_seconds, q.default_timeout_seconds, :default_timeout_seconds::int) as timeout,
        k.job_id as known_id,
        coalesce(:now::timestamptz, now()) as at
    from batch
    cross join unnest(
        :tenant_ids::text::int[],
        :ids::text::uuid[],
        :queues::text::text[],
        :payloads::text::text[],
        :job_types::text::text[],
        :priorities::text::smallint[],
        :max_retries::text::smallint[],
        :timeouts::text::int[],
        :run_ats::text::timestamptz[],
        :expires_ats::text::timestamptz[],
        :idempotency_keys::text::text[],
        :tags::text::text[],
        :parent_job_ids::text::uuid[],
        :webhooks::text::text[],
        :webhook_secrets::text::text[]
    ) with ordinality as g (
        tenant_id, id, queue, payload, job_type, priority, max_retries, timeout_seconds, run_at, expires_at,
        idempotency_key, tags, parent_job_id, completion_webhook, completion_webhook_secret, place
    )
    left join millstream.queues as q on q.tenant_id = g.tenant_id and q.name = g.queue
    left join millstream.idempotency_keys as k on k.tenant_id = g.tenant_id and k.key = g.idempotency_key
),
keyed as (
    insert into millstream.idempotency_keys as k (tenant_id, key, job_id)
    select g.tenant_id, g.idempotency_key, g.id
    from given as g
    where g.idempotency_key is not null and g.known_id is null
    order by g.tenant_id, g.idempotency_key
    -- An update, not `do nothing`: only that returns the row of a concurrent winner, and its xmax tells it.
    on conflict (tenant_id, key) do update set job_id = k.job_id
    returning k.tenant_id, k.key, k.job_id, k.xmax <> 0 as lost
),
-- Rarely more than none, so that joining it costs nothing however large the batch is.
lost as materialized (
    select k.tenant_id, k.key, k.job_id
    from keyed as k
    where k.lost
),
fresh as materialized (
    select g.*
    from given as g
    left join lost as l on l.tenant_id = g.tenant_id and l.key = g.idempotency_key
    where g.known_id is null and l.job_id is null
),
inserted as (
    insert into millstream.jobs (
        tenant_id, id, queue, state, priority, max_retries, timeout_seconds, created_at, updated_at, run_at,
        expires_at, parent_job_id, job_type, payload, tags, idempotency_key, completion_webhook,
        completion_webhook_secret
    )
    select
        f.tenant_id, f.id, f.queue, case when f.run_at > f.at then 2 else 1 end, f.priority, f.retries, f.timeout,
        f.at, f.at, f.run_at, f.expires_at, f.parent_job_id, f.job_type, f.payload, f.tags, f.idempotency_key,
        f.completion_webhook, f.completion_webhook_secret
    from fresh as f
    order by f.place
),
labelled as (
    insert into millstream.job_labels (tenant_id, kind, label)
    select l.tenant_id, l.kind, l.label
    from unnest(:label_tenant_ids::text::int[], :label_kinds::text::smallint[], :labels::text::text[]) as l (tenant_id, kind, label)
    order by l.tenant_id, l.kind, l.label
    on conflict do nothing
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select f.tenant_id, 1, '', (f.at at time zone 'UTC')::date, count(*)
    from fresh as f
    group by f.tenant_id, (f.at at time zone 'UTC')::date
)
select
    coalesce(g.known_id, l.job_id, g.id) as id,
    g.known_id is null and l.job_id is null as created,
    coalesce(g.run_at > g.at, false) as delayed
from given as g
left join lost as l on l.tenant_id = g.tenant_id and l.key = g.idempotency_key
order by g.place;

-- name: create_plain_jobs :exec
-- Inserts new jobs that have neither an idempotency key nor a time to wait for: most are of this kind, and one insert
-- without rows to keep and to return costs 60 % of what create_jobs does.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
labelled as (
    insert into millstream.job_labels (tenant_id, kind, label)
    select l.tenant_id, l.kind, l.label
    from unnest(:label_tenant_ids::text::int[], :label_kinds::text::smallint[], :labels::text::text[]) as l (tenant_id, kind, label)
    order by l.tenant_id, l.kind, l.label
    on conflict do nothing
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select c.tenant_id, 1, '', (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, c.jobs
    from unnest(:counted_tenant_ids::text::int[], :counted_jobs::text::int[]) as c (tenant_id, jobs)
)
insert into millstream.jobs (
    tenant_id, id, queue, state, priority, max_retries, timeout_seconds, created_at, updated_at, expires_at,
    parent_job_id, job_type, payload, tags, completion_webhook, completion_webhook_secret
)
select
    g.tenant_id, g.id, g.queue, 1, g.priority,
    coalesce(g.max_retries, q.max_retries, :default_max_retries::smallint),
    coalesce(g.timeout_seconds, q.default_timeout_seconds, :default_timeout_seconds::int),
    coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now()), g.expires_at, g.parent_job_id, g.job_type,
    g.payload, g.tags, g.completion_webhook, g.completion_webhook_secret
from batch
cross join unnest(
    :tenant_ids::text::int[],
    :ids::text::uuid[],
    :queues::text::text[],
    :payloads::text::text[],
    :job_types::text::text[],
    :priorities::text::smallint[],
    :max_retries::text::smallint[],
    :timeouts::text::int[],
    :expires_ats::text::timestamptz[],
    :tags::text::text[],
    :parent_job_ids::text::uuid[],
    :webhooks::text::text[],
    :webhook_secrets::text::text[]
) as g (
    tenant_id, id, queue, payload, job_type, priority, max_retries, timeout_seconds, expires_at, tags, parent_job_id,
    completion_webhook, completion_webhook_secret
)
left join millstream.queues as q on q.tenant_id = g.tenant_id and q.name = g.queue;

-- name: touch_jobs :exec
-- Moves updated_at of jobs that an idempotency key was answered with, wherever they live.
with given as materialized (
    select g.tenant_id, g.id
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
),
alive as (
    update millstream.jobs as j
    set updated_at = coalesce(:now::timestamptz, now())
    from given as g
    where j.tenant_id = any(array[g.tenant_id]) and j.id = any(array[g.id])
),
dead as (
    update millstream.jobs_dead as j
    set updated_at = coalesce(:now::timestamptz, now())
    from given as g
    where j.tenant_id = g.tenant_id and j.id = g.id
)
update millstream.jobs_done as j
set updated_at = coalesce(:now::timestamptz, now())
from given as g
where j.tenant_id = g.tenant_id and j.id = g.id;

-- name: find_known_jobs :many
-- Tells which of the given ids belong to jobs of their tenant, in any state.
select g.id
from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
cross join lateral (
    select from millstream.jobs as j where j.tenant_id = g.tenant_id and j.id = g.id
    union all
    select from millstream.jobs_dead as j where j.tenant_id = g.tenant_id and j.id = g.id
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (select from millstream.jobs_done as j where j.tenant_id = g.tenant_id and j.id = g.id limit 1)
) as known;

-- name: cancel_jobs :many
-- Cancels jobs that nobody works on, and the blocked jobs below them that can never start.
with held as materialized (
    select j.tenant_id, j.id
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
    inner join millstream.jobs as j on j.tenant_id = g.tenant_id and j.id = g.id
    where j.state < 5
    -- What may be waited for goes before what waits, as where jobs are completed.
    order by j.tenant_id, j.state = 4, j.id
    for update of j
),
children as materialized (
    select p.tenant_id, c.id
    from (
        select h.tenant_id, array_agg(h.id order by h.id) as ids
        from held as h
        group by h.tenant_id
        order by h.tenant_id
    ) as p
    cross join lateral millstream.lock_hopeless(p.tenant_id, p.ids, false) as c
),
removed as (
    delete from millstream.jobs as j
    using (
        select h.tenant_id, h.id, :error::text as error from held as h
        union
        select c.tenant_id, c.id, 'parent job was cancelled'
        from children as c
    ) as r
    where j.tenant_id = r.tenant_id and j.id = r.id
    returning j.*, r.error
),
kept as (
    insert into millstream.jobs_done (
        tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
        run_at, expires_at, started_at, finished_at, parent_job_id, workflow_id, unmet, dependency_mode, job_type,
        payload, tags, last_error, idempotency_key, completion_webhook
    )
    select
        r.tenant_id, r.id, r.queue, 8, r.priority, r.retry_count, r.max_retries, r.timeout_seconds, r.created_at,
        coalesce(:now::timestamptz, now()), r.run_at, r.expires_at, r.started_at,
        coalesce(:now::timestamptz, now()), r.parent_job_id, r.workflow_id, r.unmet, r.dependency_mode, r.job_type,
        r.payload, r.tags, coalesce(r.error, r.last_error), r.idempotency_key, r.completion_webhook
    from removed as r
),
changed as (
    insert into millstream.workflow_changes (tenant_id, workflow_id)
    select distinct r.tenant_id, r.workflow_id from removed as r where r.workflow_id is not null
)
select r.tenant_id, r.id, r.queue
from removed as r;

-- name: find_expired_jobs :many
-- Finds jobs that nobody may claim any more, the longest expired first.
select j.tenant_id, j.id
from millstream.jobs as j
where j.state < 5 and j.expires_at <= coalesce(:now::timestamptz, now())
order by j.expires_at
limit :limit::int;

-- name: set_job_priority :one
-- Changes the priority of a job that nobody works on yet.
with held as materialized (
    select j.tenant_id, j.id, j.priority
    from millstream.jobs as j
    where
        j.tenant_id = :tenant_id::int
        and j.id = :id::uuid
        and j.state < 5
        and (:queues::text[] is null or j.queue = any(:queues::text[]))
    for update
)
update millstream.jobs as j
set priority = :priority::smallint, returned = true, updated_at = coalesce(:now::timestamptz, now())
from held as h
where j.tenant_id = any(array[h.tenant_id]) and j.id = any(array[h.id])
returning h.priority as old_priority;
