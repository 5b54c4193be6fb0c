-- name: list_stored_batches :many
-- Reads batches of a partition with what compaction needs of them, lane by lane; some megabytes at once, or one batch.
select
    b.lane, b.base_offset, b.record_count, b.published_at, b.transaction_state, b.codec, b.offsets, b.records, b.version,
    coalesce(:now::timestamptz, now()) as at
from (
    select
        r.lane, r.base_offset, r.record_count, r.published_at, r.transaction_state, r.codec, r.offsets, r.records,
        r.xmin::text::bigint as version,
        sum(r.size_bytes) over (order by r.lane, r.base_offset) - r.size_bytes as bytes_before
    from (
        select
            n.lane, n.base_offset, n.record_count, n.published_at, n.transaction_state, n.codec, n.offsets, n.records,
            n.xmin, n.size_bytes
        from millstream.record_batches as n
        where
            n.tenant_id = :tenant_id::int
            and n.topic_id = :topic_id::int
            and n.partition = :partition::int
            and (n.lane, n.base_offset) > (:after_lane::smallint, :after_offset::bigint)
        order by n.lane, n.base_offset
        limit :limit::int
    ) as r
) as b
where b.bytes_before < :bytes_max::bigint
order by b.lane, b.base_offset;

-- name: list_held_offsets :many
-- Reads which messages of a stretch of a partition groups have leased, or are owed.
select millstream.offset_at(d.base_offset, d.offsets, m.place) as "offset"
from millstream.group_partitions as p
inner join millstream.deliveries as d
    on d.tenant_id = p.tenant_id and d.group_id = p.group_id and d.topic_id = p.topic_id and d.partition = p.partition
cross join lateral generate_series(0, d.message_count - 1) as m (place)
where
    p.tenant_id = :tenant_id::int
    and p.topic_id = :topic_id::int
    and p.partition = :partition::int
    and d.finished_at is null
    and get_byte(d.outcomes, m.place) = 0
union all
select r."offset"
from millstream.redeliveries as r
where r.tenant_id = :tenant_id::int and r.topic_id = :topic_id::int and r.partition = :partition::int;

-- name: list_hidden_offsets :many
-- Reads which messages of a partition wait to be delivered, or are cancelled.
select d."offset"
from millstream.delayed_messages as d
where
    d.tenant_id = :tenant_id::int
    and d.topic_id = :topic_id::int
    and d.partition = :partition::int
    and (d.cancelled_at is not null or d.deliver_at > coalesce(:now::timestamptz, now()));

-- name: rewrite_record_batches :one
-- Puts compacted records in the place of batches that are still as they were read; tells how many.
with given as materialized (
    select g.*
    from unnest(
        :lanes::smallint[], :base_offsets::bigint[], :versions::bigint[], :codecs::smallint[], :size_bytes::int[],
        :records::bytea[]
    ) as g (lane, base_offset, version, codec, size_bytes, records)
),
before as materialized (
    select r.lane, r.base_offset, length(r.records) as stored_bytes
    from given as g
    inner join millstream.record_batches as r
        on
            r.tenant_id = :tenant_id::int
            and r.topic_id = :topic_id::int
            and r.partition = :partition::int
            and r.lane = g.lane
            and r.base_offset = g.base_offset
    where r.xmin::text::bigint = g.version
    order by r.lane, r.base_offset
    for update of r
),
rewritten as (
    update millstream.record_batches as r
    set codec = g.codec, size_bytes = g.size_bytes, records = g.records
    from given as g
    inner join before as b on b.lane = g.lane and b.base_offset = g.base_offset
    where
        r.tenant_id = :tenant_id::int
        and r.topic_id = :topic_id::int
        and r.partition = :partition::int
        and r.lane = g.lane
        and r.base_offset = g.base_offset
    returning b.stored_bytes - length(g.records) as freed_bytes
),
freed as materialized (
    select count(*) as batches, coalesce(sum(w.freed_bytes), 0) as freed_bytes
    from rewritten as w
),
smaller as (
    update millstream.partitions as p
    set size_bytes = p.size_bytes - f.freed_bytes
    from freed as f
    where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int and p.partition = :partition::int
)
select f.batches from freed as f;
