-- Locks are taken in this order: the topic, then its groups (as consumer_groups.sql tells), then its partitions.

-- name: create_topic :one
-- Creates a topic and its empty partitions; no row comes back when the name is taken.
with created as (
    insert into millstream.topics (tenant_id, name, partitions, retention_hours, created_at)
    values (
        :tenant_id::int, :name::text, :partitions::int, :retention_hours::int, coalesce(:now::timestamptz, now())
    )
    on conflict (tenant_id, name) where deleted_at is null do nothing
    returning tenant_id, id, name, partitions, retention_hours, created_at
),
filled as (
    insert into millstream.partitions (tenant_id, topic_id, partition)
    select c.tenant_id, c.id, n.number
    from created as c
    cross join generate_series(0, :partitions::int - 1) as n (number)
)
select c.tenant_id, c.id, c.name, c.partitions, c.retention_hours, c.created_at
from created as c;

-- name: find_topic :one
-- Finds a topic by its name.
select t.tenant_id, t.id, t.name, t.partitions, t.retention_hours, t.created_at
from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.name = :name::text and t.deleted_at is null;

-- name: list_topic_names :many
-- Lists the names of a tenant's topics, in their order, without internal ones.
select t.name
from millstream.topics as t
where t.tenant_id = :tenant_id::int and t.deleted_at is null and not starts_with(t.name, '__')
order by t.name collate "C";

-- name: list_partitions :many
-- Reads how far each partition of a topic reaches.
select p.partition, p.log_start, p.next_offset, p.size_bytes
from millstream.partitions as p
where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int
order by p.partition;

-- name: mark_topic_deleted :one
-- Marks a topic as deleted, which frees its name; no row comes back when it was already.
update millstream.topics as t
set deleted_at = coalesce(:now::timestamptz, now())
where t.tenant_id = :tenant_id::int and t.id = :topic_id::int and t.deleted_at is null
returning t.id;

-- name: delete_partitions :exec
-- Removes what publishes and groups know of a topic's partitions.
with positions as materialized (
    select p.tenant_id, p.group_id, p.topic_id, p.partition
    from millstream.group_partitions as p
    where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int
    order by p.group_id, p.partition
    for update
),
forgotten as (
    delete from millstream.group_partitions as p
    using positions as h
    where
        p.tenant_id = h.tenant_id and p.group_id = h.group_id and p.topic_id = h.topic_id and p.partition = h.partition
),
held as materialized (
    select p.tenant_id, p.topic_id, p.partition
    from millstream.partitions as p
    where (select count(*) from positions) >= 0 and p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int
    order by p.partition
    for update
)
delete from millstream.partitions as p
using held as h
where p.tenant_id = h.tenant_id and p.topic_id = h.topic_id and p.partition = h.partition;

-- name: add_partitions :one
-- Raises how many partitions a topic has, unless it has that many; tells how many it had.
with held as materialized (
    select t.tenant_id, t.id, t.partitions
    from millstream.topics as t
    where t.tenant_id = :tenant_id::int and t.id = :topic_id::int and t.deleted_at is null
    for update
),
raised as (
    update millstream.topics as t
    set partitions = :partitions::int
    from held as h
    where t.tenant_id = h.tenant_id and t.id = h.id and h.partitions < :partitions::int
    returning t.tenant_id, t.id
),
filled as (
    insert into millstream.partitions (tenant_id, topic_id, partition)
    select r.tenant_id, r.id, n.number
    from raised as r
    inner join held as h on h.tenant_id = r.tenant_id and h.id = r.id
    cross join generate_series(h.partitions, :partitions::int - 1) as n (number)
)
select h.partitions from held as h;
