-- Whoever reads or changes what a group is owed of a partition holds its row of group_partitions.

-- name: list_due_redeliveries :many
-- Lists what groups are owed now, of each lane the longest due first.
select g.number, r."offset", r.lane, r.visible_at, r.attempt, r.first_delivered_at, r.last_error
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[])
with ordinality as g (tenant_id, group_id, topic_id, partition, number)
cross join generate_series(1, 5) as l (lane)
cross join lateral (
    select o."offset", o.lane, o.visible_at, o.attempt, o.first_delivered_at, o.last_error
    from millstream.redeliveries as o
    where
        o.tenant_id = g.tenant_id and o.group_id = g.group_id and o.topic_id = g.topic_id and o.partition = g.partition
        and o.lane = l.lane and o.visible_at <= coalesce(:now::timestamptz, now())
    order by o.visible_at, o."offset"
    limit :limit::int
) as r;

-- name: list_kept_offsets :many
-- Lists the offsets of a range that groups hold leased or are owed: those that are not handed out anew on the way through it.
select g.number, r."offset" as first_offset, 1 as message_count, null::bytea as offsets, null::bytea as outcomes
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :froms::bigint[], :untils::bigint[])
with ordinality as g (tenant_id, group_id, topic_id, partition, first, until, number)
inner join millstream.redeliveries as r
    on
        r.tenant_id = g.tenant_id and r.group_id = g.group_id and r.topic_id = g.topic_id and r.partition = g.partition
        and r."offset" >= g.first and r."offset" < g.until
union all
select g.number, d.base_offset, d.message_count, d.offsets, d.outcomes
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :froms::bigint[], :untils::bigint[])
with ordinality as g (tenant_id, group_id, topic_id, partition, first, until, number)
inner join millstream.deliveries as d
    on
        d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id and d.partition = g.partition
        and d.finished_at is null and d.base_offset < g.until;

-- name: owe_messages :exec
-- Notes messages that groups are owed, or anew when they are owed what.
insert into millstream.redeliveries as r (
    tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt, delivery_id, first_delivered_at,
    last_delivered_at, last_error
)
select
    g.tenant_id, g.group_id, g.topic_id, g.partition, g."offset", g.lane, g.visible_at, g.attempt, g.delivery_id,
    g.first_delivered_at, g.last_delivered_at, g.last_error
from unnest(
    :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :offsets::bigint[], :lanes::smallint[],
    :visible_ats::timestamptz[], :attempts::smallint[], :delivery_ids::bigint[], :first_delivered_ats::timestamptz[],
    :last_delivered_ats::timestamptz[], :last_errors::text[]
) as g (
    tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt, delivery_id, first_delivered_at,
    last_delivered_at, last_error
)
on conflict (tenant_id, group_id, topic_id, partition, "offset") do update set
    visible_at = excluded.visible_at,
    attempt = excluded.attempt,
    delivery_id = excluded.delivery_id,
    last_error = coalesce(excluded.last_error, r.last_error);

-- name: remove_redeliveries :exec
-- Forgets that groups are owed messages: they are handed out, or settled.
delete from millstream.redeliveries as r
using unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :offsets::bigint[])
as g (tenant_id, group_id, topic_id, partition, "offset")
where
    r.tenant_id = g.tenant_id and r.group_id = g.group_id and r.topic_id = g.topic_id and r.partition = g.partition
    and r."offset" = g."offset";

-- name: find_given_back :many
-- Tells which messages of deliveries are owed still, so that their receipts settle them.
select r.tenant_id, r.group_id, r.topic_id, r.partition, r."offset"
from unnest(
    :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :offsets::bigint[], :delivery_ids::bigint[]
) as g (tenant_id, group_id, topic_id, partition, "offset", delivery_id)
inner join millstream.redeliveries as r
    on
        r.tenant_id = g.tenant_id and r.group_id = g.group_id and r.topic_id = g.topic_id and r.partition = g.partition
        and r."offset" = g."offset" and r.delivery_id = g.delivery_id;
