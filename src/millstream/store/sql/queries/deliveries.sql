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
select h.group_id, h.topic_id, h.partition, h.leased
from held as h;

-- name: hand_out :many
-- Leases messages to members, each row so many of one lane of a partition; counts them, and how long they had waited, and moves
-- the positions past them.
with made as (
    insert into millstream.deliveries (
        tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset, message_count, offsets, outcomes,
        leased, lowest_leased, attempt, first_delivered_at, delivered_at, deadline, last_error
    )
    select
        g.tenant_id, g.group_id, g.topic_id, g.partition, g.lane, g.member_id, g.secret, g.base_offset, g.message_count,
        g.offsets, g.outcomes, g.message_count, g.base_offset, g.attempt,
        coalesce(g.first_delivered_at, coalesce(:now::timestamptz, now())), coalesce(:now::timestamptz, now()), :deadline::timestamptz,
        g.last_error
    from unnest(
        :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :lanes::smallint[], :member_ids::text[],
        :secrets::bigint[], :base_offsets::bigint[], :message_counts::int[], :offsets::bytea[], :outcomes::bytea[],
        :attempts::smallint[], :first_delivered_ats::timestamptz[], :last_errors::text[]
    ) as g (
        tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset, message_count, offsets, outcomes,
        attempt, first_delivered_at, last_error
    )
    returning id, secret
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select c.tenant_id, c.kind, c.subject, (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, c.amount
    from unnest(:counted_tenant_ids::int[], :kinds::smallint[], :subjects::text[], :amounts::bigint[])
    as c (tenant_id, kind, subject, amount)
),
moved as (
    update millstream.group_partitions as p
    set
        lane_bases = g.lane_bases::bigint[],
        lane_offsets = g.lane_offsets::bigint[],
        lane_seqs = g.lane_seqs::bigint[],
        replay_until = g.replay_until,
        replay_kept = case when g.replay_until is not null then p.replay_kept end,
        unsettled = p.unsettled + g.handed_out,
        starved_turn = g.starved_turn,
        updated_at = case when g.handed_out > 0 then coalesce(:now::timestamptz, now()) else p.updated_at end
    from unnest(
        :moved_tenant_ids::int[], :moved_group_ids::int[], :moved_topic_ids::int[], :moved_partitions::int[],
        :lane_bases::text[], :lane_offsets::text[], :lane_seqs::text[], :replay_untils::bigint[], :handed_out::int[],
        :starved_turns::smallint[]
    ) as g (
        tenant_id, group_id, topic_id, partition, lane_bases, lane_offsets, lane_seqs, replay_until, handed_out,
        starved_turn
    )
    where p.tenant_id = g.tenant_id and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition
)
select m.id, m.secret from made as m;

-- name: lock_deliveries :many
-- Holds deliveries, and before them the partitions that they are of.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
given as materialized (
    select g.tenant_id, g.group_id, g.topic_id, g.partition, g.id
    from batch
    cross join unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :ids::bigint[])
    as g (tenant_id, group_id, topic_id, partition, id)
),
held as materialized (
    select p.tenant_id, p.group_id, p.topic_id, p.partition
    from (select distinct g.tenant_id, g.group_id, g.topic_id, g.partition from given as g) as g
    inner join millstream.group_partitions as p
        on p.tenant_id = g.tenant_id and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition
    order by p.tenant_id, p.group_id, p.topic_id, p.partition
    for update of p
)
select
    d.tenant_id, d.group_id, d.topic_id, d.partition, d.id, c.name as group_name, t.name as topic,
    t.partitions, d.lane, d.member_id, d.secret, d.base_offset,
    d.message_count, d.offsets, d.outcomes, d.attempt, d.first_delivered_at, d.delivered_at, d.deadline, d.deadlines,
    d.last_error, d.results::text as results, coalesce(:now::timestamptz, now()) as looked_at
from given as g
inner join held as h
    on h.tenant_id = g.tenant_id and h.group_id = g.group_id and h.topic_id = g.topic_id and h.partition = g.partition
inner join millstream.topics as t on t.tenant_id = g.tenant_id and t.id = g.topic_id and t.deleted_at is null
inner join millstream.consumer_groups as c on c.tenant_id = g.tenant_id and c.id = g.group_id
inner join millstream.deliveries as d
    on
        d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id and d.partition = g.partition
        and d.id = g.id
order by d.tenant_id, d.group_id, d.topic_id, d.partition, d.id
for update of d;

-- name: record_outcomes :exec
-- Notes what became of messages of deliveries, and counts it. Each change begins anew the time that a delivery is kept for calls
-- that come twice.
with counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select c.tenant_id, c.kind, c.subject, (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, c.amount
    from unnest(:counted_tenant_ids::int[], :kinds::smallint[], :subjects::text[], :amounts::bigint[])
    as c (tenant_id, kind, subject, amount)
)
update millstream.deliveries as d
set
    outcomes = g.outcomes,
    leased = g.leased,
    lowest_leased = g.lowest_leased,
    deadline = coalesce(g.deadline, d.deadline),
    deadlines = coalesce(g.deadlines::timestamptz[], d.deadlines),
    results = coalesce(g.results::jsonb, d.results),
    finished_at = case when g.leased = 0 then coalesce(:now::timestamptz, now()) end
