-- name: beat :many
-- Notes that a process lives, forgets those that are long gone, and reads the others that live.
with beaten as (
    insert into millstream.processes as p (id, started_at, beat_at, listens_to, written)
    values (
        :id::uuid,
        coalesce(:now::timestamptz, now()),
        coalesce(:now::timestamptz, now()),
        :listens_to::int[],
        :written::bigint
    )
    on conflict (id) do update set
        -- One that was not there for a while has begun anew: nobody could reach it meanwhile.
        started_at = case
            when p.beat_at < excluded.beat_at - :live_seconds::int * interval '1 second' then excluded.started_at
            else p.started_at
        end,
        beat_at = excluded.beat_at,
        listens_to = excluded.listens_to,
        written = excluded.written
),
forgotten as (
    delete from millstream.processes as p
    where
        p.id <> :id::uuid
        and p.beat_at < coalesce(:now::timestamptz, now()) - :forgotten_seconds::int * interval '1 second'
)
select p.id, p.listens_to, p.written
from millstream.processes as p
where
    p.id <> :id::uuid
    and p.beat_at >= coalesce(:now::timestamptz, now()) - :live_seconds::int * interval '1 second';

-- name: list_live_processes :many
-- Reads which other processes live.
select p.id
from millstream.processes as p
where
    p.id <> :id::uuid
    and p.beat_at >= coalesce(:now::timestamptz, now()) - :live_seconds::int * interval '1 second';

-- name: leave :exec
-- Notes that a process is gone.
delete from millstream.processes as p where p.id = :id::uuid;

-- name: write_events :exec
-- Appends events of one process for subscribers in others.
insert into millstream.event_log (tenant_id, process_id, number, at, event)
select g.tenant_id, :process_id::uuid, g.number, coalesce(:now::timestamptz, now()), g.event
from unnest(:tenant_ids::int[], :numbers::bigint[], :events::text[]) as g (tenant_id, number, event);

-- name: read_events :many
-- Reads what a process wrote for some tenants after a number, in its order.
select e.number, e.event
from unnest(:tenant_ids::int[]) as t (tenant_id)
inner join millstream.event_log as e on t.tenant_id = e.tenant_id
where e.process_id = :process_id::uuid and e.number > :after::bigint and e.number <= :last::bigint
order by e.number
limit :limit::int;

-- name: prune_events :one
-- Deletes events that everybody has had time to read; tells how many.
with old as materialized (
    select e.tenant_id, e.process_id, e.number
    from millstream.event_log as e
    where e.at < coalesce(:now::timestamptz, now()) - :kept_seconds::int * interval '1 second'
    order by e.at
    limit :limit::int
),
removed as (
    delete from millstream.event_log as e
    using old as o
    where e.tenant_id = o.tenant_id and e.process_id = o.process_id and e.number = o.number
    returning 1
)
select count(*) as pruned from removed;

-- name: send_hints :many
-- Sends messages to every session that listens on a channel.
select pg_notify(:channel::text, g.message) from unnest(:messages::text[]) as g (message);
