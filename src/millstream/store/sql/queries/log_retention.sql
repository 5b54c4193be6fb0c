-- name: list_log_starts :many
-- Reads, partition by partition, where its log begins once expired messages are gone, and if batches lie before its beginning.
select
    p.tenant_id, p.topic_id, p.partition, s.log_start, s.log_start > p.log_start as moves,
    exists (
        select
        from generate_series(1, 6) as l (lane)
        cross join lateral (
            select
            from millstream.record_batches as r
            where
                r.tenant_id = p.tenant_id
                and r.topic_id = p.topic_id
                and r.partition = p.partition
                and r.lane = l.lane
                and r.base_offset < p.log_start
            order by r.base_offset
            limit 1
        ) as b
    ) as has_rest
from (
    select q.tenant_id, q.topic_id, q.partition, q.log_start, t.retention_hours
    from millstream.partitions as q
    inner join millstream.topics as t on t.tenant_id = q.tenant_id and t.id = q.topic_id
    where
        (q.tenant_id, q.topic_id, q.partition)
        > (:after_tenant_id::int, :after_topic_id::int, :after_partition::int)
    order by q.tenant_id, q.topic_id, q.partition
    limit :limit::int
) as p
cross join lateral (
    select
        millstream.log_start_since(
            p.tenant_id, p.topic_id, p.partition,
            coalesce(:now::timestamptz, now()) - p.retention_hours * interval '1 hour'
        ) as log_start
) as s
order by p.tenant_id, p.topic_id, p.partition;

-- name: advance_log_starts :many
-- Lets the logs of partitions begin later, with what is counted by it.
with given as materialized (
    select g.*
    from unnest(
        :tenant_ids::int[], :topic_ids::int[], :partitions::int[], :log_starts::bigint[]
    ) as g (tenant_id, topic_id, partition, log_start)
),
held as materialized (
    select
        p.tenant_id, p.topic_id, p.partition, p.log_start as log_start_before, g.log_start, p.lane_nexts, p.delayed_counts
    from given as g
    inner join millstream.partitions as p
        on p.tenant_id = g.tenant_id and p.topic_id = g.topic_id and p.partition = g.partition
    where g.log_start > p.log_start
    order by p.tenant_id, p.topic_id, p.partition
    for update of p
),
measured as materialized (
    select h.tenant_id, h.topic_id, h.partition, h.log_start, s.lane_starts, c.delayed_counts
    from held as h
    cross join lateral (
        select array_agg(coalesce(r.lane_first, h.lane_nexts[l.lane]) order by l.lane) as lane_starts
        from generate_series(1, 6) as l (lane)
        left join lateral (
            select b.lane_first
            from millstream.record_batches as b
            where
                b.tenant_id = h.tenant_id
                and b.topic_id = h.topic_id
                and b.partition = h.partition
                and b.lane = l.lane
                and b.base_offset >= h.log_start
            order by b.base_offset
            limit 1
        ) as r on true
    ) as s
    cross join lateral (
        -- Cancelled ones were taken off when they were cancelled.
        select array_agg(h.delayed_counts[k.place] - g.messages + d.messages order by k.place) as delayed_counts
        from generate_series(1, 5) as k (place)
        cross join lateral (
            select coalesce(sum(b.priority_counts[k.place]), 0) as messages
            from millstream.record_batches as b
            where
                b.tenant_id = h.tenant_id
                and b.topic_id = h.topic_id
                and b.partition = h.partition
                and b.lane = 6
                and b.base_offset >= h.log_start_before
                and b.base_offset < h.log_start
        ) as g
        cross join lateral (
            select count(*) as messages
            from millstream.delayed_messages as m
            where
                m.tenant_id = h.tenant_id
                and m.topic_id = h.topic_id
                and m.partition = h.partition
                and m."offset" >= h.log_start_before
                and m."offset" < h.log_start
                and m.priority = k.place - 1
                and m.cancelled_at is not null
        ) as d
    ) as c
)
update millstream.partitions as p
set log_start = m.log_start, lane_starts = m.lane_starts, delayed_counts = m.delayed_counts
from measured as m
where p.tenant_id = m.tenant_id and p.topic_id = m.topic_id and p.partition = m.partition
returning p.topic_id;

