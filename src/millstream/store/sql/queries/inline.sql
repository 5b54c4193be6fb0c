-- name: take_inline_jobs :many
-- Takes note of jobs that callers committed by themselves: their labels and totals; returns them for events and webhooks.
with taken as materialized (
    delete from millstream.inline_jobs as i
    using (
        select n.tenant_id, n.id
        from millstream.inline_jobs as n
        order by n.tenant_id, n.id
        limit :limit::int
        for update skip locked
    ) as n
    where i.tenant_id = any(array[n.tenant_id]) and i.id = any(array[n.id])
    returning i.tenant_id, i.id, i.queue, i.job_type, i.created_at, i.run_at
),
labelled as (
    insert into millstream.job_labels (tenant_id, kind, label)
    select distinct l.tenant_id, l.kind, l.label
    from (
        select t.tenant_id, 1 as kind, t.queue as label from taken as t
        union all
        select t.tenant_id, 2, t.job_type from taken as t where t.job_type <> ''
    ) as l
    order by l.tenant_id, l.kind, l.label
    on conflict do nothing
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select t.tenant_id, 1, '', (t.created_at at time zone 'UTC')::date, count(*)
    from taken as t
    group by t.tenant_id, (t.created_at at time zone 'UTC')::date
)
select t.tenant_id, t.id, t.queue, coalesce(t.run_at > t.created_at, false) as delayed
from taken as t
order by t.tenant_id, t.id;

-- name: lock_staged_messages :one
-- Lets one process at a time append what is staged: two would mix up its order.
select pg_try_advisory_xact_lock(hashtextextended('millstream.staged_messages', 0)) as locked;

-- name: take_staged_messages :many
-- Takes the first of the messages that callers committed, in the order in which they were published; those of topics that are gone
-- come without one.
with taken as (
    delete from millstream.staged_messages as s
    using (
        select n.id
        from millstream.staged_messages as n
        order by n.id
        limit :limit::int
    ) as n
    where s.id = any(array[n.id])
    returning s.tenant_id, s.id, s.topic_id, s.value, s.key, s.headers, s.partition, s.priority, s.deliver_at
)
select
    w.id, w.value, w.key, w.headers, w.partition, w.priority, w.deliver_at,
    t.tenant_id, t.id as topic_id, t.name, t.partitions, t.retention_hours, t.created_at
from taken as w
left join millstream.topics as t on t.tenant_id = w.tenant_id and t.id = w.topic_id and t.deleted_at is null
order by w.id;
