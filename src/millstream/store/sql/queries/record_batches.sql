-- Rows of `partitions` are locked in the order of their keys, after everything else that a transaction locks.

-- name: append_record_batches :many
-- Appends messages to partitions and tells where each partition's begin. A partition that is gone is left out.
-- What is appended to one partition gets its offsets in one piece; `first_places`, `last_places` and `lane_places` count from
-- its beginning. Beginnings are looked up in arrays: joined, every row would be compared with every partition.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
given as materialized (
    select g.*
    from batch
    cross join unnest(
        :tenant_ids::text::int[],
        :topic_ids::text::int[],
        :partitions::text::int[],
        :counts::text::int[],
        :size_bytes::text::bigint[],
        :criticals::text::int[],
        :highs::text::int[],
        :normals::text::int[],
        :lows::text::int[],
        :backgrounds::text::int[],
        :delayeds::text::int[],
        :delayed_counts::text::text[]
    ) with ordinality as g (
        tenant_id, topic_id, partition, count, size_bytes, critical, high, normal, low, background, delayed, delayed_counts,
        place
    )
),
held as materialized (
    select
        g.*, p.next_offset, p.lane_nexts,
        greatest(p.last_published_at, coalesce(:now::timestamptz, now())) as published_at
    from given as g
    inner join millstream.partitions as p
        on
            p.tenant_id = any(array[g.tenant_id])
            and p.topic_id = any(array[g.topic_id])
            and p.partition = any(array[g.partition])
    order by p.tenant_id, p.topic_id, p.partition
    for update of p
),
advanced as (
    update millstream.partitions as p
    set
        next_offset = h.next_offset + h.count,
        lane_nexts = array[
            h.lane_nexts[1] + h.critical, h.lane_nexts[2] + h.high, h.lane_nexts[3] + h.normal, h.lane_nexts[4] + h.low,
            h.lane_nexts[5] + h.background, h.lane_nexts[6] + h.delayed
        ],
        size_bytes = p.size_bytes + h.size_bytes,
        delayed_counts = case
            when h.delayed = 0 then p.delayed_counts
            else millstream.added(p.delayed_counts, h.delayed_counts::bigint[])
        end,
        delayed_pending = p.delayed_pending + h.delayed,
        last_published_at = h.published_at
    from held as h
    where
        p.tenant_id = any(array[h.tenant_id])
        and p.topic_id = any(array[h.topic_id])
        and p.partition = any(array[h.partition])
),
begun as materialized (
    select
        array_agg(coalesce(h.next_offset, -1) order by g.place) as bases,
        array_agg(coalesce(h.lane_nexts, '{0,0,0,0,0,0}') order by g.place) as lane_bases,
        array_agg(coalesce(h.published_at, '-infinity') order by g.place) as times
    from given as g
    left join held as h on h.place = g.place
),
stored as (
    insert into millstream.record_batches (
        tenant_id, topic_id, partition, lane, base_offset, last_offset, lane_first, record_count, published_at,
        last_deliver_at, priority_counts, batch_id, codec, size_bytes, offsets, records
    )
    select
        r.tenant_id, r.topic_id, r.partition, r.lane, b.bases[r.place] + r.first_place, b.bases[r.place] + r.last_place,
        b.lane_bases[r.place][r.lane] + r.lane_place, r.record_count, b.times[r.place], r.last_deliver_at,
        r.priority_counts::bigint[], :batch_id::bigint, r.codec, r.size_bytes, r.offsets, r.records
    from begun as b
    cross join unnest(
        :row_places::text::int[],
        :row_tenant_ids::text::int[],
        :row_topic_ids::text::int[],
        :row_partitions::text::int[],
        :row_lanes::text::smallint[],
        :first_places::text::int[],
        :last_places::text::int[],
        :lane_places::text::int[],
        :record_counts::text::int[],
        :last_deliver_ats::text::timestamptz[],
        :priority_counts::text::text[],
        :codecs::text::smallint[],
        :row_size_bytes::text::int[],
        :offsets::bytea[],
        :records::bytea[]
    ) as r (
        place, tenant_id, topic_id, partition, lane, first_place, last_place, lane_place, record_count, last_deliver_at,
        priority_counts, codec, size_bytes, offsets, records
    )
    where b.bases[r.place] >= 0
),
hidden as (
    insert into millstream.delayed_messages (
        tenant_id, topic_id, partition, "offset", priority, published_at, deliver_at
    )
    select d.tenant_id, d.topic_id, d.partition, b.bases[d.place] + d.rank, d.priority, b.times[d.place], d.deliver_at
    from begun as b
    cross join unnest(
        :delayed_places::text::int[],
        :delayed_tenant_ids::text::int[],
        :delayed_topic_ids::text::int[],
        :delayed_partitions::text::int[],
        :delayed_ranks::text::int[],
        :delayed_priorities::text::smallint[],
        :deliver_ats::text::timestamptz[]
    ) as d (place, tenant_id, topic_id, partition, rank, priority, deliver_at)
    where b.bases[d.place] >= 0
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select h.tenant_id, 40, '', (h.published_at at time zone 'UTC')::date, sum(h.delayed)
    from held as h
    where h.delayed > 0
    group by h.tenant_id, (h.published_at at time zone 'UTC')::date
)
select h.place::int as place, h.next_offset as base_offset
from held as h;

