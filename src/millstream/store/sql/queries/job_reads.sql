-- name: find_job :one
-- Reads one job wherever it lives.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and a.id = :id::uuid
    and (:queues::text[] is null or a.queue = any(:queues::text[]));

-- name: list_job_statuses :many
-- Reads the few facts of a batch look-up, in the order given.
select s.id, s.queue, s.state, s.retry_count, s.created_at, s.finished_at
from unnest(:ids::uuid[]) with ordinality as g (id, place)
cross join lateral (
    select j.id, j.queue, j.state, j.retry_count, j.created_at, null::timestamptz as finished_at
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    union all
    select j.id, j.queue, 6::smallint, j.retry_count, j.created_at, null::timestamptz
    from millstream.jobs_dead as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (
        select j.id, j.queue, j.state, j.retry_count, j.created_at, j.finished_at
        from millstream.jobs_done as j
        where j.tenant_id = :tenant_id::int and j.id = g.id
        limit 1
    )
) as s
where :queues::text[] is null or s.queue = any(:queues::text[])
order by g.place;

-- name: count_jobs :many
-- Counts a tenant's jobs by state.
select a.state, count(*) as jobs
from millstream.all_jobs as a
where a.tenant_id = :tenant_id::int and (:queues::text[] is null or a.queue = any(:queues::text[]))
group by a.state;

-- name: find_labels :many
-- Finds the queue names (kind 1) and job types (kind 2) that contain a text, in any case.
select l.kind, l.label
from millstream.job_labels as l
where l.tenant_id = :tenant_id::int and l.label ilike :pattern::text;

-- name: list_jobs_newest :many
-- Reads a page of jobs, the newest first: by id, which begins with the time of creation.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and (:queues::text[] is null or a.queue = any(:queues::text[]))
    and (:queue::text is null or a.queue = :queue::text)
    and (:states::smallint[] is null or a.state = any(:states::smallint[]))
    and (:job_type::text is null or a.job_type = :job_type::text)
    and (:created_from::timestamptz is null or a.created_at >= :created_from::timestamptz)
    and (:created_before::timestamptz is null or a.created_at < :created_before::timestamptz)
    and (
        :id_from::uuid is null
        or a.id between :id_from::uuid and :id_to::uuid
        or a.queue = any(:queue_matches::text[])
        or a.job_type = any(:type_matches::text[])
    )
    and (:tag::text is null or a.tags::jsonb ? :tag::text)
order by a.id desc
limit :limit::int
offset :offset::int;

-- name: list_jobs_oldest :many
-- Reads a page of jobs, the oldest first: by id, which begins with the time of creation.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and (:queues::text[] is null or a.queue = any(:queues::text[]))
    and (:queue::text is null or a.queue = :queue::text)
    and (:states::smallint[] is null or a.state = any(:states::smallint[]))
    and (:job_type::text is null or a.job_type = :job_type::text)
    and (:created_from::timestamptz is null or a.created_at >= :created_from::timestamptz)
    and (:created_before::timestamptz is null or a.created_at < :created_before::timestamptz)
    and (
        :id_from::uuid is null
        or a.id between :id_from::uuid and :id_to::uuid
        or a.queue = any(:queue_matches::text[])
        or a.job_type = any(:type_matches::text[])
    )
    and (:tag::text is null or a.tags::jsonb ? :tag::text)
order by a.id
limit :limit::int
offset :offset::int;

-- name: list_jobs_sorted :many
-- Reads a page of jobs in an order that no index knows.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and (:queues::text[] is null or a.queue = any(:queues::text[]))
    and (:queue::text is null or a.queue = :queue::text)
    and (:states::smallint[] is null or a.state = any(:states::smallint[]))
    and (:job_type::text is null or a.job_type = :job_type::text)
    and (:created_from::timestamptz is null or a.created_at >= :created_from::timestamptz)
    and (:created_before::timestamptz is null or a.created_at < :created_before::timestamptz)
    and (
        :id_from::uuid is null
        or a.id between :id_from::uuid and :id_to::uuid
        or a.queue = any(:queue_matches::text[])
        or a.job_type = any(:type_matches::text[])
    )
    and (:tag::text is null or a.tags::jsonb ? :tag::text)
order by
    case when :descending::boolean then case :sort::int when 5 then a.priority when 6 then a.state when 8 then a.retry_count end end desc,
    case when not :descending::boolean then case :sort::int when 5 then a.priority when 6 then a.state when 8 then a.retry_count end end,
    case when :descending::boolean then case :sort::int when 2 then a.updated_at when 3 then a.run_at when 4 then case when a.state = 7 then a.finished_at end end end desc nulls last,
    case when not :descending::boolean then case :sort::int when 2 then a.updated_at when 3 then a.run_at when 4 then case when a.state = 7 then a.finished_at end end end nulls last,
    case when :descending::boolean and :sort::int = 7 then a.queue end desc,
    case when not :descending::boolean and :sort::int = 7 then a.queue end,
    case when :descending::boolean then a.id end desc,
    case when not :descending::boolean then a.id end
limit :limit::int
offset :offset::int;

-- name: list_job_events :many
-- Reads what happened to a job that its row cannot tell.
select e.id, e.kind, e.buried, e.worker_id, e.lease_id, e.claimed_at, e.at, e.error
from millstream.job_events as e
where e.tenant_id = :tenant_id::int and e.job_id = :job_id::uuid
order by e.at, e.id;

-- name: count_job_gauges :one
-- Counts what waits and what runs over all tenants, and the age of the oldest waiting job.
select
    count(*) filter (where j.state < 5) as pending,
    count(*) filter (where j.state = 5) as processing,
    coalesce(
        extract(epoch from coalesce(:now::timestamptz, now()) - min(j.created_at) filter (where j.state < 5)), 0
    )::float8 as oldest_seconds
from millstream.jobs as j;
