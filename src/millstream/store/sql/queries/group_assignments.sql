-- Who owns which partition of a group. The caller holds the group.

-- name: list_assignments :many
-- Reads who owns the partitions that groups have positions in, and who is to.
select p.group_id, p.topic_id, p.partition, p.member_id, p.target_member_id
from millstream.group_partitions as p
where p.tenant_id = :tenant_id::int and p.group_id = any(:group_ids::int[])
order by p.group_id, p.topic_id, p.partition;

-- name: count_subscribed_partitions :many
-- Reads how many partitions the topics have that members of groups subscribe to.
select t.id, t.partitions
from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.id = any(:topic_ids::int[]) and t.deleted_at is null;

-- name: list_topic_ids :many
-- Reads the ids of topics by their names.
select t.id, t.name
from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.name = any(:names::text[]) and t.deleted_at is null;

-- name: lock_assignments :many
-- Holds all partitions of groups until the transaction ends, polls and acknowledgements of them too.
select p.group_id, p.topic_id, p.partition
from millstream.group_partitions as p
where p.tenant_id = :tenant_id::int and p.group_id = any(:group_ids::int[])
order by p.group_id, p.topic_id, p.partition
for update;

-- name: change_assignments :exec
-- Writes who owns partitions, and who is to. The caller holds them.
update millstream.group_partitions as p
set member_id = g.member_id, target_member_id = g.target_member_id, updated_at = :at::timestamptz
from unnest(:group_ids::int[], :topic_ids::int[], :partitions::int[], :member_ids::text[], :target_ids::text[])
as g (group_id, topic_id, partition, member_id, target_member_id)
where
    p.tenant_id = :tenant_id::int and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition;

-- name: add_assignments :exec
-- Gives groups a position in partitions that they have none in: at what is left of the log, or at its end.
insert into millstream.group_partitions (
    tenant_id, group_id, topic_id, partition, member_id, target_member_id, start_offset, lane_bases, lane_offsets, lane_seqs,
    updated_at
)
select
    :tenant_id::int, g.group_id, g.topic_id, g.partition, g.member_id, g.target_member_id, s.start_offset,
    array_fill(s.start_offset, array[6]), array_fill(s.start_offset, array[6]),
    case when g.at_end then p.lane_nexts else p.lane_starts end, :at::timestamptz
from unnest(
    :group_ids::int[], :topic_ids::int[], :partitions::int[], :member_ids::text[], :target_ids::text[], :at_ends::boolean[]
) as g (group_id, topic_id, partition, member_id, target_member_id, at_end)
inner join millstream.partitions as p
    on p.tenant_id = :tenant_id::int and g.topic_id = p.topic_id and g.partition = p.partition
cross join lateral (select case when g.at_end then p.next_offset else p.log_start end as start_offset) as s
order by g.group_id, g.topic_id, g.partition
on conflict (tenant_id, group_id, topic_id, partition) do nothing;

-- name: forget_topic_positions :exec
-- Removes what groups know of a topic that is gone: positions, and what is leased.
with positions as (
    delete from millstream.group_partitions as p
    where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int
)
delete from millstream.deliveries as d
where
    d.tenant_id = :tenant_id::int and d.group_id = any(:group_ids::int[]) and d.topic_id = :topic_id::int
    and d.finished_at is null;

-- name: lock_topic_positions :many
-- Holds all positions in a topic until the transaction ends.
select p.group_id, p.partition
from millstream.group_partitions as p
where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int
order by p.group_id, p.partition
for update;

-- name: find_topic_state :one
-- Reads whether a topic is deleted.
select t.deleted_at is not null as deleted
from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.id = :topic_id::int;
