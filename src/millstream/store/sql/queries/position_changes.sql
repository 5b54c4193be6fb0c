-- Positions that members commit or anybody resets. Locks are taken in the order that deliveries.sql tells.

-- name: list_group_positions :many
-- Lists the committed offsets of a group, of one topic or of all; without any, one row tells of the group.
select
    g.generation, t.name as topic, p.partition, greatest(p.low, s.log_start) as low, p.updated_at
from millstream.consumer_groups as g
left join (
    millstream.group_partitions as p
    inner join millstream.topics as t on t.tenant_id = p.tenant_id and t.id = p.topic_id and t.deleted_at is null
    inner join millstream.partitions as s
        on s.tenant_id = p.tenant_id and s.topic_id = p.topic_id and s.partition = p.partition
)
    on
        p.tenant_id = g.tenant_id and p.group_id = g.id and p.low is not null
        and (:topic::text is null or t.name = :topic::text)
where g.tenant_id = :tenant_id::int and g.name = :group_name::text
order by t.name, p.partition;

-- name: find_committing_member :one
-- Finds a group, and a member of it, by their names.
select g.id as group_id, g.generation, m.member_id
from millstream.consumer_groups as g
left join millstream.group_members as m
    on m.tenant_id = g.tenant_id and m.group_id = g.id and m.member_id = :member_id::text
where g.tenant_id = :tenant_id::int and g.name = :group_name::text;

-- name: lock_owned_partitions :many
-- Holds those of the given partitions that a member owns.
select g.number, p.group_id, p.topic_id, p.partition
from unnest(:topics::text[], :partitions::int[]) with ordinality as g (topic, partition, number)
inner join millstream.topics as t on t.tenant_id = :tenant_id::int and t.name = g.topic and t.deleted_at is null
inner join millstream.group_partitions as p
    on
        p.tenant_id = :tenant_id::int and p.group_id = :group_id::int and p.topic_id = t.id and p.partition = g.partition
        and p.member_id = :member_id::text
order by p.topic_id, p.partition
for update of p;

-- name: commit_positions :exec
-- Sets positions of partitions that the caller holds. What is below them is forgotten, but for delayed messages that are not due
-- yet: those stay owed. What is leased or owed at or above them goes its own way, and is skipped on the way through.
with given as materialized (
    select g.topic_id, g.partition, g."position"
    from unnest(:topic_ids::int[], :partitions::int[], :positions::bigint[]) as g (topic_id, partition, "position")
),
forgotten as (
    delete from millstream.redeliveries as r
    using given as g
    where
        r.tenant_id = :tenant_id::int and r.group_id = :group_id::int and r.topic_id = g.topic_id
        and r.partition = g.partition and r."offset" < g."position"
        and not (r.attempt = 0 and r.visible_at > coalesce(:now::timestamptz, now()))
),
owed as (
    insert into millstream.redeliveries (
        tenant_id, group_id, topic_id, partition, "offset", lane, visible_at, attempt
    )
    select
        :tenant_id::int, :group_id::int, g.topic_id, g.partition, d."offset", d.priority + 1, d.deliver_at, 0
    from given as g
    inner join millstream.group_partitions as p
        on
            p.tenant_id = :tenant_id::int and p.group_id = :group_id::int and p.topic_id = g.topic_id
            and p.partition = g.partition
    inner join millstream.delayed_messages as d
        on
            d.tenant_id = :tenant_id::int and d.topic_id = g.topic_id and d.partition = g.partition
            and d."offset" >= p.lane_offsets[6] and d."offset" < g."position"
    where d.cancelled_at is null and d.deliver_at > coalesce(:now::timestamptz, now())
    on conflict (tenant_id, group_id, topic_id, partition, "offset") do nothing
),
under_way as materialized (
    select g.topic_id, g.partition, r."offset"
    from given as g
    inner join millstream.redeliveries as r
        on
            r.tenant_id = :tenant_id::int and r.group_id = :group_id::int and r.topic_id = g.topic_id
            and r.partition = g.partition and r."offset" >= g."position"
    union all
    select g.topic_id, g.partition, o."offset"
    from given as g
    inner join millstream.deliveries as d
        on
            d.tenant_id = :tenant_id::int and d.group_id = :group_id::int and d.topic_id = g.topic_id
            and d.partition = g.partition and d.finished_at is null
    cross join lateral generate_series(0, d.message_count - 1) as m (place)
    cross join lateral (select millstream.offset_at(d.base_offset, d.offsets, m.place) as "offset") as o
    where get_byte(d.outcomes, m.place) = 0 and o."offset" >= g."position"
),
kept as materialized (
    select
        g.topic_id, g.partition, g."position",
        (
            select range_agg(int8range(u."offset", u."offset", '[]'))
            from under_way as u
            where u.topic_id = g.topic_id and u.partition = g.partition
        ) as kept,
        (
            select coalesce(sum(d.leased), 0)
            from millstream.deliveries as d
            where
                d.tenant_id = :tenant_id::int and d.group_id = :group_id::int and d.topic_id = g.topic_id
                and d.partition = g.partition and d.finished_at is null
        ) + (
            select count(*)
            from millstream.redeliveries as r
            where
                r.tenant_id = :tenant_id::int and r.group_id = :group_id::int and r.topic_id = g.topic_id
                and r.partition = g.partition and r.attempt > 0 and r."offset" >= g."position"
        ) as unsettled
    from given as g
)
update millstream.group_partitions as p
set
    start_offset = least(p.start_offset, g."position"),
    low = g."position",
    lane_bases = array_fill(g."position", '{6}'),
    lane_offsets = array_fill(g."position", '{6}'),
    lane_seqs = array_fill(-1, '{6}'),
    replay_until = nullif(greatest(
        p.replay_until,
        p.lane_offsets[1], p.lane_offsets[2], p.lane_offsets[3], p.lane_offsets[4], p.lane_offsets[5], p.lane_offsets[6],
        g."position"
    ), g."position"),
    replay_kept = g.kept,
    unsettled = g.unsettled,
    updated_at = coalesce(:now::timestamptz, now())
