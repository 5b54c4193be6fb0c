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
-- Lists the ranges of offsets that groups do not hand out anew on their way through what they have read before.
select g.number, lower(k.kept) as first_offset, upper(k.kept) as end_offset
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[])
with ordinality as g (tenant_id, group_id, topic_id, partition, number)
inner join millstream.group_partitions as p
    on p.tenant_id = g.tenant_id and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition
cross join lateral unnest(p.replay_kept) as k (kept);

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
-- Tells which messages of deliveries are owed still.
select r.tenant_id, r.group_id, r.topic_id, r.partition, r."offset"
from unnest(
    :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :offsets::bigint[], :delivery_ids::bigint[]
) as g (tenant_id, group_id, topic_id, partition, "offset", delivery_id)
inner join millstream.redeliveries as r
    on
        r.tenant_id = g.tenant_id and r.group_id = g.group_id and r.topic_id = g.topic_id and r.partition = g.partition
        and r."offset" = g."offset" and r.delivery_id = g.delivery_id;
