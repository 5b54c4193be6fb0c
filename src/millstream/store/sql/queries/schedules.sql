-- Schedules come first in the order of locks: before their tenant, whose plan decides, and the jobs that they create.

-- name: create_schedule :one
-- Creates a schedule. Its tenant's room was checked before.
insert into millstream.schedules as s (
    tenant_id, id, name, description, cron, timezone, queue, payload, job_type, priority, max_retries,
    timeout_seconds, tags, metadata, size_bytes, next_run_at, created_at, updated_at
)
values (
    :tenant_id::int, :id::uuid, :name::text, :description::text, :cron::text, :timezone::text, :queue::text,
    :payload::text, :job_type::text, :priority::smallint, :max_retries::smallint, :timeout_seconds::int, :tags::text,
    :metadata::text, :size_bytes::int, :next_run_at::timestamptz, coalesce(:now::timestamptz, now()),
    coalesce(:now::timestamptz, now())
)
returning
    s.id, s.name, s.description, s.cron, s.timezone, s.queue, s.payload, s.job_type, s.priority, s.max_retries,
    s.timeout_seconds, s.tags, s.metadata, s.is_active, s.last_run_at, s.next_run_at, s.run_count, s.created_at,
    s.updated_at;

-- name: list_schedules :many
-- Reads a page of schedules, the newest first. One that would be too large comes without templates, but with its size.
with page as materialized (
    select s.*
    from millstream.schedules as s
    where
        s.tenant_id = :tenant_id::int
        and (:queues::text[] is null or s.queue = any(:queues::text[]))
        and (:queue::text is null or s.queue = :queue::text)
        and (:is_active::boolean is null or s.is_active = :is_active::boolean)
    order by s.id desc
    limit :limit::int
    offset :offset::int
),
measured as materialized (
    select coalesce(sum(p.size_bytes), 0) <= :bytes_max::int as fits from page as p
)
select
    p.id, p.name, p.description, p.cron, p.timezone, p.queue, case when m.fits then p.payload else 'null' end as payload,
    p.job_type, p.priority, p.max_retries, p.timeout_seconds, case when m.fits then p.tags end as tags,
    case when m.fits then p.metadata end as metadata, p.is_active, p.last_run_at, p.next_run_at, p.run_count,
    p.created_at, p.updated_at, m.fits
from page as p
cross join measured as m
order by p.id desc;

-- name: find_schedule :one
-- Reads one schedule.
select
    s.id, s.name, s.description, s.cron, s.timezone, s.queue, s.payload, s.job_type, s.priority, s.max_retries,
    s.timeout_seconds, s.tags, s.metadata, s.is_active, s.last_run_at, s.next_run_at, s.run_count, s.created_at,
    s.updated_at
from millstream.schedules as s
where
    s.tenant_id = :tenant_id::int
    and s.id = :id::uuid
    and (:queues::text[] is null or s.queue = any(:queues::text[]));

-- name: lock_schedule :one
-- Holds a schedule that is about to be changed or to run.
select
    s.id, s.name, s.description, s.cron, s.timezone, s.queue, s.payload, s.job_type, s.priority, s.max_retries,
    s.timeout_seconds, s.tags, s.metadata, s.is_active, s.last_run_at, s.next_run_at, s.run_count, s.created_at,
    s.updated_at
from millstream.schedules as s
where
    s.tenant_id = :tenant_id::int
    and s.id = :id::uuid
    and (:queues::text[] is null or s.queue = any(:queues::text[]))
for update;

-- name: count_schedules :one
-- Counts a tenant's schedules, and those among them that are active.
select count(*) as total, count(*) filter (where s.is_active) as active
from millstream.schedules as s
where s.tenant_id = :tenant_id::int;

-- name: update_schedule :one
-- Changes what is given of a schedule, which is locked.
update millstream.schedules as s
set
    name = coalesce(:name::text, s.name),
    description = coalesce(:description::text, s.description),
    cron = coalesce(:cron::text, s.cron),
    timezone = coalesce(:timezone::text, s.timezone),
    payload = coalesce(:payload::text, s.payload),
    job_type = coalesce(:job_type::text, s.job_type),
    priority = coalesce(:priority::smallint, s.priority),
    max_retries = coalesce(:max_retries::smallint, s.max_retries),
    timeout_seconds = coalesce(:timeout_seconds::int, s.timeout_seconds),
    tags = coalesce(:tags::text, s.tags),
    metadata = coalesce(:metadata::text, s.metadata),
    size_bytes = :size_bytes::int,
    is_active = coalesce(:is_active::boolean, s.is_active),
    next_run_at = coalesce(:next_run_at::timestamptz, s.next_run_at),
    updated_at = coalesce(:now::timestamptz, now())
where s.tenant_id = :tenant_id::int and s.id = :id::uuid
returning
    s.id, s.name, s.description, s.cron, s.timezone, s.queue, s.payload, s.job_type, s.priority, s.max_retries,
    s.timeout_seconds, s.tags, s.metadata, s.is_active, s.last_run_at, s.next_run_at, s.run_count, s.created_at,
    s.updated_at;

-- name: delete_schedule :one
-- Deletes a schedule; its jobs stay.
delete from millstream.schedules as s
where
    s.tenant_id = :tenant_id::int
    and s.id = :id::uuid
    and (:queues::text[] is null or s.queue = any(:queues::text[]))
returning s.id;

