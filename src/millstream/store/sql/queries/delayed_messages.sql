-- name: get_pending_counts :many
-- Reads how many messages of each partition wait to be delivered, as far as they are counted, and the time.
select p.partition, p.delayed_pending, coalesce(:now::timestamptz, now()) as at
from millstream.partitions as p
where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int;

-- name: find_cancelled :many
-- Tells which of the given messages of a partition are cancelled.
select d."offset"
from millstream.delayed_messages as d
where
    d.tenant_id = :tenant_id::int
    and d.topic_id = :topic_id::int
    and d.partition = :partition::int
    and d."offset" = any(:offsets::bigint[])
    and d.cancelled_at is not null;

-- name: hold_cancelled :many
-- Tells which of the given messages of a partition are cancelled, once cancellations that are under way have ended.
select d."offset", d.cancelled_at is not null as cancelled
from millstream.delayed_messages as d
where
    d.tenant_id = :tenant_id::int
    and d.topic_id = :topic_id::int
    and d.partition = :partition::int
    and d."offset" = any(:offsets::bigint[])
order by d."offset"
for share;

-- name: list_delayed_messages :many
-- Lists what waits to be delivered in a topic, the next one first.
select d.partition, d."offset", d.priority, d.published_at, d.deliver_at, coalesce(:now::timestamptz, now()) as at
from millstream.delayed_messages as d
where
    d.tenant_id = :tenant_id::int
    and d.topic_id = :topic_id::int
    and d.cancelled_at is null
    and d.deliver_at > coalesce(:now::timestamptz, now())
order by d.deliver_at, d.partition, d."offset"
limit :limit::int
offset :skip::int;

-- name: find_delayed_message :one
-- Finds what waits at an offset, in the first partition that has such a message unless one is given.
select d.partition, d."offset", d.priority, d.published_at, d.deliver_at, coalesce(:now::timestamptz, now()) as at
from millstream.partitions as p
cross join lateral (
    select m.partition, m."offset", m.priority, m.published_at, m.deliver_at
    from millstream.delayed_messages as m
    where
        m.tenant_id = p.tenant_id
        and m.topic_id = p.topic_id
        and m.partition = p.partition
        and m."offset" = :offset::bigint
        and m.cancelled_at is null
        and m.deliver_at > coalesce(:now::timestamptz, now())
) as d
where
    p.tenant_id = :tenant_id::int
    and p.topic_id = :topic_id::int
    and (:partition::int is null or p.partition = :partition::int)
order by p.partition
limit 1;

-- name: hold_group_positions :many
-- Holds what groups know of a partition until the transaction ends: none of them is handed anything of it meanwhile.
select p.group_id
from millstream.group_partitions as p
where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int and p.partition = :partition::int
order by p.group_id
for update;

-- name: cancel_delayed_message :one
-- Cancels a message that is not due yet, by the clock and not by the transaction's beginning: it may have waited for locks.
-- What groups were owed of it is forgotten. No row comes back when it was due, cancelled or never delayed.
with cancelled as (
    update millstream.delayed_messages as d
    set cancelled_at = coalesce(:now::timestamptz, clock_timestamp())
    where
        d.tenant_id = :tenant_id::int
        and d.topic_id = :topic_id::int
        and d.partition = :partition::int
        and d."offset" = :offset::bigint
        and d.cancelled_at is null
        and d.deliver_at > coalesce(:now::timestamptz, clock_timestamp())
    returning d.tenant_id, d.topic_id, d.partition, d."offset", d.priority, d.cancelled_at
),
forgotten as (
    delete from millstream.redeliveries as r
    using cancelled as c
    where
        r.tenant_id = c.tenant_id
        and r.topic_id = c.topic_id
        and r.partition = c.partition
        and r."offset" = c."offset"
        and r.attempt = 0
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select c.tenant_id, 42, '', (c.cancelled_at at time zone 'UTC')::date, 1
    from cancelled as c
)
update millstream.partitions as p
set
    delayed_pending = p.delayed_pending - 1,
    delayed_counts[c.priority + 1] = p.delayed_counts[c.priority + 1] - 1
from cancelled as c
where p.tenant_id = c.tenant_id and p.topic_id = c.topic_id and p.partition = c.partition
returning p.partition;

