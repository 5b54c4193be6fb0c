-- Locks are taken in this order: topics (shared, by those who subscribe), groups by id, their members, their partitions,
-- deliveries. Whoever changes a topic's row and then tells the groups of it follows it as well.

-- name: hold_topics :many
-- Reads topics by their names and keeps them as they are until the transaction ends.
select t.id, t.name, t.partitions
from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.name = any(:names::text[]) and t.deleted_at is null
order by t.id
for share;

-- name: create_group :exec
-- Makes a group unless there is one of that name.
insert into millstream.consumer_groups (tenant_id, name, created_at, updated_at)
values (:tenant_id::int, :name::text, coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now()))
on conflict on constraint consumer_groups_name_unique do nothing;

-- name: lock_group :one
-- Holds a group until the transaction ends, and reads it and what the time is since then.
with locked as materialized (
    select
        g.id, g.name, g.protocol, g.generation, g.gathering_until, g.revoking_until, g.rebalance, g.statistics
    from millstream.consumer_groups as g
    where g.tenant_id = :tenant_id::int and g.name = :name::text
    for update
)
select
    l.id, l.name, l.protocol, l.generation, l.gathering_until, l.revoking_until, l.rebalance::text as rebalance,
    l.statistics::text as statistics, coalesce(:now::timestamptz, clock_timestamp()) as at
from locked as l;

-- name: lock_groups_of_topic :many
-- Holds the groups that subscribe to a topic or have positions in it until the transaction ends, and reads them.
with concerned as materialized (
    select m.group_id
    from millstream.group_members as m
    where m.tenant_id = :tenant_id::int and :topic_id::int = any(m.topic_ids)
    union
    select p.group_id
    from millstream.group_partitions as p
    where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int
),
locked as materialized (
    select g.id, g.name, g.protocol, g.generation, g.gathering_until, g.revoking_until, g.rebalance, g.statistics
    from millstream.consumer_groups as g
    where g.tenant_id = :tenant_id::int and g.id in (select c.group_id from concerned as c)
    order by g.id
    for update
)
select
    l.id, l.name, l.protocol, l.generation, l.gathering_until, l.revoking_until, l.rebalance::text as rebalance,
    l.statistics::text as statistics, coalesce(:now::timestamptz, clock_timestamp()) as at
from locked as l
order by l.id;

-- name: save_groups :exec
-- Writes what was decided about groups that the caller holds.
update millstream.consumer_groups as g
set
    protocol = s.protocol,
    generation = s.generation,
    gathering_until = s.gathering_until,
    revoking_until = s.revoking_until,
    rebalance = s.rebalance::jsonb,
    statistics = s.statistics::jsonb,
    updated_at = :at::timestamptz
from unnest(
    :ids::int[], :protocols::smallint[], :generations::int[], :gathering_untils::timestamptz[],
    :revoking_untils::timestamptz[], :rebalances::text[], :statistics::text[]
) as s (id, protocol, generation, gathering_until, revoking_until, rebalance, statistics)
where g.tenant_id = :tenant_id::int and g.id = s.id;

-- name: list_group_names :many
-- Reads the names of groups, sorted.
select g.name
from millstream.consumer_groups as g
where g.tenant_id = :tenant_id::int
order by g.name collate "C"
limit :limit::int;

-- name: list_group_summaries :many
-- Reads groups with the number of their members and the topics these subscribe to, sorted by name.
select
    g.name, g.generation, g.gathering_until is not null or coalesce(g.rebalance ->> 'state' like 'pending%', false) as rebalancing,
    coalesce(m.members, 0) as members, coalesce(m.topics, '{}') as topics
from millstream.consumer_groups as g
left join lateral (
    select
        count(distinct s.member_id) as members,
        array_agg(distinct t.name) filter (where t.name is not null) as topics
    from millstream.group_members as s
    left join millstream.topics as t on s.tenant_id = t.tenant_id and t.id = any(s.topic_ids) and t.deleted_at is null
    where s.tenant_id = g.tenant_id and s.group_id = g.id
) as m on true
where g.tenant_id = :tenant_id::int
order by g.name collate "C"
limit :limit::int;

-- name: list_group_statistics :many
-- Reads what rebalances groups had, of one group or of all.
select g.statistics::text as statistics
from millstream.consumer_groups as g
where g.tenant_id = :tenant_id::int and (:name::text is null or g.name = :name::text);

-- name: read_group :many
-- Reads a group, a row for each of its members in the order in which they joined, one without a member if it has none.
select
    g.id, g.name, g.protocol, g.generation, g.created_at,
    g.gathering_until, g.gathering_until - coalesce(:now::timestamptz, now()) as gathers_for,
    g.rebalance::text as rebalance, g.statistics::text as statistics,
    m.member_id, m.client_id, m.session_timeout_ms, m.joined_at, m.seen_at,
    array(
        select t.name
        from millstream.topics as t
        where t.tenant_id = g.tenant_id and t.id = any(m.topic_ids) and t.deleted_at is null
        order by array_position(m.topic_ids, t.id)
    ) as topics,
    a.topics as assigned_topics, a.partitions as assigned_partitions