-- name: forget_schedule_runs :exec
-- Deletes the newest runs of a schedule that was deleted. What is left nobody can read, and retention removes it.
with told as materialized (
    select r.tenant_id, r.id
    from millstream.schedule_runs as r
    where r.tenant_id = :tenant_id::int and r.schedule_id = :schedule_id::uuid
    order by r.id desc
    limit :limit::int
),
-- In the order in which retention takes them.
held as materialized (
    select r.tenant_id, r.id
    from told as t
    inner join millstream.schedule_runs as r on r.tenant_id = t.tenant_id and r.id = t.id
    order by r.tenant_id, r.id
    for update of r
)
delete from millstream.schedule_runs as r
using held as h
where r.tenant_id = h.tenant_id and r.id = h.id;

-- name: list_schedule_runs :many
-- Reads the newest runs of a schedule.
select r.id, r.schedule_id, r.status, r.job_id, r.error, r.started_at, r.finished_at
from millstream.schedule_runs as r
where r.tenant_id = :tenant_id::int and r.schedule_id = :schedule_id::uuid
order by r.id desc
limit :limit::int;

-- name: claim_due_schedules :many
-- Holds due schedules that nobody else holds until the transaction ends: whoever has one fires it, and moves its time.
-- As many come back as their templates have room for, the first one always; the others are let go again.
with due as materialized (
    select s.*
    from millstream.schedules as s
    where
        s.is_active
        and s.next_run_at <= coalesce(:now::timestamptz, now())
        and s.next_run_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
    order by s.next_run_at
    limit :limit::int
    for update skip locked
),
measured as materialized (
    select
        d.*,
        sum(d.size_bytes) over (order by d.next_run_at, d.tenant_id, d.id) - d.size_bytes as before_bytes
    from due as d
)
select
    d.tenant_id, d.id, d.name, d.description, d.cron, d.timezone, d.queue, d.payload, d.job_type, d.priority,
    d.max_retries, d.timeout_seconds, d.tags, d.metadata, d.is_active, d.last_run_at, d.next_run_at, d.run_count,
    d.created_at, d.updated_at, coalesce(:now::timestamptz, now()) as at, t.plan_tier, t.custom_limits,
    coalesce(t.is_active and t.deleted_at is null, false) as is_served
from measured as d
left join millstream.tenants as t on t.id = d.tenant_id
where d.before_bytes < :bytes_max::int
order by d.next_run_at, d.tenant_id, d.id;

-- name: claim_schedules :many
-- Holds those of some schedules that are still due and that nobody else holds, as claim_due_schedules does.
with due as materialized (
    select s.*
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
    inner join millstream.schedules as s on s.tenant_id = g.tenant_id and s.id = g.id
    where s.is_active and s.next_run_at <= coalesce(:now::timestamptz, now())
    order by s.tenant_id, s.id
    for update of s skip locked
)
select
    d.tenant_id, d.id, d.name, d.description, d.cron, d.timezone, d.queue, d.payload, d.job_type, d.priority,
    d.max_retries, d.timeout_seconds, d.tags, d.metadata, d.is_active, d.last_run_at, d.next_run_at, d.run_count,
    d.created_at, d.updated_at, coalesce(:now::timestamptz, now()) as at, t.plan_tier, t.custom_limits,
    coalesce(t.is_active and t.deleted_at is null, false) as is_served
from due as d
left join millstream.tenants as t on t.id = d.tenant_id;

-- name: record_schedule_runs :exec
-- Notes how runs of schedules went that are held, and when those run next; one that is to be paused is. Without a
-- status nothing ran; without a next time that stays as it is.
with given as materialized (
    select g.*
    from unnest(
        :tenant_ids::text::int[], :ids::text::uuid[], :statuses::text::smallint[], :job_ids::text::uuid[],
        :errors::text::text[], :next_run_ats::text::timestamptz[], :pauses::text::boolean[]
    ) as g (tenant_id, id, status, job_id, error, next_run_at, pauses)
),
ran as (
    insert into millstream.schedule_runs (
        tenant_id, id, schedule_id, status, job_id, error, started_at, finished_at
    )
    select
        g.tenant_id, millstream.new_id_at(coalesce(:now::timestamptz, now())), g.id, g.status, g.job_id, g.error,
        coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from given as g
    where g.status is not null
)
update millstream.schedules as s
set
    last_run_at = case when g.status = 3 then coalesce(:now::timestamptz, now()) else s.last_run_at end,
    run_count = s.run_count + case when g.status = 3 then 1 else 0 end,
    next_run_at = coalesce(g.next_run_at, s.next_run_at),
    is_active = s.is_active and not g.pauses
from given as g
where s.tenant_id = any(array[g.tenant_id]) and s.id = any(array[g.id]);

-- name: seconds_to_next_schedule :one
-- Tells in how many seconds the next schedule is due.
select extract(epoch from s.next_run_at - coalesce(:now::timestamptz, now()))::float8 as seconds
from millstream.schedules as s
where
    s.is_active
    and s.next_run_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
order by s.next_run_at
limit 1;

-- name: prune_schedule_runs :one
-- Deletes runs past their tenant's retention; tells how many.
with stale as materialized (
    select d.tenant_id, d.id
    from unnest(:tenant_ids::int[], :befores::timestamptz[]) as g (tenant_id, before)
    cross join lateral (
        select r.tenant_id, r.id
        from millstream.schedule_runs as r
        where r.tenant_id = g.tenant_id and r.id < millstream.first_id_at(g.before)
        order by r.id
        limit :limit::int
    ) as d
    limit :limit::int
),
removed as (
    delete from millstream.schedule_runs as r
    using stale as s
    where r.tenant_id = s.tenant_id and r.id = s.id
    returning 1
)
select count(*) as pruned from removed;
