-- What is counted of messages and deliveries, for one tenant.

-- name: sum_message_counters :many
-- Sums a tenant's totals of deliveries, by kind and subject.
select c.kind, c.subject, sum(c.amount)::bigint as amount
from millstream.all_counters as c
where c.tenant_id = :tenant_id::int and c.kind between 50 and 60
group by c.kind, c.subject;

-- name: count_current_deliveries :one
-- Counts what a tenant's groups hold leased, what waits to be delivered again, and what dead-letter topics retain.
select
    (
        select coalesce(sum(d.leased), 0)
        from millstream.deliveries as d
        where d.tenant_id = :tenant_id::int and d.finished_at is null
    )::bigint as in_flight,
    (
        select count(*)
        from millstream.redeliveries as r
        where r.tenant_id = :tenant_id::int and r.attempt > 0
    ) as queued,
    (
        select coalesce(sum(s.next_offset - s.log_start), 0)
        from millstream.topics as t
        inner join millstream.partitions as s on s.tenant_id = t.tenant_id and s.topic_id = t.id
        where t.tenant_id = :tenant_id::int and t.deleted_at is null and right(t.name, length(:suffix::text)) = :suffix::text
    )::bigint as dead_letters;

-- name: list_partition_priorities :many
-- Lists what partitions retain of each priority, how much of it the group that is furthest has settled, and since when the
-- first of the rest waits.
select
    t.name as topic, s.partition, array_agg(l.total order by l.lane) as total, array_agg(l.consumed order by l.lane) as consumed,
    array_agg(l.oldest_at order by l.lane) as oldest_at
from millstream.topics as t
inner join millstream.partitions as s on s.tenant_id = t.tenant_id and s.topic_id = t.id
cross join lateral (
    select
        n.lane,
        s.lane_nexts[n.lane] - s.lane_starts[n.lane] + s.delayed_counts[n.lane] as total,
        least(coalesce(g.consumed, 0), s.lane_nexts[n.lane] - s.lane_starts[n.lane]) as consumed,
        (
            select b.published_at
            from millstream.record_batches as b
            where
                b.tenant_id = s.tenant_id and b.topic_id = s.topic_id and b.partition = s.partition and b.lane = n.lane
                and b.base_offset >= coalesce(g.base, 0)
            order by b.base_offset
            limit 1
        ) as oldest_at
    from generate_series(1, 5) as n (lane)
    left join lateral (
        select
            max(greatest(0, p.lane_seqs[n.lane] - s.lane_starts[n.lane] - h.leased - o.owed)) as consumed,
            max(p.lane_bases[n.lane]) filter (where p.lane_seqs[n.lane] >= 0) as base
        from millstream.group_partitions as p
        cross join lateral (
            select coalesce(sum(d.leased), 0) as leased
            from millstream.deliveries as d
            where
                d.tenant_id = p.tenant_id and d.group_id = p.group_id and d.topic_id = p.topic_id
                and d.partition = p.partition and d.finished_at is null and d.lane = n.lane
        ) as h
        cross join lateral (
            select count(*) as owed
            from millstream.redeliveries as r
            where
                r.tenant_id = p.tenant_id and r.group_id = p.group_id and r.topic_id = p.topic_id
                and r.partition = p.partition and r.lane = n.lane and r.attempt > 0
        ) as o
        where p.tenant_id = s.tenant_id and p.topic_id = s.topic_id and p.partition = s.partition
    ) as g on true
) as l
where t.tenant_id = :tenant_id::int and t.deleted_at is null
group by t.name, s.partition
order by t.name, s.partition;
