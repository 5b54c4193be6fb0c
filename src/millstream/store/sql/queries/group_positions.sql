-- Locks are taken in the order that deliveries.sql tells.

-- name: lock_polled_partitions :many
-- Finds members by group and id, and holds the partitions that they own; one that owns none comes in a row without one.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
found as materialized (
    select
        a.number, a.tenant_id, g.id as group_id, g.generation, m.member_id, m.session_timeout_ms, m.topic_ids,
        m.changes
    from batch
    cross join unnest(:tenant_ids::int[], :groups::text[], :member_ids::text[])
    with ordinality as a (tenant_id, name, member_id, number)
    inner join millstream.consumer_groups as g on g.tenant_id = a.tenant_id and g.name = a.name
    left join millstream.group_members as m on m.tenant_id = a.tenant_id and m.group_id = g.id and m.member_id = a.member_id
),
held as materialized (
    select
        p.tenant_id, p.group_id, p.member_id, p.topic_id, p.partition, p.lane_bases, p.lane_offsets, p.lane_seqs,
        p.replay_until, p.unsettled, p.starved_turn, p.updated_at
    from found as f
    inner join millstream.group_partitions as p
        on p.tenant_id = f.tenant_id and p.group_id = f.group_id and p.member_id = f.member_id
    order by p.tenant_id, p.group_id, p.topic_id, p.partition
    for update of p
)
select
    f.number, f.group_id, f.generation, f.member_id, f.session_timeout_ms, f.topic_ids, f.changes::text as changes,
    h.topic_id, h.partition, h.lane_bases, h.lane_offsets, h.lane_seqs, h.replay_until, h.unsettled, h.starved_turn,
    h.updated_at
from found as f
left join held as h on h.tenant_id = f.tenant_id and h.group_id = f.group_id and h.member_id = f.member_id
order by f.number, h.updated_at, h.topic_id, h.partition;

-- name: look_at_partitions :many
-- Tells of partitions how far their logs reach and whether their groups are owed anything, and what their members hold.
-- A statement of its own: the snapshot of the one that locks is older than the locks that it waited for.
with held as materialized (
    select
        m.number,
        (
            select coalesce(sum(d.leased), 0)
            from millstream.deliveries as d
            where
                d.tenant_id = m.tenant_id and d.group_id = m.group_id and d.member_id = m.member_id and d.finished_at is null
        )::int as in_flight
    from unnest(:member_tenant_ids::int[], :member_group_ids::int[], :member_ids::text[])
    with ordinality as m (tenant_id, group_id, member_id, number)
)
select
    g.number, t.name as topic, s.log_start, coalesce(s.stable_offset, s.next_offset) as end_offset,
    s.stable_offset is null as is_stable, s.lane_starts, s.lane_nexts, h.in_flight,
    coalesce(:now::timestamptz, now()) as looked_at,
    exists (
        select from millstream.deliveries as d
        where
            d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id and d.partition = g.partition
            and d.finished_at is null and d.deadline <= coalesce(:now::timestamptz, now())
    ) as has_ended,
    exists (
        select from generate_series(1, 5) as l (lane)
        where exists (
            select from millstream.redeliveries as r
            where
                r.tenant_id = g.tenant_id and r.group_id = g.group_id and r.topic_id = g.topic_id
                and r.partition = g.partition and r.lane = l.lane and r.visible_at <= coalesce(:now::timestamptz, now())
        )
    ) as has_due
from unnest(
    :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :member_numbers::int[]
) with ordinality as g (tenant_id, group_id, topic_id, partition, member_number, number)
inner join millstream.topics as t on t.tenant_id = g.tenant_id and t.id = g.topic_id and t.deleted_at is null
inner join millstream.partitions as s
    on s.tenant_id = g.tenant_id and s.topic_id = g.topic_id and s.partition = g.partition
inner join held as h on h.number = g.member_number;

-- name: lock_group_partitions :many
-- Holds partitions of groups, by their keys.
select p.tenant_id, p.group_id, p.topic_id, p.partition
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[])
as g (tenant_id, group_id, topic_id, partition)
inner join millstream.group_partitions as p
    on p.tenant_id = g.tenant_id and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition
