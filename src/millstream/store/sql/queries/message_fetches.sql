-- name: fetch_batches :many
-- Fetches what lies after positions in lanes, up to a lane sequence each, until the whole holds so many bytes. The first of
-- all comes however large it is.
with wanted as materialized (
    select
        w.number, r.lane, r.base_offset, r.lane_first,
        sum(r.size_bytes) over (order by w.number, r.base_offset) - r.size_bytes as bytes_before,
        w.tenant_id, w.topic_id, w.partition
    from unnest(
        :tenant_ids::int[], :topic_ids::int[], :partitions::int[], :lanes::smallint[], :bases::bigint[], :ends::bigint[],
        :seq_ends::bigint[], :row_limits::int[]
    ) with ordinality as w (tenant_id, topic_id, partition, lane, base, end_offset, seq_end, row_limit, number)
    cross join lateral (
        select b.lane, b.base_offset, b.lane_first, b.size_bytes
        from millstream.record_batches as b
        where
            b.tenant_id = w.tenant_id and b.topic_id = w.topic_id and b.partition = w.partition and b.lane = w.lane
            and b.base_offset >= w.base and b.base_offset < w.end_offset
        order by b.base_offset
        limit w.row_limit
    ) as r
    where r.lane_first < w.seq_end
)
select
    w.number, b.base_offset, b.last_offset, b.lane_first, b.record_count, b.published_at, b.transaction_state, b.codec,
    b.offsets, b.records
from wanted as w
inner join millstream.record_batches as b
    on
        b.tenant_id = w.tenant_id and b.topic_id = w.topic_id and b.partition = w.partition and b.lane = w.lane
        and b.base_offset = w.base_offset
where w.bytes_before < :bytes_max::bigint
order by w.number, b.base_offset;

-- name: find_lane_heads :many
-- Tells when the first message after each position was published.
select w.number, b.published_at
from unnest(
    :tenant_ids::int[], :topic_ids::int[], :partitions::int[], :lanes::smallint[], :bases::bigint[], :ends::bigint[]
) with ordinality as w (tenant_id, topic_id, partition, lane, base, end_offset, number)
cross join lateral (
    select r.published_at
    from millstream.record_batches as r
    where
        r.tenant_id = w.tenant_id and r.topic_id = w.topic_id and r.partition = w.partition and r.lane = w.lane
        and r.base_offset >= w.base and r.base_offset < w.end_offset
    order by r.base_offset
    limit 1
) as b;

-- name: find_positions :many
-- Finds, for positions that are known by their offset only, the last batch of each lane that does not begin behind it.
select w.number, l.lane, b.base_offset, b.last_offset, b.lane_first, b.record_count, b.offsets
from unnest(:tenant_ids::int[], :topic_ids::int[], :partitions::int[], :positions::bigint[])
with ordinality as w (tenant_id, topic_id, partition, "position", number)
cross join generate_series(1, 6) as l (lane)
cross join lateral (
    select r.base_offset, r.last_offset, r.lane_first, r.record_count, r.offsets
    from millstream.record_batches as r
    where
        r.tenant_id = w.tenant_id and r.topic_id = w.topic_id and r.partition = w.partition and r.lane = l.lane
        and r.base_offset <= w."position"
    order by r.base_offset desc
    limit 1
) as b;

-- name: fetch_messages :many
-- Fetches the batches in which messages may lie, each once with the numbers of its messages: one that was delayed lies in
-- lane 6, whatever its priority. What is more than so many bytes comes without its records.
with located as materialized (
    select w.number, w.tenant_id, w.topic_id, w.partition, b.lane, b.base_offset, b.size_bytes
    from unnest(:tenant_ids::int[], :topic_ids::int[], :partitions::int[], :lanes::smallint[], :offsets::bigint[])
    with ordinality as w (tenant_id, topic_id, partition, lane, "offset", number)
    cross join lateral (
        (
            select r.lane, r.base_offset, r.last_offset, r.size_bytes
            from millstream.record_batches as r
            where
                r.tenant_id = w.tenant_id and r.topic_id = w.topic_id and r.partition = w.partition and r.lane = w.lane
                and r.base_offset <= w."offset"
            order by r.base_offset desc
            limit 1
        )
        union all
        (
            select r.lane, r.base_offset, r.last_offset, r.size_bytes
            from millstream.record_batches as r
            where
                r.tenant_id = w.tenant_id and r.topic_id = w.topic_id and r.partition = w.partition and r.lane = 6
                and r.base_offset <= w."offset"
            order by r.base_offset desc
            limit 1
        )
    ) as b
    where b.last_offset >= w."offset"
),
named as materialized (
    select
        l.tenant_id, l.topic_id, l.partition, l.lane, l.base_offset, array_agg(l.number) as numbers,
        sum(min(l.size_bytes)) over (order by min(l.number), l.lane) - min(l.size_bytes) as bytes_before
    from located as l
    group by l.tenant_id, l.topic_id, l.partition, l.lane, l.base_offset
)
select
    n.numbers, b.base_offset, b.last_offset, b.lane_first, b.record_count, b.published_at, b.transaction_state, b.codec,
    b.offsets, case when n.bytes_before < :bytes_max::bigint then b.records end as records
from named as n
inner join millstream.record_batches as b
    on
        b.tenant_id = n.tenant_id and b.topic_id = n.topic_id and b.partition = n.partition and b.lane = n.lane
        and b.base_offset = n.base_offset;

-- name: list_cancelled_messages :many
-- Lists the offsets of a range whose messages were cancelled before they were due.
select w.number, c."offset"
from unnest(:tenant_ids::int[], :topic_ids::int[], :partitions::int[], :froms::bigint[], :untils::bigint[])
with ordinality as w (tenant_id, topic_id, partition, first, until, number)
inner join millstream.delayed_messages as c
    on
        c.tenant_id = w.tenant_id and c.topic_id = w.topic_id and c.partition = w.partition
        and c."offset" >= w.first and c."offset" < w.until
where c.cancelled_at is not null;