-- name: fold_delivered_messages :many
-- Forgets messages that have become due, counted as delivered; tells in which topics they are, and how many.
with due as materialized (
    select d.tenant_id, d.topic_id, d.partition, d."offset", d.published_at, d.deliver_at
    from millstream.delayed_messages as d
    where
        d.cancelled_at is null
        and d.deliver_at <= coalesce(:now::timestamptz, now())
        and d.deliver_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
    order by d.deliver_at
    limit :limit::int
    for update skip locked
),
forgotten as (
    delete from millstream.delayed_messages as d
    using due as g
    where
        d.tenant_id = any(array[g.tenant_id])
        and d.topic_id = any(array[g.topic_id])
        and d.partition = any(array[g.partition])
        and d."offset" = any(array[g."offset"])
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select s.tenant_id, k.kind, '', s.day, case k.kind when 41 then s.messages else s.delay_ms end
    from (
        select
            g.tenant_id, (g.deliver_at at time zone 'UTC')::date as day, count(*) as messages,
            sum((extract(epoch from g.deliver_at - g.published_at) * 1000)::bigint) as delay_ms
        from due as g
        group by g.tenant_id, (g.deliver_at at time zone 'UTC')::date
    ) as s
    cross join (values (41), (43)) as k (kind)
),
fewer as materialized (
    select g.tenant_id, g.topic_id, g.partition, count(*) as messages
    from due as g
    group by g.tenant_id, g.topic_id, g.partition
),
held as materialized (
    select p.tenant_id, p.topic_id, p.partition, f.messages
    from fewer as f
    inner join millstream.partitions as p
        on
            p.tenant_id = any(array[f.tenant_id])
            and p.topic_id = any(array[f.topic_id])
            and p.partition = any(array[f.partition])
    order by p.tenant_id, p.topic_id, p.partition
    for update of p
),
eased as (
    update millstream.partitions as p
    set delayed_pending = p.delayed_pending - h.messages
    from held as h
    where
        p.tenant_id = any(array[h.tenant_id])
        and p.topic_id = any(array[h.topic_id])
        and p.partition = any(array[h.partition])
)
select f.tenant_id, f.topic_id, sum(f.messages)::int as messages
from fewer as f
group by f.tenant_id, f.topic_id;

-- name: seconds_to_next_delivery :one
-- Tells when the next delayed message becomes due.
select
    greatest(extract(epoch from d.deliver_at - coalesce(:now::timestamptz, clock_timestamp())), 0)::float8 as seconds
from millstream.delayed_messages as d
where
    d.cancelled_at is null
    and d.deliver_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
order by d.deliver_at
limit 1;

-- name: count_delayed_messages :one
-- Reads totals of a tenant's delayed messages, with those that are due and not counted yet.
with uncounted as (
    select
        count(*) as messages,
        coalesce(sum((extract(epoch from d.deliver_at - d.published_at) * 1000)::bigint), 0) as delay_ms
    from millstream.topics as t
    inner join millstream.delayed_messages as d on d.tenant_id = t.tenant_id and d.topic_id = t.id
    where
        t.tenant_id = :tenant_id::int
        and t.deleted_at is null
        and d.cancelled_at is null
        and d.deliver_at <= coalesce(:now::timestamptz, now())
),
totals as (
    select c.kind, sum(c.amount) as amount
    from millstream.all_counters as c
    where c.tenant_id = :tenant_id::int and c.kind between 40 and 43 and c.subject = ''
    group by c.kind
)
select
    coalesce((select t.amount from totals as t where t.kind = 40), 0)::bigint as scheduled,
    (coalesce((select t.amount from totals as t where t.kind = 41), 0) + u.messages)::bigint as delivered,
    coalesce((select t.amount from totals as t where t.kind = 42), 0)::bigint as cancelled,
    (coalesce((select t.amount from totals as t where t.kind = 43), 0) + u.delay_ms)::bigint as delay_ms
from uncounted as u;

-- name: count_pending_messages :many
-- Reads how many messages of each topic wait to be delivered, those that are due and not counted yet taken off.
select t.name, (p.pending - d.due)::bigint as pending
from millstream.topics as t
cross join lateral (
    select coalesce(sum(q.delayed_pending), 0) as pending
    from millstream.partitions as q
    where q.tenant_id = t.tenant_id and q.topic_id = t.id
) as p
cross join lateral (
    select count(*) as due
    from millstream.delayed_messages as m
    where
        m.tenant_id = t.tenant_id
        and m.topic_id = t.id
        and m.cancelled_at is null
        and m.deliver_at <= coalesce(:now::timestamptz, now())
) as d
where t.tenant_id = :tenant_id::int and t.deleted_at is null and p.pending > 0
order by t.name collate "C";