from unnest(
    :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :ids::bigint[], :outcomes::bytea[],
    :leased::int[], :lowest_leased::bigint[], :deadlines::timestamptz[], :own_deadlines::text[], :results::text[]
) as g (
    tenant_id, group_id, topic_id, partition, id, outcomes, leased, lowest_leased, deadline, deadlines, results
)
where
    d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id and d.partition = g.partition
    and d.id = g.id;

-- name: find_ended_partitions :many
-- Tells in which partitions leases have run out, the longest ended first.
select distinct e.tenant_id, e.group_id, e.topic_id, e.partition
from (
    select d.tenant_id, d.group_id, d.topic_id, d.partition
    from millstream.deliveries as d
    where d.finished_at is null and d.deadline <= coalesce(:now::timestamptz, now())
    order by d.deadline
    limit :limit::int
) as e;

-- name: lock_ended_deliveries :many
-- Holds deliveries with leases that have run out, or run out by `until`, in partitions which the caller holds.
select
    d.tenant_id, d.group_id, d.topic_id, d.partition, d.id, c.name as group_name, t.name as topic,
    t.partitions, d.lane, d.member_id, d.secret, d.base_offset,
    d.message_count, d.offsets, d.outcomes, d.attempt, d.first_delivered_at, d.delivered_at, d.deadline, d.deadlines,
    d.last_error, d.results::text as results, coalesce(:now::timestamptz, now()) as looked_at
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[])
as g (tenant_id, group_id, topic_id, partition)
inner join millstream.topics as t on t.tenant_id = g.tenant_id and t.id = g.topic_id and t.deleted_at is null
inner join millstream.consumer_groups as c on c.tenant_id = g.tenant_id and c.id = g.group_id
inner join millstream.deliveries as d
    on
        d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id and d.partition = g.partition
        and d.finished_at is null and d.deadline <= coalesce(:until::timestamptz, coalesce(:now::timestamptz, now()))
where d.attempt < :attempts_below::int
order by d.tenant_id, d.group_id, d.topic_id, d.partition, d.id
limit :limit::int
for update of d;

-- name: next_deadline :one
-- Tells in how many seconds the next lease runs out.
select extract(epoch from d.deadline - coalesce(:now::timestamptz, now()))::float8 as in_seconds
from millstream.deliveries as d
where d.finished_at is null
order by d.deadline
limit 1;

-- name: find_polled_deliveries :many
-- Finds deliveries of members whose secrets lie in a range: those of one batch of polls.
select d.tenant_id, d.group_id, d.topic_id, d.partition, d.id
from unnest(:tenant_ids::int[], :groups::text[], :member_ids::text[]) as a (tenant_id, name, member_id)
inner join millstream.consumer_groups as g on g.tenant_id = a.tenant_id and g.name = a.name
inner join millstream.deliveries as d
    on d.tenant_id = a.tenant_id and d.group_id = g.id and d.member_id = a.member_id and d.finished_at is null
where d.secret between :first_secret::bigint and :last_secret::bigint;

-- name: remove_deliveries :exec
-- Removes deliveries whose poll was never answered.
delete from millstream.deliveries as d
using unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :ids::bigint[])
as g (tenant_id, group_id, topic_id, partition, id)
where
    d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id and d.partition = g.partition
    and d.id = g.id;

-- name: prune_deliveries :one
-- Removes deliveries that were finished long ago, but for those whose receipts still settle what is owed; tells how many.
with old as materialized (
    select d.tenant_id, d.group_id, d.topic_id, d.partition, d.id
    from millstream.deliveries as d
    where
        d.finished_at is not null
        and d.finished_at <= coalesce(:now::timestamptz, now()) - :kept_seconds::float8 * interval '1 second'
        and (
            position('\x04'::bytea in d.outcomes) = 0
            or not exists (
                select from millstream.redeliveries as r
                where
                    r.tenant_id = d.tenant_id and r.group_id = d.group_id and r.topic_id = d.topic_id
                    and r.partition = d.partition and r.delivery_id = d.id and r."offset" >= d.base_offset
                    and r."offset" <= millstream.offset_at(d.base_offset, d.offsets, d.message_count - 1)
            )
        )
    order by d.finished_at
    limit :limit::int
    for update skip locked
),
removed as (
    delete from millstream.deliveries as d
    using old as o
    where
        d.tenant_id = o.tenant_id and d.group_id = o.group_id and d.topic_id = o.topic_id and d.partition = o.partition
        and d.id = o.id
    returning d.id
)
select count(*) as removed from removed;