order by p.tenant_id, p.group_id, p.topic_id, p.partition
for update of p;

-- name: move_positions :exec
-- Notes how far groups have handed out what.
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
    :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :lane_bases::text[],
    :lane_offsets::text[], :lane_seqs::text[], :replay_untils::bigint[], :handed_out::int[], :starved_turns::smallint[]
) as g (
    tenant_id, group_id, topic_id, partition, lane_bases, lane_offsets, lane_seqs, replay_until, handed_out, starved_turn
)
where p.tenant_id = g.tenant_id and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition;

-- name: advance_lows :many
-- Moves the committed offsets of groups to their lowest offsets that are not settled, and tells them with what a member still
-- holds there. What is owed below them does not hold them back: delayed messages that were passed by. The caller holds the
-- group's partitions; what it changed of deliveries and redeliveries it has changed in statements before this one.
with given as materialized (
    select
        g.tenant_id, g.group_id, g.topic_id, g.partition, sum(g.settled)::int as settled
    from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :settled::int[])
    as g (tenant_id, group_id, topic_id, partition, settled)
    group by g.tenant_id, g.group_id, g.topic_id, g.partition
),
floors as materialized (
    select
        g.tenant_id, g.group_id, g.topic_id, g.partition, g.settled,
        greatest(coalesce(p.low, p.start_offset), s.log_start) as low_before,
        coalesce(s.stable_offset, s.next_offset) as end_offset,
        p.lane_bases, p.lane_offsets, p.lane_seqs, p.replay_kept, s.lane_starts, s.lane_nexts
    from given as g
    inner join millstream.group_partitions as p
        on p.tenant_id = g.tenant_id and p.group_id = g.group_id and p.topic_id = g.topic_id and p.partition = g.partition
    inner join millstream.partitions as s
        on s.tenant_id = g.tenant_id and s.topic_id = g.topic_id and s.partition = g.partition
),
found as materialized (
    select
        f.tenant_id, f.group_id, f.topic_id, f.partition, f.settled, f.low_before,
        greatest(
            f.low_before,
            least(
                f.end_offset,
                (
                    select min(d.lowest_leased)
                    from millstream.deliveries as d
                    where
                        d.tenant_id = f.tenant_id and d.group_id = f.group_id and d.topic_id = f.topic_id
                        and d.partition = f.partition and d.finished_at is null and d.lowest_leased >= f.low_before
                ),
                (
                    select r."offset"
                    from millstream.redeliveries as r
                    where
                        r.tenant_id = f.tenant_id and r.group_id = f.group_id and r.topic_id = f.topic_id
                        and r.partition = f.partition and r."offset" >= f.low_before
                        and (r.attempt > 0 or r.visible_at <= coalesce(:now::timestamptz, now()))
                    order by r."offset"
                    limit 1
                ),
                -- The next delayed message that is due and that nobody has passed yet: what is not due does not hold back.
                (
                    select min(u."offset")
                    from (
                        select millstream.offset_at(b.base_offset, b.offsets, m.place) as "offset"
                        from millstream.record_batches as b
                        cross join lateral generate_series(0, b.record_count - 1) as m (place)
                        where
                            f.lane_nexts[6] > greatest(f.lane_seqs[6], f.lane_starts[6])
                            and b.tenant_id = f.tenant_id and b.topic_id = f.topic_id and b.partition = f.partition
                            and b.lane = 6 and b.base_offset >= f.lane_bases[6]
                            and b.transaction_state is distinct from 3
                        order by b.base_offset, m.place
                        limit 1000
                    ) as u
                    where
                        u."offset" >= greatest(f.lane_offsets[6], f.low_before)
                        and not coalesce(f.replay_kept @> u."offset", false)
                        and not exists (
                            select from millstream.delayed_messages as h
                            where
                                h.tenant_id = f.tenant_id and h.topic_id = f.topic_id and h.partition = f.partition
                                and h."offset" = u."offset"
                                and (h.cancelled_at is not null or h.deliver_at > coalesce(:now::timestamptz, now()))
                        )
                ),
                -- The next message of each lane that has more, or what comes after it where that is passed by.
                (
                    select min(
                        coalesce(
                            (
                                select upper(k.kept)
                                from unnest(f.replay_kept) as k (kept)
                                where k.kept @> n."offset"
                            ),
                            n."offset"
                        )
                    )
                    from generate_series(1, 5) as l (lane)
                    cross join lateral (
                        select
                            case
                                when f.lane_seqs[l.lane] < 0 then f.lane_offsets[l.lane]
                                when f.lane_nexts[l.lane] <= greatest(f.lane_seqs[l.lane], f.lane_starts[l.lane]) then null
                                when
                                    f.lane_offsets[l.lane] > f.lane_bases[l.lane]
                                    and f.lane_seqs[l.lane] >= f.lane_starts[l.lane]
                                    then f.lane_offsets[l.lane]
                                else (
                                    select b.base_offset
                                    from millstream.record_batches as b
                                    where
                                        b.tenant_id = f.tenant_id and b.topic_id = f.topic_id
                                        and b.partition = f.partition and b.lane = l.lane
                                        and b.base_offset >= f.lane_bases[l.lane]
                                        and b.transaction_state is distinct from 3
                                    order by b.base_offset
                                    limit 1
                                )
                            end as "offset"
                    ) as n
                )
            )
        ) as low
    from floors as f
),
moved as (
    update millstream.group_partitions as p
    set low = f.low, unsettled = greatest(p.unsettled - f.settled, 0), updated_at = coalesce(:now::timestamptz, now())
    from found as f
    where p.tenant_id = f.tenant_id and p.group_id = f.group_id and p.topic_id = f.topic_id and p.partition = f.partition
)
select
    g.number, f.low_before, f.low,
    (
        select coalesce(sum(d.leased), 0)
        from millstream.deliveries as d
        where
            d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id
            and d.partition = g.partition and d.finished_at is null and d.member_id = g.member_id
    )::int as in_flight