-- name: find_appended :many
-- Finds where a batch's messages begin in their partitions, by the first row that it stored in each. Any that came after it
-- stand before it in the walk, which is bounded.
select g.place, r.base_offset
from unnest(
    :places::int[], :tenant_ids::int[], :topic_ids::int[], :partitions::int[], :lanes::smallint[]
) as g (place, tenant_id, topic_id, partition, lane)
cross join lateral (
    select n.base_offset, n.batch_id
    from millstream.record_batches as n
    where n.tenant_id = g.tenant_id and n.topic_id = g.topic_id and n.partition = g.partition and n.lane = g.lane
    order by n.base_offset desc
    limit :limit::int
) as r
where r.batch_id = :batch_id::bigint
order by g.place, r.base_offset;

-- name: read_record_batches :many
-- Reads the batches of a stretch of a partition, in all its lanes, with how far the partition reaches. The stretch begins
-- at an offset that the log holds and is `limit` offsets long; past `bytes_max` only the outlines of batches are read.
with reach as materialized (
    select
        p.tenant_id, p.topic_id, p.partition, coalesce(:now::timestamptz, now()) as at,
        greatest(
            :offset::bigint, p.log_start,
            case
                when :from_time::timestamptz is not null
                    then millstream.first_offset_since(p.tenant_id, p.topic_id, p.partition, :from_time::timestamptz)
            end
        ) as begins,
        least(
            coalesce(p.stable_offset, p.next_offset),
            case
                when :to_time::timestamptz is not null
                    then millstream.first_offset_since(p.tenant_id, p.topic_id, p.partition, :to_time::timestamptz)
            end
        ) as ends
    from millstream.partitions as p
    where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int and p.partition = :partition::int
)
select
    h.at, h.begins, h.ends, r.lane, r.base_offset, r.last_offset, r.record_count, r.published_at, r.transaction_state, r.codec,
    r.size_bytes, r.offsets, r.records
from reach as h
left join lateral (
    select
        m.lane, m.base_offset, m.last_offset, m.record_count, m.published_at, m.transaction_state, m.codec, m.size_bytes,
        m.offsets,
        case
            when sum(m.size_bytes) over (order by m.base_offset) - m.size_bytes < :bytes_max::bigint then m.records
        end as records
    from (
        select
            b.lane, b.base_offset, b.last_offset, b.record_count, b.published_at, b.transaction_state, b.codec, b.size_bytes,
            b.offsets, b.records
        from generate_series(1, 6) as l (lane)
        cross join lateral (
            (
                select f.*
                from millstream.record_batches as f
                where
                    f.tenant_id = h.tenant_id
                    and f.topic_id = h.topic_id
                    and f.partition = h.partition
                    and f.lane = l.lane
                    and f.base_offset <= h.begins
                order by f.base_offset desc
                limit 1
            )
            union all
            (
                select n.*
                from millstream.record_batches as n
                where
                    n.tenant_id = h.tenant_id
                    and n.topic_id = h.topic_id
                    and n.partition = h.partition
                    and n.lane = l.lane
                    and n.base_offset > h.begins
                    and n.base_offset < least(h.begins + :limit::int, h.ends)
                order by n.base_offset
            )
        ) as b
        where b.last_offset >= h.begins and h.begins < h.ends
    ) as m
) as r on true
order by r.lane, r.base_offset;