-- name: prune_redeliveries :one
-- Forgets what groups are owed of messages that the log does not hold any more; tells how much.
with stale as materialized (
    select r.tenant_id, r.group_id, r.topic_id, r.partition, r."offset"
    from unnest(:tenant_ids::int[], :topic_ids::int[], :partitions::int[]) as g (tenant_id, topic_id, partition)
    inner join millstream.partitions as p
        on p.tenant_id = g.tenant_id and p.topic_id = g.topic_id and p.partition = g.partition
    inner join millstream.redeliveries as r
        on
            r.tenant_id = p.tenant_id
            and r.topic_id = p.topic_id
            and r.partition = p.partition
            and r."offset" < p.log_start
    limit :limit::int
    for update of r skip locked
),
removed as (
    delete from millstream.redeliveries as r
    using stale as s
    where
        r.tenant_id = s.tenant_id
        and r.group_id = s.group_id
        and r.topic_id = s.topic_id
        and r.partition = s.partition
        and r."offset" = s."offset"
    returning 1
)
select count(*) as pruned from removed;

-- name: prune_delayed_messages :one
-- Forgets cancelled messages that the log does not hold any more; tells how many.
with stale as materialized (
    select d.tenant_id, d.topic_id, d.partition, d."offset"
    from unnest(:tenant_ids::int[], :topic_ids::int[], :partitions::int[]) as g (tenant_id, topic_id, partition)
    inner join millstream.partitions as p
        on p.tenant_id = g.tenant_id and p.topic_id = g.topic_id and p.partition = g.partition
    inner join millstream.delayed_messages as d
        on
            d.tenant_id = p.tenant_id
            and d.topic_id = p.topic_id
            and d.partition = p.partition
            and d."offset" < p.log_start
    where d.cancelled_at is not null
    limit :limit::int
    for update of d skip locked
),
removed as (
    delete from millstream.delayed_messages as d
    using stale as s
    where
        d.tenant_id = s.tenant_id
        and d.topic_id = s.topic_id
        and d.partition = s.partition
        and d."offset" = s."offset"
    returning 1
)
select count(*) as pruned from removed;

-- name: prune_record_batches :one
-- Deletes batches that lie before the beginning of their log, but for those from the lowest leased message on: who holds it may
-- have it delivered again. Tells how many.
with kept as materialized (
    select p.tenant_id, p.topic_id, p.partition, least(p.log_start, min(d.lowest_leased)) as before
    from unnest(:tenant_ids::int[], :topic_ids::int[], :partitions::int[]) as g (tenant_id, topic_id, partition)
    inner join millstream.partitions as p
        on p.tenant_id = g.tenant_id and p.topic_id = g.topic_id and p.partition = g.partition
    left join millstream.group_partitions as o
        on o.tenant_id = p.tenant_id and o.topic_id = p.topic_id and o.partition = p.partition
    left join lateral (
        select e.lowest_leased
        from millstream.deliveries as e
        where
            e.tenant_id = o.tenant_id
            and e.group_id = o.group_id
            and e.topic_id = o.topic_id
            and e.partition = o.partition
            and e.finished_at is null
        order by e.lowest_leased
        limit 1
    ) as d on true
    group by p.tenant_id, p.topic_id, p.partition
),
stale as materialized (
    select b.tenant_id, b.topic_id, b.partition, b.lane, b.base_offset
    from kept as k
    cross join generate_series(1, 6) as l (lane)
    cross join lateral (
        select r.tenant_id, r.topic_id, r.partition, r.lane, r.base_offset
        from millstream.record_batches as r
        where
            r.tenant_id = k.tenant_id
            and r.topic_id = k.topic_id
            and r.partition = k.partition
            and r.lane = l.lane
            and r.base_offset < k.before
            and r.last_offset < k.before
        order by r.base_offset
        limit :limit::int
    ) as b
    limit :limit::int
),
removed as (
    delete from millstream.record_batches as r
    using stale as s
    where
        r.tenant_id = s.tenant_id
        and r.topic_id = s.topic_id
        and r.partition = s.partition
        and r.lane = s.lane
        and r.base_offset = s.base_offset
    returning r.tenant_id, r.topic_id, r.partition, length(r.records) as stored_bytes
),
freed as materialized (
    select d.tenant_id, d.topic_id, d.partition, sum(d.stored_bytes) as stored_bytes
    from removed as d
    group by d.tenant_id, d.topic_id, d.partition
),
held as materialized (
    select p.tenant_id, p.topic_id, p.partition, f.stored_bytes
    from freed as f
    inner join millstream.partitions as p
        on p.tenant_id = f.tenant_id and p.topic_id = f.topic_id and p.partition = f.partition
    order by p.tenant_id, p.topic_id, p.partition
    for update of p
),
smaller as (
    update millstream.partitions as p
    set size_bytes = p.size_bytes - h.stored_bytes
    from held as h
    where p.tenant_id = h.tenant_id and p.topic_id = h.topic_id and p.partition = h.partition
)
select count(*) as pruned from removed;

