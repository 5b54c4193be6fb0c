-- Locks are taken in this order: group, its members, its partitions, deliveries and redeliveries by id, partitions of the log.

-- name: give_back_deliveries :many
-- Ends the leases of members that left: what they held is owed at once, as often as it was delivered. The caller holds the
-- group's partitions.
with held as materialized (
    select
        d.group_id, d.topic_id, d.partition, d.id, d.lane, d.base_offset, d.message_count, d.offsets, d.outcomes, d.leased,
        d.attempt, d.first_delivered_at, d.delivered_at, d.last_error
    from millstream.deliveries as d
    where
        d.tenant_id = :tenant_id::int
        and d.group_id = :group_id::int
        and d.member_id = any(:member_ids::text[])
        and d.finished_at is null
    order by d.topic_id, d.partition, d.id
    for update
),
owed as (
    insert into millstream.redeliveries (
        tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt, delivery_id, first_delivered_at,
        last_delivered_at, last_error
    )
    select
        :tenant_id::int, h.group_id, h.topic_id, h.partition, millstream.offset_at(h.base_offset, h.offsets, m.place), h.lane,
        coalesce(:now::timestamptz, now()), h.attempt, h.id, h.first_delivered_at, h.delivered_at, h.last_error
    from held as h
    cross join lateral generate_series(0, h.message_count - 1) as m (place)
    where get_byte(h.outcomes, m.place) = 0
),
ended as (
    update millstream.deliveries as d
    set
        outcomes = millstream.with_leases_ended(d.outcomes, 4),
        leased = 0,
        lowest_leased = null,
        finished_at = coalesce(:now::timestamptz, now())
    from held as h
    where
        d.tenant_id = :tenant_id::int and d.group_id = h.group_id and d.topic_id = h.topic_id and d.partition = h.partition
        and d.id = h.id
)
update millstream.group_partitions as p
set in_flight = p.in_flight - e.leased
from (
    select h.group_id, h.topic_id, h.partition, sum(h.leased)::int as leased
    from held as h
    group by h.group_id, h.topic_id, h.partition
) as e
where p.tenant_id = :tenant_id::int and p.group_id = e.group_id and p.topic_id = e.topic_id and p.partition = e.partition
returning p.topic_id, p.partition, e.leased;
