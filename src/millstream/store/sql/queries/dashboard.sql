-- name: read_dashboard :one
-- Counts what a tenant's jobs and workers are doing and how they did lately. Ended jobs are read for the last day only: how many
-- there are in all is told by the totals, unless the credential reaches some queues only.
with recent as materialized (
    select
        count(*) as completed_24h,
        count(*) filter (
            where j.finished_at > coalesce(:now::timestamptz, now()) - interval '1 hour'
        ) as completed_1h,
        avg(extract(epoch from j.started_at - j.created_at) * 1000)::float8 as wait_ms,
        avg(extract(epoch from j.finished_at - j.started_at) * 1000)::float8 as processing_ms
    from millstream.jobs_done as j
    where
        j.tenant_id = :tenant_id::int
        and j.state = 7
        and j.finished_at > coalesce(:now::timestamptz, now()) - interval '24 hours'
        and (:queues::text[] is null or j.queue = any(:queues::text[]))
),
failed as materialized (
    select
        count(*) as failed_24h,
        count(*) filter (
            where j.updated_at > coalesce(:now::timestamptz, now()) - interval '1 hour'
        ) as failed_1h
    from millstream.jobs_dead as j
    where
        j.tenant_id = :tenant_id::int
        and j.updated_at > coalesce(:now::timestamptz, now()) - interval '24 hours'
        and (:queues::text[] is null or j.queue = any(:queues::text[]))
),
-- Ids begin with the time of creation; the hour covers clocks of processes that run behind the database's.
created as materialized (
    select count(*) as created_1h
    from millstream.all_jobs as j
    where
        j.tenant_id = :tenant_id::int
        and j.id > millstream.first_id_at(coalesce(:now::timestamptz, now()) - interval '2 hours')
        and j.created_at > coalesce(:now::timestamptz, now()) - interval '1 hour'
        and (:queues::text[] is null or j.queue = any(:queues::text[]))
)
select
    case
        when :queues::text[] is null then (
            select coalesce(sum(case t.kind when 1 then t.amount else -t.amount end), 0)
            from millstream.all_counters as t
            where t.tenant_id = :tenant_id::int and t.kind in (1, 6) and t.subject = ''
        )
        else (
            select count(*)
            from millstream.all_jobs as j
            where j.tenant_id = :tenant_id::int and j.queue = any(:queues::text[])
        )
    end::bigint as total,
    (
        select count(*)
        from millstream.jobs_dead as j
        where j.tenant_id = :tenant_id::int and (:queues::text[] is null or j.queue = any(:queues::text[]))
    ) as dead,
    r.completed_24h, r.completed_1h, r.wait_ms, r.processing_ms, f.failed_24h, f.failed_1h, c.created_1h,
    w.workers, w.healthy
from recent as r
cross join failed as f
cross join created as c
cross join (
    select count(*) as workers, count(*) filter (where w.status = 1) as healthy
    from millstream.workers as w
    where
        w.tenant_id = :tenant_id::int
        and w.last_heartbeat_at > coalesce(:now::timestamptz, now()) - interval '60 seconds'
        and (:queues::text[] is null or w.queue = any(:queues::text[]))
) as w;

-- name: list_dashboard_queues :many
-- Counts the waiting and running jobs of each queue that has any, and names queues whose jobs have all ended.
with alive as materialized (
    select
        j.queue,
        count(*) filter (where j.state in (1, 3, 4)) as pending,
        count(*) filter (where j.state = 5) as processing
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and (:queues::text[] is null or j.queue = any(:queues::text[]))
    group by j.queue
)
select
    n.name, coalesce(a.pending, 0) as pending, coalesce(a.processing, 0) as processing,
    not coalesce(q.enabled, true) as is_paused
from (
    select alive.queue as name from alive
    union
    (
        select l.label
        from millstream.job_labels as l
        where
            l.tenant_id = :tenant_id::int
            and l.kind = 1
            and (:queues::text[] is null or l.label = any(:queues::text[]))
        order by l.label
        limit :limit::int
    )
) as n
left join alive as a on a.queue = n.name
left join millstream.queues as q on q.tenant_id = :tenant_id::int and q.name = n.name
order by n.name;