-- name: list_deleted_topics :many
-- Reads which topics are deleted and may have rows left.
select t.tenant_id, t.id
from millstream.topics as t
where t.deleted_at is not null
order by t.deleted_at
limit :limit::int;

-- name: remove_topic_rows :one
-- Deletes rows of a deleted topic, up to a number from each table; tells how many.
with batches as (
    delete from millstream.record_batches as r
    where
        r.tenant_id = :tenant_id::int
        and r.ctid = any(array(
            select b.ctid
            from millstream.record_batches as b
            where b.tenant_id = :tenant_id::int and b.topic_id = :topic_id::int
            limit :limit::int
        ))
    returning 1
),
delayed as (
    delete from millstream.delayed_messages as r
    where
        r.tenant_id = :tenant_id::int
        and r.ctid = any(array(
            select b.ctid
            from millstream.delayed_messages as b
            where b.tenant_id = :tenant_id::int and b.topic_id = :topic_id::int
            limit :limit::int
        ))
    returning 1
),
owed as (
    delete from millstream.redeliveries as r
    where
        r.tenant_id = :tenant_id::int
        and r.ctid = any(array(
            select b.ctid
            from millstream.redeliveries as b
            where b.tenant_id = :tenant_id::int and b.topic_id = :topic_id::int
            limit :limit::int
        ))
    returning 1
),
delivered as (
    delete from millstream.deliveries as r
    where
        r.tenant_id = :tenant_id::int
        and r.ctid = any(array(
            select b.ctid
            from millstream.consumer_groups as g
            inner join millstream.deliveries as b
                on b.tenant_id = g.tenant_id and b.group_id = g.id and b.topic_id = :topic_id::int
            where g.tenant_id = :tenant_id::int
            limit :limit::int
        ))
    returning 1
),
positions as (
    delete from millstream.group_partitions as r
    where
        r.tenant_id = :tenant_id::int
        and r.ctid = any(array(
            select b.ctid
            from millstream.group_partitions as b
            where b.tenant_id = :tenant_id::int and b.topic_id = :topic_id::int
            limit :limit::int
        ))
    returning 1
),
keys as (
    delete from millstream.publish_keys as r
    where
        r.tenant_id = :tenant_id::int
        and r.ctid = any(array(
            select b.ctid
            from millstream.publish_keys as b
            where b.tenant_id = :tenant_id::int and b.topic_id = :topic_id::int
            limit :limit::int
        ))
    returning 1
)
select
    (select count(*) from batches) + (select count(*) from delayed) + (select count(*) from owed)
    + (select count(*) from delivered) + (select count(*) from positions) + (select count(*) from keys) as removed;

-- name: forget_topic :exec
-- Removes what is left of a deleted topic: its row.
delete from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.id = :topic_id::int and t.deleted_at is not null;