from millstream.consumer_groups as g
left join millstream.group_members as m on g.tenant_id = m.tenant_id and g.id = m.group_id
left join lateral (
    select
        array_agg(t.name order by t.name collate "C", p.partition) as topics,
        array_agg(p.partition order by t.name collate "C", p.partition) as partitions
    from millstream.group_partitions as p
    inner join millstream.topics as t on p.tenant_id = t.tenant_id and p.topic_id = t.id
    where p.tenant_id = g.tenant_id and p.group_id = g.id and p.member_id = m.member_id and t.deleted_at is null
) as a on true
where g.tenant_id = :tenant_id::int and g.name = :name::text
order by m.joined_at, m.member_id collate "C";

-- name: list_groups_to_tend :many
-- Reads which groups have silent members, or something to end: gathering joins, or waiting for members to give up
-- partitions. Silence counts from `serving_since` on, or from when the longest-living other process began; within the time
-- that a dead process passes for a living one it does not count at all.
with served as materialized (
    select
        least(:serving_since::timestamptz, min(p.started_at)) as since,
        coalesce(:now::timestamptz, now()) as at
    from millstream.processes as p
    where
        p.id <> :process_id::uuid
        and p.beat_at >= coalesce(:now::timestamptz, now()) - :live_seconds::int * interval '1 second'
)
select f.tenant_id, g.name, s.since
from served as s
cross join lateral (
    select w.tenant_id, w.id as group_id
    from millstream.consumer_groups as w
    where
        (w.gathering_until is not null or w.revoking_until is not null)
        and least(w.gathering_until, w.revoking_until) <= s.at
    union
    select m.tenant_id, m.group_id
    from millstream.group_members as m
    where
        s.at >= :serving_since::timestamptz + :live_seconds::int * interval '1 second'
        and greatest(m.seen_at, s.since) + m.session_timeout_ms * interval '1 millisecond' < s.at
) as f
inner join millstream.consumer_groups as g on f.tenant_id = g.tenant_id and f.group_id = g.id
limit :limit::int;

-- name: delete_group :exec
-- Deletes a group that the caller holds with what it holds, and notes that the rest is to go.
with members as (
    delete from millstream.group_members as m
    where m.tenant_id = :tenant_id::int and m.group_id = :id::int
),
partitions as (
    delete from millstream.group_partitions as p
    where p.tenant_id = :tenant_id::int and p.group_id = :id::int
),
live as (
    delete from millstream.deliveries as d
    where d.tenant_id = :tenant_id::int and d.group_id = :id::int and d.finished_at is null
),
noted as (
    insert into millstream.removed_groups (tenant_id, group_id, removed_at)
    values (:tenant_id::int, :id::int, coalesce(:now::timestamptz, now()))
)
delete from millstream.consumer_groups as g
where g.tenant_id = :tenant_id::int and g.id = :id::int;

-- name: remove_group_rows :one
-- Removes what is left of deleted groups, up to a number of rows of each kind; tells how many rows that were.
with removed as materialized (
    select r.tenant_id, r.group_id
    from millstream.removed_groups as r
    order by r.tenant_id, r.group_id
    limit 10
    for update skip locked
),
owed as (
    delete from millstream.redeliveries as o
    using (
        select e.tenant_id, e.group_id, e.topic_id, e.partition, e."offset"
        from removed as r
        inner join millstream.redeliveries as e on r.tenant_id = e.tenant_id and r.group_id = e.group_id
        limit :limit::int
    ) as e
    where
        o.tenant_id = e.tenant_id and o.group_id = e.group_id and o.topic_id = e.topic_id and o.partition = e.partition
        and o."offset" = e."offset"
    returning o.tenant_id, o.group_id
),
delivered as (
    delete from millstream.deliveries as d
    using (
        select e.tenant_id, e.group_id, e.topic_id, e.partition, e.id
        from removed as r
        inner join millstream.deliveries as e on r.tenant_id = e.tenant_id and r.group_id = e.group_id
        limit :limit::int
    ) as e
    where
        d.tenant_id = e.tenant_id and d.group_id = e.group_id and d.topic_id = e.topic_id and d.partition = e.partition
        and d.id = e.id
    returning d.tenant_id, d.group_id
),
gone as (
    delete from millstream.removed_groups as r
    using removed as e
    where
        r.tenant_id = e.tenant_id and r.group_id = e.group_id
        and not exists (select from owed as o where o.tenant_id = e.tenant_id and o.group_id = e.group_id)
        and not exists (select from delivered as d where d.tenant_id = e.tenant_id and d.group_id = e.group_id)
        and (select count(*) from owed) < :limit::int
        and (select count(*) from delivered) < :limit::int
)
select (select count(*) from owed) + (select count(*) from delivered) as removed;
