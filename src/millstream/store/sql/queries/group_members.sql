-- Members are changed under the lock of their group; only that one was seen is noted without it.

-- name: list_group_members :many
-- Reads the members of groups that the caller holds.
select m.group_id, m.member_id, m.topic_ids, m.starts_latest, m.session_timeout_ms, m.generation, m.changes::text as changes
from millstream.group_members as m
where m.tenant_id = :tenant_id::int and m.group_id = any(:group_ids::int[])
order by m.group_id, m.member_id collate "C";

-- name: put_member :exec
-- Adds a member, or changes one that joins anew.
insert into millstream.group_members as m (
    tenant_id, group_id, member_id, client_id, topic_ids, starts_latest, session_timeout_ms, joined_at, seen_at
)
values (
    :tenant_id::int, :group_id::int, :member_id::text, :client_id::text, :topic_ids::int[], :starts_latest::boolean,
    :session_timeout_ms::int, :at::timestamptz, :at::timestamptz
)
on conflict (tenant_id, group_id, member_id) do update set
    client_id = excluded.client_id,
    topic_ids = excluded.topic_ids,
    starts_latest = excluded.starts_latest,
    session_timeout_ms = excluded.session_timeout_ms,
    seen_at = excluded.seen_at;

-- name: save_members :exec
-- Writes what was decided about members of groups that the caller holds.
with given as (
    select *
    from unnest(:group_ids::int[], :member_ids::text[], :generations::int[], :changes::text[])
        as g (group_id, member_id, generation, changes)
),
locked as materialized (
    select m.group_id, m.member_id, g.generation, g.changes
    from given as g
    inner join millstream.group_members as m
        on m.tenant_id = :tenant_id::int and g.group_id = m.group_id and g.member_id = m.member_id
    order by m.group_id, m.member_id
    for update of m
)
update millstream.group_members as m
set generation = l.generation, changes = l.changes::jsonb
from locked as l
where m.tenant_id = :tenant_id::int and m.group_id = l.group_id and m.member_id = l.member_id;

-- name: greet_members :exec
-- Counts the silence of a group's members from now on.
with locked as materialized (
    select m.member_id
    from millstream.group_members as m
    where m.tenant_id = :tenant_id::int and m.group_id = :group_id::int
    order by m.member_id
    for update
)
update millstream.group_members as m
set seen_at = greatest(m.seen_at, :at::timestamptz)
from locked as l
where m.tenant_id = :tenant_id::int and m.group_id = :group_id::int and m.member_id = l.member_id;

-- name: touch_members :many
-- Notes that members were seen; returns the places of those that there are.
with given as (
    select *
    from unnest(:group_ids::int[], :member_ids::text[]) with ordinality as g (group_id, member_id, place)
),
locked as materialized (
    select m.group_id, m.member_id, g.place
    from given as g
    inner join millstream.group_members as m
        on m.tenant_id = :tenant_id::int and g.group_id = m.group_id and g.member_id = m.member_id
    order by m.group_id, m.member_id
    for update of m
),
touched as (
    update millstream.group_members as m
    set seen_at = greatest(m.seen_at, coalesce(:now::timestamptz, now()))
    from locked as l
    where m.tenant_id = :tenant_id::int and m.group_id = l.group_id and m.member_id = l.member_id
)
select l.place from locked as l order by l.place;

-- name: beat_member :one
-- Notes a heartbeat unless its generation lies ahead, and reads what the member is to be told.
with found as materialized (
    select
        g.id, g.protocol, g.generation, g.gathering_until, g.revoking_until, g.rebalance,
        coalesce(:now::timestamptz, now()) as at
    from millstream.consumer_groups as g
    where g.tenant_id = :tenant_id::int and g.name = :group_name::text
),
beaten as (
    update millstream.group_members as m
    set seen_at = greatest(m.seen_at, f.at)
    from found as f
    where
        m.tenant_id = :tenant_id::int and m.group_id = f.id and m.member_id = :member_id::text
        and :generation::int <= f.generation
    returning m.generation, m.changes, m.topic_ids
)
select
    f.id, f.protocol, f.generation, f.gathering_until, f.revoking_until, f.rebalance::text as rebalance, f.at,
    b.generation as confirmed, b.changes::text as changes,
    exists (
        select
        from millstream.group_members as k
        where k.tenant_id = :tenant_id::int and k.group_id = f.id and k.member_id = :member_id::text
    ) as known,
    array(
        select t.name
        from millstream.topics as t
        where t.tenant_id = :tenant_id::int and t.id = any(b.topic_ids) and t.deleted_at is null
        order by array_position(b.topic_ids, t.id)
    ) as topics,
    a.topics as assigned_topics, a.partitions as assigned_partitions, a.moving as assigned_moving
from found as f
left join beaten as b on true
left join lateral (
    select
        array_agg(t.name order by t.name collate "C", p.partition) as topics,
        array_agg(p.partition order by t.name collate "C", p.partition) as partitions,
        array_agg(p.target_member_id is not null order by t.name collate "C", p.partition) as moving
    from millstream.group_partitions as p
    inner join millstream.topics as t on p.tenant_id = t.tenant_id and p.topic_id = t.id
    where
        p.tenant_id = :tenant_id::int and p.group_id = f.id and p.member_id = :member_id::text and t.deleted_at is null
) as a on true;

-- name: remove_member :one
-- Removes a member; returns it if there was one.
delete from millstream.group_members as m
where m.tenant_id = :tenant_id::int and m.group_id = :group_id::int and m.member_id = :member_id::text
returning m.member_id;

-- name: remove_silent_members :many
-- Removes the members of a group whose sessions have run out, counted from `since` at the earliest.
with silent as materialized (
    select m.member_id
    from millstream.group_members as m
    where
        m.tenant_id = :tenant_id::int
        and m.group_id = :group_id::int
        and greatest(m.seen_at, :since::timestamptz) + m.session_timeout_ms * interval '1 millisecond' < :at::timestamptz
    order by m.member_id
    for update
)
delete from millstream.group_members as m
using silent as s
where m.tenant_id = :tenant_id::int and m.group_id = :group_id::int and m.member_id = s.member_id
returning m.member_id;