from unnest(:tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[], :member_ids::text[])
with ordinality as g (tenant_id, group_id, topic_id, partition, member_id, number)
inner join found as f
    on f.tenant_id = g.tenant_id and f.group_id = g.group_id and f.topic_id = g.topic_id and f.partition = g.partition;

-- name: next_wakes :many
-- Tells of members, by number, in how many seconds something that they wait for is due in their partitions: a message that is
-- owed, or the end of a lease.
select
    g.number,
    extract(epoch from min(least(
        (
            select min(d.deadline)
            from millstream.deliveries as d
            where
                d.tenant_id = g.tenant_id and d.group_id = g.group_id and d.topic_id = g.topic_id
                and d.partition = g.partition and d.finished_at is null
        ),
        (
            select min(r.visible_at)
            from generate_series(1, 5) as l (lane)
            cross join lateral (
                select o.visible_at
                from millstream.redeliveries as o
                where
                    o.tenant_id = g.tenant_id and o.group_id = g.group_id and o.topic_id = g.topic_id
                    and o.partition = g.partition and o.lane = l.lane
                order by o.visible_at
                limit 1
            ) as r
        )
    )) - coalesce(:now::timestamptz, now()))::float8 as in_seconds
from unnest(:numbers::int[], :tenant_ids::int[], :group_ids::int[], :topic_ids::int[], :partitions::int[])
as g (number, tenant_id, group_id, topic_id, partition)
group by g.number;

-- name: see_members :exec
-- Notes that members were heard of, unless they were a tenth of their session's time ago.
with silent as materialized (
    select m.tenant_id, m.group_id, m.member_id
    from unnest(:tenant_ids::int[], :group_ids::int[], :member_ids::text[]) as g (tenant_id, group_id, member_id)
    inner join millstream.group_members as m
        on m.tenant_id = g.tenant_id and m.group_id = g.group_id and m.member_id = g.member_id
    where
        m.seen_at < coalesce(:now::timestamptz, now()) - m.session_timeout_ms * interval '0.1 milliseconds'
    order by m.tenant_id, m.group_id, m.member_id
    for update of m
)
update millstream.group_members as m
set seen_at = greatest(m.seen_at, coalesce(:now::timestamptz, now()))
from silent as s
where m.tenant_id = s.tenant_id and m.group_id = s.group_id and m.member_id = s.member_id;