from kept as g
where
    p.tenant_id = :tenant_id::int and p.group_id = :group_id::int and p.topic_id = g.topic_id
    and p.partition = g.partition;

-- name: find_reset_positions :many
-- Tells where a reset of partitions of a topic goes: to an offset, to a time, to their beginnings or to their ends.
select
    s.topic_id, s.partition,
    case
        when :offset::bigint is not null then :offset::bigint
        when :timestamp::timestamptz is not null
            then millstream.first_offset_since(s.tenant_id, s.topic_id, s.partition, :timestamp::timestamptz)
        when :to_end::boolean then s.next_offset
        else s.log_start
    end as "position"
from millstream.topics as t
inner join millstream.partitions as s on s.tenant_id = t.tenant_id and s.topic_id = t.id
where
    t.tenant_id = :tenant_id::int and t.name = :topic::text and t.deleted_at is null
    and (:partition::int is null or s.partition = :partition::int)
order by s.partition;

-- name: find_or_create_group :one
-- Returns a group, which exists from its first member or position on.
with made as (
    insert into millstream.consumer_groups (tenant_id, name, created_at, updated_at)
    values (
        :tenant_id::int, :group_name::text, coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    )
    on conflict (tenant_id, name) do update set updated_at = excluded.updated_at
    returning id
)
select m.id from made as m;

-- name: lock_reset_partitions :many
-- Makes what a group knows of partitions, where it knows nothing yet, and holds it.
insert into millstream.group_partitions as p (
    tenant_id, group_id, topic_id, partition, start_offset, lane_bases, lane_offsets, lane_seqs, updated_at
)
select
    :tenant_id::int, :group_id::int, g.topic_id, g.partition, g."position", array_fill(g."position", '{6}'),
    array_fill(g."position", '{6}'), array_fill(-1, '{6}'), coalesce(:now::timestamptz, now())
from unnest(:topic_ids::int[], :partitions::int[], :positions::bigint[]) as g (topic_id, partition, "position")
order by g.topic_id, g.partition
on conflict (tenant_id, group_id, topic_id, partition) do update set updated_at = excluded.updated_at
returning p.topic_id, p.partition;

-- name: reset_positions :exec
-- Sets positions of partitions that the caller holds, and forgets all that the group is owed there.
with given as materialized (
    select g.topic_id, g.partition, g."position"
    from unnest(:topic_ids::int[], :partitions::int[], :positions::bigint[]) as g (topic_id, partition, "position")
),
forgotten as (
    delete from millstream.redeliveries as r
    using given as g
    where
        r.tenant_id = :tenant_id::int and r.group_id = :group_id::int and r.topic_id = g.topic_id
        and r.partition = g.partition
)
update millstream.group_partitions as p
set
    start_offset = g."position",
    low = g."position",
    lane_bases = array_fill(g."position", '{6}'),
    lane_offsets = array_fill(g."position", '{6}'),
    lane_seqs = array_fill(-1, '{6}'),
    replay_until = null,
    replay_kept = null,
    unsettled = 0,
    updated_at = coalesce(:now::timestamptz, now())
from given as g
where
    p.tenant_id = :tenant_id::int and p.group_id = :group_id::int and p.topic_id = g.topic_id
    and p.partition = g.partition;
